"""Guessing the next tokens, so that one step of the model can confirm several; a wrong guess changes nothing.

Shapes: B slots, T positions of a sequence, N tokens of an n-gram, S guesses.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class NoDraft:
    """Guesses nothing: one token a step."""

    tokens = 0

    def __call__(self, history_BT: jax.Array, positions_B: jax.Array) -> jax.Array:
        return jnp.zeros((len(positions_B), 0), jnp.int32)


@dataclass(frozen=True)
class PromptLookup:
    """Guesses that what followed the last few tokens when they last occurred follows again (Saxena 2023).

    Suits traces: the lines of the source come again, and so do the frames of a loop.

    Attributes:
      tokens: guesses a step.
      ngram: tokens that must have occurred before.
    """

    tokens: int = 4
    ngram: int = 2

    def __call__(self, history_BT: jax.Array, positions_B: jax.Array) -> jax.Array:
        """The guesses [B, S] for what follows position `positions_B` of each history; -1 where there is none."""
        T = history_BT.shape[1]
        places_T = jnp.arange(T)
        same_BT = places_T < positions_B[:, None]
        for back in range(self.ngram):
            wanted_B1 = jnp.take_along_axis(history_BT, jnp.maximum(positions_B - back, 0)[:, None], axis=1)
            same_BT &= (jnp.roll(history_BT, back, axis=1) == wanted_B1) & (places_T >= back)
        latest_B = jnp.where(same_BT, places_T, -1).max(axis=1)
        # What follows may reach into the guesses themselves: a repeating pattern goes on.
        period_B = jnp.maximum(positions_B - latest_B, 1)
        steps_S = jnp.arange(self.tokens)
        places_BS = latest_B[:, None] + 1 + steps_S % period_B[:, None]
        guesses_BS = jnp.take_along_axis(history_BT, jnp.minimum(places_BS, T - 1), axis=1)
        return jnp.where(latest_B[:, None] >= 0, guesses_BS, -1)
