"""Pages against plain attention, and what a cache takes."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax import config
from cwm_jax.inference.cache import Layout, attend_pages, by_page, by_row, empty_cache
from cwm_jax.model.attention import masked_attention, visible
from cwm_jax.model.sharding import ShardingRules
from cwm_jax.model.transformer import ModelConfig

B, S, H, G, K, T, LENGTH = 3, 4, 4, 2, 8, 4, 32
PATHS = {
    (spread, window): jax.jit(functools.partial(attend_pages, spread, window=window))
    for spread in (by_page, by_row)
    for window in (None, 1, 6)
}


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, LENGTH - S), min_size=B, max_size=B), st.lists(st.integers(0, S), min_size=B, max_size=B)
)
@pytest.mark.parametrize("window", [None, 1, 6])
def test_pages_are_the_keys_in_order(window, starts, counts):
    """Rows at different places, some with less than S tokens or none; tables as narrow as the window allows."""
    rng = np.random.default_rng(0)
    width = (
        LENGTH // T
        if window is None
        else Layout.of(ModelConfig(layers=1, global_layers=(), local_window=window), T, B, LENGTH, S, None, 0)
        .groups[0]
        .width
    )
    q, k, v = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((B, S, H, K), *[(B, LENGTH, G, K)] * 2))
    pool = np.full((B * width + 1, 2, G, T, K), 9.0, np.float32)  # what is in no window is rubbish
    table = rng.permutation(B * width + 1)[: B * width].reshape(B, width).astype(np.int32)
    starts, ends = np.array(starts, np.int32), np.array(starts, np.int32) + np.array(counts, np.int32)
    for row, end in enumerate(ends):
        for position in range(end):  # later pages take the place of earlier ones
            page = table[row, position // T % width]
            pool[page, 0, :, position % T], pool[page, 1, :, position % T] = k[row, position], v[row, position]
    positions = starts[:, None] + np.arange(S)
    ones, places = jnp.ones((B, S), jnp.int32), np.broadcast_to(np.arange(LENGTH), (B, LENGTH))
    mask = visible(positions, places, ones, jnp.ones((B, LENGTH), jnp.int32), window)
    expected = masked_attention(q, k, v, mask)
    found = [PATHS[spread, window](q, pool, table, positions, ends) for spread in (by_page, by_row)]
    for row, count in enumerate(counts):
        np.testing.assert_allclose(found[0][row, :count], expected[row, :count], atol=1e-5)
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    assert np.isfinite(found[0]).all()


def test_windows_keep_cwm_at_131072_tokens_to_a_third():
    model = config.load(["experiments/models/cwm_32b.gin"], [], ModelConfig)

    def gibibytes(model):
        layout = Layout.of(model, page=128, slots=1, length=131_072, flight=512, pages=None, prefixes=0)
        arrays = jax.eval_shape(lambda: empty_cache(model, layout, jnp.bfloat16, ShardingRules()))
        return sum(array.size * array.dtype.itemsize for array in jax.tree.leaves(arrays)) / 2**30

    assert gibibytes(replace(model, global_layers=None)) == 32
    assert 9.9 < gibibytes(model) < 10.2
