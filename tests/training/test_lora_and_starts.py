"""Where runs start and what they train, with real folders: weights, rows, runs."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cwm_jax.checkpoints.huggingface import HuggingFaceReader
from cwm_jax.checkpoints.training import Checkpoints
from cwm_jax.checkpoints.weights import ParamsReader, WeightsIndex, WeightsReader, stacked, write_weights
from cwm_jax.data.buckets import Bucket
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.prepared import PreparedRows
from cwm_jax.data.rows import Document, pack, write_rows
from cwm_jax.data.stream import StreamConfig
from cwm_jax.model.components import NormalInit
from cwm_jax.model.sharding import MeshShape
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder
from cwm_jax.report.run import metrics_by_step
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.export import export
from cwm_jax.training.loop import train
from cwm_jax.training.optimizers import MATRICES, AdamW
from cwm_jax.training.schedules import WarmupConstantDecay
from cwm_jax.training.start import Continue, Weights
from cwm_jax.training.state import abstract_state, init_state, restored, trained_weights
from cwm_jax.training.trainable import AllWeights, LoRA

VOCAB, LENGTH = 48, 16
MODEL = ModelConfig(
    layers=2, d_model=24, q_heads=4, kv_heads=2, head_dim=8, d_ff=40, global_layers=(1,), local_window=4,
    init=NormalInit(0.3),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`rows/`: 40 rows in which every token is the one before plus 1; `weights/`: a model that has not seen them."""
    folder = tmp_path_factory.mktemp("lora")
    rows, weights = folder / "rows", folder / "weights"
    rows.mkdir()
    documents = [Document((np.arange(LENGTH) + start) % VOCAB, np.ones(LENGTH)) for start in range(40)]
    write_rows(Bucket(LENGTH, LENGTH).path(rows), pack(documents, LENGTH, 1))
    Manifest("s", "v", {LENGTH: 40}, 40, 640, 600, {}, {}, {}, 1.0, "3.11").write(rows)
    index = WeightsIndex(MODEL, VOCAB, "float32")
    write_weights(weights, index, ParamsReader(index, init_params(MODEL, VOCAB, 7)).read, lambda: None)
    return folder


def experiment(folder, **changes):
    return Experiment(
        data=PreparedRows(str(folder / "rows"), VOCAB, (LENGTH,), (LENGTH,)),
        stream=StreamConfig(tokens_per_batch=8 * LENGTH),
        model=MODEL,
        optimizer=AdamW(peak_lr=0.02),
        schedule=WarmupConstantDecay(warmup=4, decay=0.0),
        steps=40,
        checkpoint_every=20,
        **changes,
    )


def base(folder):
    return stacked(WeightsReader(folder / "weights"), lambda name, array: jnp.asarray(array))


def logits(params):
    tokens = jnp.arange(24).reshape(2, 12) % VOCAB
    positions = jnp.broadcast_to(jnp.arange(12), (2, 12))
    return np.asarray(rebuilder(MODEL, VOCAB)(params)(tokens, positions, jnp.ones_like(tokens)))


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_fresh_adapters_change_no_bit(folder, dtype):
    weights = jax.tree.map(lambda weight: weight.astype(dtype), base(folder))
    adapters, frozen = LoRA(rank=3).split(weights, dtype, seed=0)
    merged = jax.tree.map(lambda weight: weight.astype(dtype), LoRA(rank=3).merge(adapters, frozen))
    assert_same(merged, weights)
    np.testing.assert_array_equal(logits(merged), logits(weights))


def test_an_update_has_the_rank_and_the_scale_asked_for(folder):
    lora = LoRA(rank=3, alpha=12.0, targets=("wq", "wo"))
    adapters, frozen = lora.split(base(folder), jnp.float32, seed=0)
    assert adapters["blocks"].keys() == {"wq", "wo"}
    adapters = jax.tree.map(lambda x: jax.random.normal(jax.random.key(1), x.shape), adapters)
    merged = lora.merge(adapters, frozen)
    for name, width in (("wq", 24), ("wo", 32)):
        a, b = (np.asarray(adapters["blocks"][name][side][1]) for side in ("a", "b"))
        update = np.asarray(merged["blocks"][name] - frozen["blocks"][name])[1].reshape(width, -1)
        np.testing.assert_allclose(update, 4.0 * a.reshape(width, 3) @ b.reshape(3, -1), rtol=1e-4, atol=1e-4)
    assert_same(merged["blocks"]["gate"], frozen["blocks"]["gate"])


@pytest.fixture(scope="module")
def tuned(folder):
    """A run of adapters over the weights."""
    lora = experiment(folder, start=Weights(str(folder / "weights")), trainable=LoRA(rank=4))
    train(lora, folder / "tuned")
    return lora


