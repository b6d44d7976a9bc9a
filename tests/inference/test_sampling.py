"""Drawing: by the right probabilities, from the right tokens, with randomness of seed and index alone."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.inference.sampling import Draw, draw

DRAW = jax.jit(draw)
V, N = 6, 4000
LOGITS = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -3.0], np.float32)


def drawn(temperature, top_p, seeds, indices=None, logits=LOGITS):
    how = Draw(
        np.stack([seeds, np.zeros(N)], axis=1).astype(np.uint32),
        np.full(N, temperature, np.float32),
        np.full(N, top_p, np.float32),
    )
    indices = np.zeros(N, np.int32) if indices is None else indices
    return np.asarray(DRAW(np.broadcast_to(logits, (N, V)), how, indices))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_probabilities(temperature):
    expected = np.exp(LOGITS / temperature) / np.exp(LOGITS / temperature).sum()
    for seeds, indices in ((np.arange(N), np.zeros(N)), (np.zeros(N), np.arange(N))):
        found = np.bincount(drawn(temperature, 1.0, seeds, indices.astype(np.int32)), minlength=V) / N
        np.testing.assert_allclose(found, expected, atol=4 * (0.25 / N) ** 0.5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.permutations(LOGITS.tolist()), st.floats(0.05, 0.999), st.sampled_from([0.5, 1.0, 2.0]))
def test_top_p_keeps_the_fewest_that_reach_it(logits, top_p, temperature):
    logits = np.array(logits, np.float32)
    probabilities = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    order = np.argsort(-probabilities)
    before = np.cumsum(probabilities[order]) - probabilities[order]
    if np.abs(before - top_p).min() < 1e-5:
        return  # on the edge either is right
    kept = set(order[before < top_p].tolist())
    found = np.bincount(drawn(temperature, top_p, np.arange(N), logits=logits), minlength=V) / N
    assert set(np.nonzero(found)[0].tolist()) <= kept
    inside = np.where(np.isin(np.arange(V), list(kept)), probabilities, 0)
    np.testing.assert_allclose(found, inside / inside.sum(), atol=4 * (0.25 / N) ** 0.5)


def test_temperature_zero_is_greedy_whatever_the_seed():
    assert (drawn(0.0, 0.3, np.arange(N)) == 0).all()


def test_same_seed_and_index_same_token():
    seeds = np.repeat(np.arange(N // 2), 2)
    found = drawn(1.0, 1.0, seeds, np.repeat(np.arange(N // 2), 2).astype(np.int32))
    assert (found[::2] == found[1::2]).all()
