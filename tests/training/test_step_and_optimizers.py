"""The step and the optimisers: who gets what, and that documents weigh as they should."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cwm_jax.data.rows import Row
from cwm_jax.model.components import ScaledInit, ShortConv
from cwm_jax.model.sharding import MeshShape, ShardingRules
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder
from cwm_jax.training.optimizers import AdamW, Muon, muon_dimensions
from cwm_jax.training.state import TrainState
from cwm_jax.training.step import make_step

VOCAB = 32
CONFIG = ModelConfig(
    layers=2, d_model=16, q_heads=2, kv_heads=1, head_dim=8, d_ff=24, conv=ShortConv(3), init=ScaledInit()
)


def batch(rows=4, length=12, seed=0):
    rng = np.random.default_rng(seed)
    tokens = jnp.asarray(rng.integers(0, VOCAB, (rows, length)), jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(length), (rows, length))
    weights = jnp.asarray(rng.integers(0, 2, (rows, length)), jnp.float32).at[:, 0].set(0.0)
    return Row(tokens, jnp.ones((rows, length), jnp.int32), positions, weights)


def test_muon_takes_the_matrices_of_the_blocks_and_nothing_else():
    params = init_params(CONFIG, VOCAB, 0)
    dimensions = muon_dimensions(params)
    is_leaf = lambda leaf: leaf is None or isinstance(leaf, optax.contrib.MuonDimensionNumbers)  # noqa: E731
    by_muon = {
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in jax.tree_util.tree_leaves_with_path(dimensions, is_leaf=is_leaf)
        if leaf is not None
    }
    assert by_muon == {f"blocks.{name}" for name in ("wq", "wk", "wv", "wo", "gate", "up", "down")}
    by_adam = set(params["blocks"]) - {name.removeprefix("blocks.") for name in by_muon}
    assert by_adam == {"attention_norm", "mlp_norm", "conv"}


def test_muon_orthogonalises_each_layer_on_its_own():
    params = init_params(CONFIG, VOCAB, 0)
    optimizer = Muon(peak_lr=1.0).build(lambda step: 1.0)
    gradients = jax.tree.map(lambda w: jax.random.normal(jax.random.key(1), w.shape), params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    for layer in np.asarray(updates["blocks"]["gate"]):
        values = np.linalg.svd(layer, compute_uv=False)
        assert values.min() > 0.5 and values.max() < 2  # Newton-Schulz: near 1, times the shape's scale


@pytest.mark.parametrize("optimizer", [Muon(), AdamW(peak_lr=3e-3)])
def test_the_step_learns_one_batch(optimizer):
    params, rebuild, data = init_params(CONFIG, VOCAB, 0), rebuilder(CONFIG, VOCAB), batch()
    mesh, rules = MeshShape().build(), ShardingRules()
    with jax.set_mesh(mesh):
        built = optimizer.build(lambda step: 1.0)
        params = jax.device_put(params, jax.sharding.NamedSharding(mesh, rules.spec()))
        data = jax.device_put(data, jax.sharding.NamedSharding(mesh, rules.spec("batch", "sequence")))
        state = TrainState(params, built.init(params), jnp.zeros((), jnp.int32))
        step = jax.jit(make_step(rebuild, built, rules))
        losses = []
        for _ in range(60):
            state, metrics = step(state, data)
            losses.append(float(metrics["loss"]))
    assert int(state.step) == 60
    assert losses[-1] < 0.3 * losses[0]


def test_two_devices_take_the_same_steps_as_one():
    rebuild, data, built = rebuilder(CONFIG, VOCAB), batch(8), Muon().build(lambda step: 1.0)

    def losses(shape):
        mesh, rules = shape.build(), ShardingRules()
        with jax.set_mesh(mesh):
            params = jax.device_put(init_params(CONFIG, VOCAB, 0), jax.sharding.NamedSharding(mesh, rules.spec()))
            rows = jax.device_put(data, jax.sharding.NamedSharding(mesh, rules.spec("batch", "sequence")))
            state = TrainState(params, built.init(params), jnp.zeros((), jnp.int32))
            step, found = jax.jit(make_step(rebuild, built, rules)), []
            for _ in range(10):
                state, metrics = step(state, rows)
                found.append(float(metrics["loss"]))
        return found

    np.testing.assert_allclose(losses(MeshShape(replica=2)), losses(MeshShape()), atol=1e-3)


def test_loss_is_the_weighted_mean_over_predicted_tokens():
    params, rebuild, data = init_params(CONFIG, VOCAB, 0), rebuilder(CONFIG, VOCAB), batch()
    mesh, rules = MeshShape().build(), ShardingRules()
    logits = np.asarray(rebuild(params)(data.tokens, data.positions, data.segment_ids), np.float64)
    with jax.set_mesh(mesh):
        optimizer = optax.sgd(0.0)
        state = TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))
        _, metrics = make_step(rebuild, optimizer, rules)(state, data)
    total = weight = 0.0
    for row in range(4):
        for place in range(1, 12):
            scores = logits[row, place - 1]
            nll = np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[data.tokens[row, place]]
            total += float(data.loss_weights[row, place]) * nll
            weight += float(data.loss_weights[row, place])
    assert float(metrics["loss"]) == pytest.approx(total / weight, rel=1e-5)
    assert float(metrics["predicted_tokens"]) == weight