def test_adapters_learn_and_nothing_else_changes(folder, tuned):
    losses = [line["loss"] for line in metrics_by_step(folder / "tuned" / "metrics.jsonl")]
    assert len(losses) == 40 and losses[-1] < losses[0] - 1.0
    _, merged = trained_weights(folder / "tuned", tuned, VOCAB)
    weights = base(folder)
    for name in weights["blocks"]:
        same = np.array_equal(merged["blocks"][name], weights["blocks"][name])
        assert same == (name not in MATRICES), name
    for name in ("embed", "lm_head", "final_norm"):
        np.testing.assert_array_equal(merged[name], weights[name])


def test_adapters_on_a_mesh_take_the_steps_of_one_device(folder, tuned):
    cut = dataclasses.replace(tuned, mesh=MeshShape(fsdp=2, context=2, tensor=2), steps=5)
    train(cut, folder / "cut")
    one, other = (metrics_by_step(folder / name / "metrics.jsonl")[:5] for name in ("tuned", "cut"))
    np.testing.assert_allclose([line["loss"] for line in other], [line["loss"] for line in one], atol=1e-5)


def test_a_checkpoint_holds_adapters_only_and_resumes(folder, tuned):
    mesh = tuned.mesh.build()
    with jax.set_mesh(mesh), Checkpoints(folder / "tuned" / "checkpoints", 1) as checkpoints:
        step, state = restored(checkpoints, tuned, VOCAB, mesh)
        _, saved = checkpoints.restore(abstract_state(tuned, VOCAB, mesh).saved)
    assert step == 40 and saved.frozen == {}
    assert {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(saved.params)} == {"a", "b"}
    assert_same(state.frozen, base(folder))
    assert_same(state.params, saved.params)
    shutil.copytree(folder / "tuned", folder / "again")
    shutil.rmtree(folder / "again" / "checkpoints" / "40")
    (folder / "again" / "results.json").unlink()
    train(tuned, folder / "again")
    assert_same(trained_weights(folder / "again", tuned, VOCAB), trained_weights(folder / "tuned", tuned, VOCAB))


@pytest.mark.parametrize("to, reader", [("orbax", WeightsReader), ("hf", HuggingFaceReader)])
def test_exported_weights_are_the_trained_function(folder, tuned, tmp_path, to, reader):
    export(folder / "tuned", tmp_path / "out", to, "float32")
    exported = stacked(reader(tmp_path / "out"), lambda name, array: jnp.asarray(array))
    _, merged = trained_weights(folder / "tuned", tuned, VOCAB)
    assert_same(exported, jax.tree.map(np.asarray, merged))
    assert not np.array_equal(logits(exported), logits(base(folder)))


def test_a_run_goes_on_where_another_ended(folder):
    first = dataclasses.replace(experiment(folder), steps=6)
    train(first, folder / "first")
    start = Continue(str(folder / "first"), 6, 6 * 8 * LENGTH)
    second = dataclasses.replace(first, start=start, stream=StreamConfig(tokens_per_batch=16 * LENGTH), steps=5)
    mesh = second.mesh.build()
    with jax.set_mesh(mesh):
        state = init_state(second, VOCAB, mesh)
        _, before = trained_weights(folder / "first", first, VOCAB)
    assert_same(jax.tree.map(np.asarray, state.params), jax.tree.map(np.asarray, before))
    assert set(map(int, optax.tree.get_all_with_path(state.opt_state, "count")[0][1:])) == {6}
    train(second, folder / "second")
    with jax.set_mesh(mesh), Checkpoints(folder / "second" / "checkpoints", 1) as checkpoints:
        step, state = restored(checkpoints, second, VOCAB, mesh)
    assert (step, int(state.step)) == (5, 11)


def test_a_start_that_does_not_fit_is_refused(folder):
    mesh = MeshShape().build()
    other = experiment(folder, start=Weights(str(folder / "weights")))
    with jax.set_mesh(mesh), pytest.raises(ValueError, match="d_ff 40 there, 48 here"):
        init_state(dataclasses.replace(other, model=dataclasses.replace(MODEL, d_ff=48)), VOCAB, mesh)
    with jax.set_mesh(mesh), pytest.raises(FileNotFoundError, match="holds no weights"):
        init_state(dataclasses.replace(other, start=Weights(str(folder / "rows"))), VOCAB, mesh)
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no manifest and no mixture\.json; name"):
        PreparedRows("nowhere").ready(folder)
    with pytest.raises(ValueError, match="holds rows of buckets \\[16\\]"):
        PreparedRows(str(folder / "rows")).ready(folder)
    with pytest.raises(ValueError, match="LoRA"):
        experiment(folder, start=Continue("runs/x", 1, 1), trainable=LoRA())
    with pytest.raises(ValueError, match="names \\['embed'\\]; choose among wq"):
        LoRA(targets=("embed",))


def test_all_weights_are_trained_in_float32():
    params, frozen = AllWeights().split({"w": jnp.ones(3, jnp.bfloat16)}, jnp.bfloat16, 0)
    assert params["w"].dtype == jnp.float32 and frozen == {}
