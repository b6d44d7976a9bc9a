"""Every mesh shape trains to the losses of a single device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwm_jax.checkpoints.training import Checkpoints
from cwm_jax.data.rows import Document, Row, pack
from cwm_jax.model.sharding import MeshShape
from cwm_jax.model.transformer import ModelConfig, rebuilder
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.loss import token_losses
from cwm_jax.training.optimizers import AdamW
from cwm_jax.training.state import abstract_state, init_state, optimizer_of, restored
from cwm_jax.training.step import make_step

VOCAB, LENGTH, ROWS, STEPS = 48, 64, 8, 20
# A local window of one hop at 4 shards of the sequence, of three at 8; the last layer breaks the pattern, as in CWM.
MODEL = ModelConfig(
    layers=6,
    d_model=32,
    q_heads=4,
    kv_heads=2,
    head_dim=8,
    d_ff=48,
    global_layers=(0, 2, 5),
    local_window=17,
    scan_group=2,
)
MESHES = [
    MeshShape(replica=8),
    MeshShape(fsdp=8),
    MeshShape(context=8),
    MeshShape(fsdp=2, context=4),
    MeshShape(fsdp=4, tensor=2),
    MeshShape(replica=2, fsdp=2, context=2),
    MeshShape(fsdp=2, context=2, tensor=2),
]


def batches() -> list[Row]:
    """Rows of several documents that count up, and some padding, with weights of 0 and 1."""
    rng = np.random.default_rng(0)
    rows = []
    while len(rows) < ROWS * STEPS:
        lengths = rng.integers(3, 40, 60)
        counts = [(rng.integers(VOCAB) + np.arange(n)) % VOCAB for n in lengths]
        documents = [Document(count, rng.integers(0, 2, len(count)).astype(np.float32)) for count in counts]
        rows += list(pack(documents, LENGTH, 10))[:-1]
    return [Row(*map(np.stack, zip(*rows[ROWS * i : ROWS * (i + 1)]))) for i in range(STEPS)]


@functools.cache
def losses(mesh_shape: MeshShape, global_window: int | None = None) -> list[float]:
    experiment = Experiment(model=MODEL, optimizer=AdamW(peak_lr=3e-3), mesh=mesh_shape, steps=STEPS)
    mesh = mesh_shape.build()
    with jax.set_mesh(mesh):
        state = init_state(experiment, VOCAB, mesh)
        step = make_step(
            rebuilder(MODEL, VOCAB), optimizer_of(experiment), experiment.rules, global_window=global_window
        )
        step = jax.jit(step, donate_argnums=0)
        rows = jax.sharding.NamedSharding(mesh, experiment.rules.spec("batch", "sequence"))
        found = []
        for batch in batches():
            state, metrics = step(state, jax.device_put(batch, rows))
            found.append(float(metrics["loss"]))
    return found


@pytest.mark.parametrize("mesh_shape", MESHES, ids=str)
def test_losses_are_those_of_one_device(mesh_shape):
    alone = losses(MeshShape())
    assert alone[-1] < alone[0]
    np.testing.assert_allclose(losses(mesh_shape), alone, atol=1e-5)


def test_a_narrower_global_window_is_another_loss_and_the_same_on_a_mesh():
    alone = losses(MeshShape(), 20)
    assert abs(alone[0] - losses(MeshShape())[0]) > 1e-4
    np.testing.assert_allclose(losses(MeshShape(fsdp=2, context=4), 20), alone, atol=1e-5)


@pytest.mark.parametrize("mesh_shape", [MeshShape(), MeshShape(fsdp=2, context=2, tensor=2)], ids=str)
def test_losses_by_chunks_are_those_of_all_at_once(mesh_shape, monkeypatch):
    rebuild, experiment = rebuilder(MODEL, VOCAB), Experiment(model=MODEL, mesh=mesh_shape)
    mesh = mesh_shape.build()
    with jax.set_mesh(mesh):
        params = init_state(experiment, VOCAB, mesh).params
        rules = experiment.rules
        place = lambda x, *axes: jax.device_put(x, jax.sharding.NamedSharding(mesh, rules.spec(*axes)))  # noqa: E731
        x = place(jax.random.normal(jax.random.key(0), (4, LENGTH, 32)), "batch", "sequence", None)
        targets = place(jax.random.randint(jax.random.key(1), (4, LENGTH), 0, VOCAB), "batch", "sequence")

        def total(params, x):
            losses, right = token_losses(rebuild(params), x, targets, rules)
            return (losses * jnp.cos(jnp.arange(LENGTH))).sum() if mesh_shape.devices == 1 else losses.sum(), right

        found = []
        for most in (2**27, 200):
            monkeypatch.setattr("cwm_jax.training.loss._MOST_LOGITS", most)
            found.append(jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(params, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-5), *found)


def test_weights_and_optimiser_are_cut_by_fsdp_and_context_together():
    experiment = Experiment(model=MODEL, mesh=MeshShape(fsdp=2, context=4), optimizer=AdamW())
    mesh = experiment.mesh.build()
    with jax.set_mesh(mesh):
        state = abstract_state(experiment, VOCAB, mesh)
    ends = (VOCAB, 32), (32, VOCAB)
    matrices = [leaf for leaf in jax.tree.leaves(state) if len(leaf.shape) > 2 or leaf.shape in ends]
    assert len(matrices) == 3 * 9
    for leaf in matrices:
        if leaf.shape == (VOCAB, 32):  # the embedding, by rows over fsdp alone
            assert leaf.sharding.shard_shape(leaf.shape) == (VOCAB // 2, 32)
            continue
        assert np.prod(leaf.sharding.shard_shape(leaf.shape)) * 8 == np.prod(leaf.shape)


def test_a_mesh_that_cannot_cut_the_model_is_refused():
    experiment = Experiment(model=MODEL, mesh=MeshShape(tensor=8))
    mesh = experiment.mesh.build()
    with jax.set_mesh(mesh), pytest.raises(ValueError, match="has 2 along heads, which the mesh cuts in 8"):
        abstract_state(experiment, VOCAB, mesh)


def test_a_checkpoint_of_one_mesh_is_restored_on_another_bit_for_bit(tmp_path):
    def on(mesh_shape):
        return Experiment(model=MODEL, optimizer=AdamW(peak_lr=3e-3), mesh=mesh_shape)

    def values(state):
        return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]

    first, second = on(MeshShape(fsdp=2, context=4)), on(MeshShape(replica=2, fsdp=2, tensor=2))
    mesh = first.mesh_shape.build()
    with jax.set_mesh(mesh), Checkpoints(tmp_path, 1) as checkpoints:
        saved = init_state(first, VOCAB, mesh)
        checkpoints.save(7, saved)
    mesh = second.mesh_shape.build()
    with jax.set_mesh(mesh), Checkpoints(tmp_path, 1) as checkpoints:
        step, state = restored(checkpoints, second, VOCAB, mesh)
    assert step == 7 and state.params["blocks"]["gate"].sharding.mesh == mesh
    for before, after in zip(values(saved), values(state), strict=True):
        assert before.tobytes() == after.tobytes()
