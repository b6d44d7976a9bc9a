"""Every attention path is the reference, forward and backward; the reference is the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.model.attention import CausalBlocks, Reference, Splash, masked_attention, visible


class Interpreted(Splash):
    """The Pallas kernel without a TPU."""

    interpret = True


def arrays(S, T, heads=4, groups=2, batch=2, width=8, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(S + T), 3)
    q = jax.random.normal(keys[0], (batch, S, heads, width), dtype)
    k, v = (jax.random.normal(key, (batch, T, groups, width), dtype) for key in keys[1:])
    return q, k, v


def documents(batch, S, T, cuts):
    """Segment ids of T keys cut at `cuts`, and of the S queries at their end."""
    keys = jnp.asarray(np.searchsorted(np.sort(cuts), np.arange(T), side="right") + 1, jnp.int32)
    keys = jnp.broadcast_to(keys, (batch, T))
    return keys[:, T - S :], keys


def forward_and_backward(path, q, k, v, *rest):
    """The result, and the gradients of a sum of it with uneven weights."""

    @jax.jit
    def both(q, k, v):
        mixed, pull = jax.vjp(lambda *qkv: path(*qkv, *rest), q, k, v)
        return mixed, pull(jnp.cos(jnp.arange(q.size, dtype=jnp.float32)).reshape(q.shape))

    return both(q, k, v)


def assert_same(path, q, k, v, *rest, atol):
    ours, theirs = (forward_and_backward(one, q, k, v, *rest) for one in (path, Reference()))
    np.testing.assert_allclose(ours[0], theirs[0], atol=atol, rtol=1e-4)
    for mine, expected in zip(ours[1], theirs[1]):
        np.testing.assert_allclose(mine, expected, atol=10 * atol, rtol=1e-3)


@given(
    length=st.integers(1, 12),
    window=st.one_of(st.none(), st.integers(1, 6)),
    cut=st.integers(0, 12),
)
@settings(deadline=None, max_examples=40)
def test_visible_is_the_definition_spelled_out(length, window, cut):
    segments = np.where(np.arange(length) < cut, 1, 2)[None]
    positions = np.concatenate([np.arange(min(cut, length)), np.arange(max(0, length - cut))])[None]
    mask = visible(positions, positions, segments, segments, window)
    for query in range(length):
        for key in range(length):
            back = positions[0, query] - positions[0, key]
            same = segments[0, query] == segments[0, key]
            assert mask[0, query, key] == (same and back >= 0 and (window is None or back <= window - 1))


def test_the_reference_against_numpy():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(1, 5, 4, 8)), rng.normal(size=(1, 5, 2, 8)), rng.normal(size=(1, 5, 2, 8))
    mask = np.tril(np.ones((5, 5), bool))
    expected = np.zeros((1, 5, 4, 8))
    for head in range(4):
        scores = q[0, :, head] @ k[0, :, head // 2].T / np.sqrt(8)
        weights = np.where(mask, np.exp(scores), 0)
        expected[0, :, head] = weights / weights.sum(-1, keepdims=True) @ v[0, :, head // 2]
    got = masked_attention(
        jnp.asarray(q, jnp.float32), jnp.asarray(k, jnp.float32), jnp.asarray(v, jnp.float32), jnp.asarray(mask[None])
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 7])
@pytest.mark.parametrize("S, T", [(1, 1), (16, 16), (17, 17), (12, 40), (40, 40)])
def test_blocks_equal_the_reference(S, T, window):
    rest = (*documents(2, S, T, [T // 3, T // 2]), window, T - S)
    assert_same(CausalBlocks(4), *arrays(S, T), *rest, atol=2e-6)


@pytest.mark.parametrize("window", [None, 100, 128, 129])
@pytest.mark.parametrize("S, T", [(256, 256), (128, 384)])
def test_splash_equals_the_reference(S, T, window):
    """Its window is inclusive on both sides; ours counts the token itself."""
    rest = (*documents(1, S, T, [100, 200]), window, T - S)
    assert_same(Interpreted(), *arrays(S, T, batch=1, width=128), *rest, atol=2e-5)


@pytest.mark.parametrize("path", [CausalBlocks(4), Interpreted()], ids=["blocks", "splash"])
@pytest.mark.parametrize("shard", [0, 2])
@pytest.mark.parametrize("window", [None, 150])
def test_a_shard_that_is_known_only_at_run_time(path, shard, window):
    S, T = 128, 384
    q, k, v = arrays(S, T, batch=1, width=128)
    _, segments = documents(1, T, T, [100, 200])
    here = segments[:, shard * S : (shard + 1) * S]
    first = jnp.int32(shard * S)
    assert_same(path, q, k, v, here, segments, window, first, atol=2e-5)


@pytest.mark.parametrize("path", [Reference(), CausalBlocks(4), Interpreted()], ids=["reference", "blocks", "splash"])
def test_window_oracle(path):
    """A value is copied to exactly those that see it: itself and the window - 1 after it, in its own document."""
    S, window, at, cut = 128, 9, 40, 45
    q, k, v = jnp.zeros((1, S, 1, 128)), jnp.zeros((1, S, 1, 128)), jnp.zeros((1, S, 1, 128)).at[0, at].set(1.0)
    for cuts, last in (([], at + window - 1), ([cut], cut - 1)):
        mixed = jax.jit(path, static_argnums=(5, 6))(q, k, v, *documents(1, S, S, cuts), window, 0)
        assert np.flatnonzero(np.asarray(mixed[0, :, 0, 0])).tolist() == list(range(at, last + 1))


@pytest.mark.parametrize("path", [Reference(), CausalBlocks(16), Interpreted()], ids=["reference", "blocks", "splash"])
def test_other_documents_change_no_bit(path):
    S = 128
    q, k, v = arrays(S, S, batch=1, width=128)
    rest = (*documents(1, S, S, [50]), 30, 0)
    run = jax.jit(path, static_argnums=(5, 6))
    before = np.asarray(run(q, k, v, *rest))
    q, k, v = (x.at[:, :50].add(3.0) for x in (q, k, v))
    after = np.asarray(run(q, k, v, *rest))
    assert (before[:, 50:] == after[:, 50:]).all() and (before[:, :50] != after[:, :50]).any()


def test_splash_refuses_what_its_blocks_cannot_hold():
    with pytest.raises(ValueError, match="multiple of 128 tokens, not 100 and 100"):
        Interpreted()(*arrays(100, 100), *documents(2, 100, 100, []), None, 0)
