"""The model: masks, documents, decoding with a cache, components, meshes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwm_jax.model.components import QKNorm, ScaledInit, ShortConv
from cwm_jax.model.rope import Rope, rotate
from cwm_jax.model.sharding import MeshShape, ShardingRules
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder

VOCAB = 40
CWM = ModelConfig(
    layers=4, d_model=32, q_heads=4, kv_heads=2, head_dim=8, d_ff=48, global_layers=(0, 3), local_window=5
)
TINY = ModelConfig(
    layers=2,
    d_model=32,
    q_heads=2,
    kv_heads=2,
    head_dim=16,
    d_ff=48,
    conv=ShortConv(4),
    qk_norm=QKNorm(),
    init=ScaledInit(),
)
CONFIGS = pytest.mark.parametrize("config", [CWM, TINY], ids=["cwm", "tiny"])


def noisy_params(config, seed=0):
    """Weights with no zeros left, so that every path carries a signal."""
    params = init_params(config, VOCAB, seed)
    keys = iter(jax.random.split(jax.random.key(seed), 100))
    return jax.tree.map(lambda w: w + 0.2 * jax.random.normal(next(keys), w.shape), params)


def rows(batch, length, seed=0):
    tokens = np.random.default_rng(seed).integers(0, VOCAB, (batch, length))
    positions = np.broadcast_to(np.arange(length), (batch, length))
    return jnp.asarray(tokens), jnp.asarray(positions), jnp.ones((batch, length), jnp.int32)


def test_rope_turns_by_the_difference_of_positions_only():
    rope = Rope(theta=100.0)
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 16))

    def score(i, j):
        place = lambda p: rope.angles(jnp.full((1, 1), p), 16)  # noqa: E731
        return float((rotate(q, place(i)) * rotate(k, place(j))).sum())

    assert score(7, 3) == pytest.approx(score(104, 100), abs=1e-4)
    assert abs(score(7, 3) - score(8, 3)) > 1e-3


def test_llama3_scaling_keeps_high_and_divides_low_frequencies():
    plain, scaled = Rope().frequencies(128), Rope(factor=16.0).frequencies(128)
    wavelengths = 2 * np.pi / plain
    np.testing.assert_allclose(scaled[wavelengths < 2048], plain[wavelengths < 2048])
    np.testing.assert_allclose(scaled[wavelengths > 8192], plain[wavelengths > 8192] / 16)
    between = (wavelengths > 2048) & (wavelengths < 8192)
    assert between.any() and (scaled[between] < plain[between]).all() and (scaled[between] > plain[between] / 16).all()


@CONFIGS
def test_causal_by_gradient(config):
    params, rebuild = noisy_params(config), rebuilder(config, VOCAB)
    tokens, positions, segments = rows(1, 10)

    @functools.partial(jax.jit, static_argnums=1)
    @jax.grad
    def gradient_of(embed, query):
        model = rebuild(params | {"embed": embed})
        return model(tokens, positions, segments)[0, query].sum()

    tokens = jnp.arange(10)[None]  # each token its own row of the embedding
    gradient = gradient_of(params["embed"], 6)
    reached = np.abs(gradient[:10]).sum(axis=1) > 0
    assert reached[:7].all() and not reached[7:].any()


@CONFIGS
def test_documents_of_one_row_do_not_touch(config):
    model = jax.jit(rebuilder(config, VOCAB)(noisy_params(config)).__call__)
    tokens, _, _ = rows(1, 16)
    segments = jnp.where(jnp.arange(16) < 7, 1, 2)[None]
    positions = jnp.where(jnp.arange(16) < 7, jnp.arange(16), jnp.arange(16) - 7)[None]
    other = tokens.at[0, :7].set((tokens[0, :7] + 1) % VOCAB)
    before, after = model(tokens, positions, segments), model(other, positions, segments)
    assert (before[0, 7:] == after[0, 7:]).all()
    assert (before[0, :7] != after[0, :7]).any()


def test_scan_over_groups_equals_unrolled():
    from dataclasses import replace

    cwm = replace(CWM, layers=8, global_layers=(0, 4, 7))  # the last group breaks the pattern, as in CWM
    params = noisy_params(cwm)
    tokens, positions, segments = rows(2, 12)
    unrolled = jax.jit(rebuilder(cwm, VOCAB)(params).__call__)(tokens, positions, segments)
    scanned = jax.jit(rebuilder(replace(cwm, scan_group=4), VOCAB)(params).__call__)(tokens, positions, segments)
    np.testing.assert_allclose(scanned, unrolled, atol=1e-5)


def test_convolution_at_the_start_is_the_identity():
    conv = ShortConv(4)
    x = jax.random.normal(jax.random.key(0), (1, 9, 8))
    inputs = jnp.concatenate([jnp.zeros((1, 3, 8)), x], axis=1)
    np.testing.assert_array_equal(conv(conv.init(1, 8)[0], inputs, jnp.arange(9)[None]), x)


@pytest.mark.parametrize("shape", [MeshShape(replica=2), MeshShape(fsdp=4), MeshShape(replica=2, fsdp=4)])
def test_batch_on_a_mesh_gives_the_same_logits(shape):
    params, rebuild = noisy_params(TINY), rebuilder(TINY, VOCAB)
    tokens, positions, segments = rows(8, 16)
    alone = jax.jit(rebuild(params).__call__)(tokens, positions, segments)
    mesh, rules = shape.build(), ShardingRules()
    with jax.set_mesh(mesh):
        place = jax.sharding.NamedSharding(mesh, rules.spec("batch", "sequence"))
        inputs = [jax.device_put(x, place) for x in (tokens, positions, segments)]
        replicated = jax.device_put(params, jax.sharding.NamedSharding(mesh, rules.spec()))
        spread = jax.jit(lambda p, t, q, s: rebuild(p)(t, q, s, rules))(replicated, *inputs)
    np.testing.assert_allclose(spread, alone, atol=1e-5)


def test_rules_refuse_collisions_and_meshes_too_large():
    with pytest.raises(ValueError, match="collide"):
        ShardingRules(batch=("fsdp",), sequence=("fsdp",)).spec("batch", "sequence")
    with pytest.raises(ValueError, match="16 devices, there are 8"):
        MeshShape(replica=16).build()


def test_bad_shapes_name_the_field():
    with pytest.raises(ValueError, match="kv_heads=3"):
        ModelConfig(q_heads=4, kv_heads=3)
    with pytest.raises(ValueError, match=r"global_layers names layers \[9\]"):
        ModelConfig(layers=4, global_layers=(0, 9))
