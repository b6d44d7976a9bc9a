"""Drawing tokens from logits, and scoring them.

Shapes: N rows, V vocabulary, U likeliest tokens that are told.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Draw(NamedTuple):
    """How each row draws: the token `index` of an answer depends on its logits, `seed` and `index` alone.

    Attributes:
      seeds_N2: uint32, low and high half of the request's seed.
      temperature_N, top_p_N: float32, as in a request.
    """

    seeds_N2: jax.Array
    temperature_N: jax.Array
    top_p_N: jax.Array


def draw(logits_NV: jax.Array, how: Draw, indices_N: jax.Array) -> jax.Array:
    """A token of each row, int32 [N]: the likeliest at temperature 0, else by Gumbel noise from its own key."""
    greedy_N = jnp.argmax(logits_NV, axis=-1).astype(jnp.int32)

    def drawn() -> jax.Array:
        def noise(seed_2, index):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed_2[0]), seed_2[1]), index)
            return jax.random.gumbel(key, logits_NV.shape[1:])

        scaled_NV = logits_NV / jnp.maximum(how.temperature_N, 1e-6)[:, None]
        narrow = jnp.any((how.top_p_N < 1) & (how.temperature_N > 0))
        kept_NV = jax.lax.cond(narrow, lambda: _nucleus(scaled_NV, how.top_p_N), lambda: scaled_NV)
        sampled_N = jnp.argmax(kept_NV + jax.vmap(noise)(how.seeds_N2, indices_N), axis=-1)
        return jnp.where(how.temperature_N > 0, sampled_N.astype(jnp.int32), greedy_N)

    return jax.lax.cond(jnp.any(how.temperature_N > 0), drawn, lambda: greedy_N)


def _nucleus(logits_NV: jax.Array, top_p_N: jax.Array) -> jax.Array:
    """The logits with -inf where the likelier tokens alone have `top_p`; rows with top_p = 1 stay as they are."""
    sorted_NV = -jnp.sort(-logits_NV, axis=-1)
    probabilities_NV = jax.nn.softmax(sorted_NV)
    before_NV = jnp.cumsum(probabilities_NV, axis=-1) - probabilities_NV
    least_N1 = jnp.min(sorted_NV, axis=-1, keepdims=True, where=before_NV < top_p_N[:, None], initial=jnp.inf)
    return jnp.where((logits_NV >= least_N1) | (top_p_N >= 1)[:, None], logits_NV, -jnp.inf)


class Scores(NamedTuple):
    """What is told of tokens: float32 log-probabilities [N], and ids and log-probabilities [N, U] of the likeliest.

    `programs` has them with more axes in place of N.
    """

    logprobs_N: jax.Array
    top_ids_NU: jax.Array
    top_logprobs_NU: jax.Array


def score(logits_NV: jax.Array, ids_N: jax.Array, top: int, wanted: jax.Array) -> Scores:
    """Log-probabilities under the logits as they are.

    Args:
      logits_NV: of the model.
      ids_N: the tokens.
      top: U, how many of the likeliest are told.
      wanted: bool []; where it is false, zeros are told instead, which costs nothing.
    """
    logprobs_NV = jax.nn.log_softmax(logits_NV)

    def best() -> tuple[jax.Array, jax.Array]:
        _, ids_NU = jax.lax.top_k(logits_NV, top)  # in the order in which greedy decoding would have them
        return ids_NU.astype(jnp.int32), jnp.take_along_axis(logprobs_NV, ids_NU, axis=1)

    def none() -> tuple[jax.Array, jax.Array]:
        shape = (len(ids_N), top)
        return jnp.zeros(shape, jnp.int32), jnp.zeros(shape)

    return Scores(jnp.take_along_axis(logprobs_NV, ids_N[:, None], axis=1)[:, 0], *jax.lax.cond(wanted, best, none))


def rank(logits_NV: jax.Array, ids_N: jax.Array) -> jax.Array:
    """How many tokens, itself counted, greedy decoding would take before another: int32 [N], 1 for what it takes.

    Of equal logits, which bfloat16 has many of, the lower id comes first, as `argmax` has it.
    """
    own_N1 = jnp.take_along_axis(logits_NV, ids_N[:, None], axis=1)
    lower_NV = jnp.arange(logits_NV.shape[1]) < ids_N[:, None]
    return 1 + jnp.sum((logits_NV > own_N1) | ((logits_NV == own_N1) & lower_NV), axis=1, dtype=jnp.int32)
