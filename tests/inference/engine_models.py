"""A small model with both kinds of layers and a convolution, and the definition of an answer: no cache, no batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.request import Completion, Request
from cwm_jax.inference.sampling import Draw, draw
from cwm_jax.model.components import QKNorm, ShortConv
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder

VOCAB, LENGTH, WINDOW = 24, 64, 7
MODEL = ModelConfig(
    layers=2, d_model=16, q_heads=4, kv_heads=2, head_dim=8, d_ff=24, global_layers=(1,), local_window=WINDOW,
    conv=ShortConv(3), qk_norm=QKNorm(),
)  # fmt: skip
# Too few pages for three long sequences: some wait, some give theirs back.
SHAPES = EngineConfig(
    slots=3, max_length=LENGTH, page=4, pages=22, chunk=4, rows=2, steps=3, prefixes=3, queue=9, top_logprobs=4
)
REBUILD = rebuilder(MODEL, VOCAB)


@functools.cache
def weights(seed: int = 3):
    """Weights with no zeros, so that every path carries a signal."""
    rng, shapes = np.random.default_rng(seed), jax.eval_shape(lambda: init_params(MODEL, VOCAB, 0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.35, leaf.shape), jnp.float32), shapes)


@jax.jit
def _logits(params, row):
    positions, segments = jnp.arange(LENGTH)[None], jnp.ones((1, LENGTH), jnp.int32)
    return REBUILD(params)(row, positions, segments)[0]


def logprobs_after(params, tokens) -> np.ndarray:
    """Log-probabilities [T, V] of what follows each token, by the whole row."""
    row = np.zeros((1, LENGTH), np.int32)
    row[0, : len(tokens)] = tokens
    return np.asarray(jax.nn.log_softmax(_logits(params, row)))[: len(tokens)]


@jax.jit
def _drawn(logprobs_V, seed_2, temperature, top_p, index):
    how = Draw(seed_2[None], temperature[None], top_p[None])
    return draw(logprobs_V[None], how, index[None])[0]


def by_definition(params, request: Request) -> tuple[list[int], list[float]]:
    """The ids of an answer and their log-probabilities, each token from the whole row anew."""
    ids, logprobs, forced = [], [], dict(request.forced)
    seed = np.array([request.seed & 0xFFFFFFFF, request.seed >> 32], np.uint32)
    while len(ids) < request.max_tokens and ids[-1:] not in [[stop] for stop in request.stop_ids]:
        after = logprobs_after(params, [*request.prompt, *ids])[-1]
        temperature, top_p = np.float32(request.temperature), np.float32(request.top_p)
        drawn = int(_drawn(after, seed, temperature, top_p, np.int32(len(ids))))
        ids.append(forced.get(len(ids), drawn))
        logprobs.append(float(after[ids[-1]]))
    return ids, logprobs


def prompt(seed: int, length: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, VOCAB, length).tolist())


TOKENS = st.integers(0, VOCAB - 1)


@st.composite
def requests(draw):
    """Prompts of one token to several chunks, some with a beginning in common; answers up to the longest sequence."""
    start = draw(st.sampled_from([(), prompt(0, 8), prompt(0, 17)]))
    asked = start + tuple(draw(st.lists(TOKENS, min_size=1, max_size=20)))
    return Request(
        asked,
        max_tokens=draw(st.integers(0, min(25, LENGTH - len(asked)))),
        temperature=draw(st.sampled_from([0.0, 0.0, 0.7, 1.5])),
        top_p=draw(st.sampled_from([1.0, 0.8])),
        seed=draw(st.sampled_from([0, 7, 2**40 + 7])),
        stop_ids=tuple(draw(st.sets(TOKENS, max_size=3))),
        forced=tuple(draw(st.dictionaries(st.integers(0, 8), TOKENS, max_size=3)).items()),
        top_logprobs=draw(st.sampled_from([0, 0, 4])),
        prompt_logprobs=draw(st.sampled_from([None, 0, 3])),
    )


def check(answer: Completion, params=None) -> None:
    """An answer is the one that the definition gives with `params`, scores and all."""
    request, params = answer.request, params or weights()
    ids, logprobs = by_definition(params, request)
    assert answer.ids == ids
    np.testing.assert_allclose([token.logprob for token in answer.tokens], logprobs, atol=1e-4)
    assert answer.finish == ("stop" if ids and ids[-1] in request.stop_ids else "length")
    after = logprobs_after(params, [*request.prompt, *answer.ids])
    if request.prompt_logprobs is None:
        assert answer.prompt_logprobs == ()
    else:
        assert answer.prompt_logprobs[0] is None and len(answer.prompt_logprobs) == len(request.prompt)
        for place, (token, one) in enumerate(zip(request.prompt[1:], answer.prompt_logprobs[1:])):
            np.testing.assert_allclose(one.logprob, after[place, token], atol=1e-4)
            near = [
                1 + (after[place] > after[place, token] + gap).sum() for gap in (1e-4, -1e-4)
            ]  # ties may go either way
            assert near[0] <= one.rank <= near[1]
            best = np.sort(after[place])[::-1][: request.prompt_logprobs]
            np.testing.assert_allclose([logprob for _, logprob in one.top], best, atol=1e-4)
            np.testing.assert_allclose([after[place, other] for other, _ in one.top], best, atol=1e-4)
    for place, token in enumerate(answer.tokens, len(request.prompt) - 1):
        best = np.sort(after[place])[::-1][: request.top_logprobs]
        np.testing.assert_allclose([logprob for _, logprob in token.top], best, atol=1e-4)
        np.testing.assert_allclose([after[place, one] for one, _ in token.top], best, atol=1e-4)
