"""Greedy decoding: a batch answers as one at a time, and as the model without a cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwm_jax.inference.generate import Generator
from cwm_jax.model.components import ShortConv
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder

VOCAB, EOS = 24, 2
CONFIG = ModelConfig(layers=2, d_model=16, q_heads=2, kv_heads=2, head_dim=8, d_ff=24, conv=ShortConv(4))


@pytest.fixture(scope="module")
def model():
    keys = iter(jax.random.split(jax.random.key(3), 50))
    params = jax.tree.map(lambda w: w + 0.3 * jax.random.normal(next(keys), w.shape), init_params(CONFIG, VOCAB, 0))
    return rebuilder(CONFIG, VOCAB), params


def without_cache(model, prompt, limit, length=64):
    """The definition: the whole row anew for every token."""
    rebuild, params = model
    positions, segments = jnp.arange(length)[None], jnp.ones((1, length), jnp.int32)
    forward = jax.jit(lambda tokens: rebuild(params)(tokens, positions, segments)[0].argmax(axis=-1))
    ids = list(prompt)
    while len(ids) < len(prompt) + limit and ids[len(prompt) :][-1:] != [EOS]:
        row = np.zeros((1, length), np.int32)
        row[0, : len(ids)] = ids
        ids.append(int(forward(row)[len(ids) - 1]))
    return ids[len(prompt) :]


PROMPTS = [
    np.random.default_rng(seed).integers(3, VOCAB, length).tolist() for seed, length in enumerate((5, 17, 1, 9, 30))
]


def test_batched_equals_one_at_a_time_equals_no_cache(model):
    limits = [20, 9, 33, 1, 20]
    batched = list(Generator(*model, EOS, slots=3, admitted=2)(PROMPTS, limits))
    alone = [next(Generator(*model, EOS, slots=1)([prompt], [limit])) for prompt, limit in zip(PROMPTS, limits)]
    plain = [without_cache(model, prompt, limit) for prompt, limit in zip(PROMPTS, limits)]
    assert batched == alone == plain
    assert len({tuple(ids) for ids in batched}) > 1


def test_it_stops_after_the_end_token(model):
    first = without_cache(model, PROMPTS[0], 20)
    end = first[7]
    (stopped,) = Generator(*model, end, slots=2)([PROMPTS[0]], [20])
    assert stopped == first[: first.index(end) + 1]
