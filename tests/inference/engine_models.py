"""A small model with both kinds of layers and a convolution, and the definition of an answer: no cache, no batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cwm_jax.inference.engine import EngineConfig
from cwm_jax.inference.request import Request
from cwm_jax.inference.sampling import Draw, draw
from cwm_jax.model.components import QKNorm, ShortConv
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder

VOCAB, LENGTH, WINDOW = 24, 64, 7
MODEL = ModelConfig(
    layers=3, d_model=16, q_heads=4, kv_heads=2, head_dim=8, d_ff=24, global_layers=(1,), local_window=WINDOW,
    conv=ShortConv(3), qk_norm=QKNorm(),
)  # fmt: skip
SHAPES = EngineConfig(
    slots=3, max_length=LENGTH, page=4, pages=40, chunk=8, rows=2, steps=3, prefixes=3, queue=9, top_logprobs=4
)
REBUILD = rebuilder(MODEL, VOCAB)


@functools.cache
def weights(seed: int = 3):
    """Weights with no zeros, so that every path carries a signal."""
    keys = iter(jax.random.split(jax.random.key(seed), 50))
    return jax.tree.map(lambda w: w + 0.3 * jax.random.normal(next(keys), w.shape), init_params(MODEL, VOCAB, 0))


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
