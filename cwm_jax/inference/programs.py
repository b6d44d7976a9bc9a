"""The two programs that the engine runs: `prefill` reads known tokens, `decode` makes new ones, both of fixed shapes.

Shapes: B slots, N rows of a prefill, S positions (in `decode`: the newest token and the guesses after it), C steps of a
call, D model, V vocabulary, U likeliest tokens that are told, F forced tokens, E entries of a row in a table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cwm_jax.inference.cache import Cache, Layout, PagedMemory, Rows
from cwm_jax.inference.drafts import NoDraft, PromptLookup
from cwm_jax.inference.sampling import Draw, Scores, draw, rank, score
from cwm_jax.model.sharding import ShardingRules
from cwm_jax.model.transformer import Params, Transformer


class Prefill(NamedTuple):
    """What `prefill` reads.

    Attributes:
      tokens_NS: the tokens of each row, padded.
      next_NS: the tokens after them, where they are known: what is scored.
      rows: where they are and go; rows start at the start of a page.
      how, indices_N: how the token after the last one is drawn.
      forced_N: that token where it is given, else -1.
      wanted: bool [], whether the likeliest tokens are told.
      wanted_of_prompts: likewise beside the tokens of prompts.
    """

    tokens_NS: jax.Array
    next_NS: jax.Array
    rows: Rows
    how: Draw
    indices_N: jax.Array
    forced_N: jax.Array
    wanted: jax.Array
    wanted_of_prompts: jax.Array


class Decode(NamedTuple):
    """What `decode` goes on from.

    Attributes:
      tokens_B: the newest token of each slot, not read yet.
      rows: `starts_B` is its position; no token at `ends_B` or after is read in this call.
      first_B: the position of the first token of the answer.
      how: how tokens are drawn.
      stops_BE: ids that end the answer, -1 for none.
      forced_BF: the tokens of this call that are given, by their place after the newest one; else -1.
      history_BT: all tokens of each slot so far by position, for the guesses.
      wanted: bool [], whether the likeliest tokens are told.
    """

    tokens_B: jax.Array
    rows: Rows
    first_B: jax.Array
    how: Draw
    stops_BE: jax.Array
    forced_BF: jax.Array
    history_BT: jax.Array
    wanted: jax.Array


class Made(NamedTuple):
    """What `decode` made in its C steps.

    Attributes:
      counts_CB: tokens of each slot in each step, 0 once it has ended; those of a step are its first ones.
      ids_CBS: the tokens.
      scores: their scores, [C, B, S] and [C, B, S, U].
      guessed_CB: guesses that there were in each step; all of its tokens but one were guessed right.
    """

    counts_CB: jax.Array
    ids_CBS: jax.Array
    scores: Scores
    guessed_CB: jax.Array


@dataclass(frozen=True)
class Programs:
    """The programs for one model and layout, to be compiled.

    Attributes:
      rebuild: makes the module of the weights.
      layout: of the cache.
      rules: how arrays lie on the mesh in force, if there is one.
      draft: guesses tokens.
      steps: C.
      top: U.
    """

    rebuild: Callable[[Params], Transformer]
    layout: Layout
    rules: ShardingRules
    draft: NoDraft | PromptLookup
    steps: int
    top: int

    def prefill(
        self, params: Params, cache: Cache, batch: Prefill, scored: bool
    ) -> tuple[Cache, jax.Array, Scores, tuple[Scores, jax.Array] | None]:
        """Reads N rows of known tokens.

        Returns:
          The cache with them; the token [N] after the last one of each row, and its scores; and if `scored` the
          scores of each of `next_NS`, [N, S] and [N, S, U], and its rank [N, S], 1 for the likeliest.
        """
        model = self.rebuild(params)
        x_NSD, memory, _ = self._read(model, cache, batch.tokens_NS, batch.rows)
        counts_N = batch.rows.ends_B - batch.rows.starts_B
        last_N11 = jnp.maximum(counts_N - 1, 0)[:, None, None]
        logits_NV = self._logits(model, jnp.take_along_axis(x_NSD, last_N11, axis=1))[:, 0]
        ids_N = draw(logits_NV, batch.how, batch.indices_N)
        ids_N = jnp.where(batch.forced_N >= 0, batch.forced_N, ids_N)
        prompt = None
        if scored:
            prompt = self._ranked(model, x_NSD, batch.next_NS, batch.wanted_of_prompts)
        return memory.after(counts_N), ids_N, score(logits_NV, ids_N, self.top, batch.wanted), prompt

    def compiled(self) -> tuple[Callable, Callable]:
        """`prefill` and `decode`, to be compiled for the shapes that they are called with; they take the cache over."""
        return jax.jit(self.prefill, static_argnums=3, donate_argnums=1), jax.jit(self.decode, donate_argnums=1)

    def decode(self, params: Params, cache: Cache, batch: Decode) -> tuple[Cache, Made]:
        """Makes tokens: `steps` times the model's step, or fewer if every slot has come to its end."""
        model, limits_B = self.rebuild(params), batch.rows.ends_B
        C, B, S = self.steps, len(batch.tokens_B), 1 + self.draft.tokens
        numbers = jnp.zeros((C, B, S))
        tops = (jnp.zeros((C, B, S, self.top), jnp.int32), jnp.zeros((C, B, S, self.top)))
        counts = jnp.zeros((C, B), jnp.int32)
        made = Made(counts, jnp.zeros((C, B, S), jnp.int32), Scores(numbers, *tops), counts)

        def going(state) -> jax.Array:
            step, _, _, starts_B, alive_B, _, _ = state
            return (step < C) & jnp.any(alive_B & (starts_B < limits_B))

        def one_step(state):
            step, cache, tokens_B, starts_B, alive_B, history_BT, made = state
            forced_BS = _from(batch.forced_BF, starts_B - batch.rows.starts_B, S)
            guesses_BS = self.draft(history_BT, starts_B)
            guesses_BS = jnp.where(forced_BS[:, :-1] >= 0, forced_BS[:, :-1], guesses_BS)
            read_BS = jnp.concatenate([tokens_B[:, None], guesses_BS], axis=1)
            rows = batch.rows._replace(starts_B=starts_B, ends_B=jnp.where(alive_B, limits_B, starts_B))
            x_BSD, memory, real_BS = self._read(model, cache, jnp.maximum(read_BS, 0), rows)
            logits_BSV = self._logits(model, x_BSD)
            ids_BS, scores = self._choose(logits_BSV, batch, starts_B, forced_BS)
            ends_BS = jnp.any(ids_BS[..., None] == batch.stops_BE[:, None], axis=-1)
            # A token counts if all read before it were right, and none before it was an end.
            right_BS = jnp.concatenate([real_BS[:, :1], real_BS[:, 1:] & (guesses_BS == ids_BS[:, :-1])], axis=1)
            right_BS &= jnp.concatenate([real_BS[:, :1], ~ends_BS[:, :-1]], axis=1)
            counts_B = jnp.cumprod(right_BS, axis=1, dtype=jnp.int32).sum(axis=1)
            last_B1 = jnp.maximum(counts_B - 1, 0)[:, None]
            newest_B = jnp.where(counts_B > 0, jnp.take_along_axis(ids_BS, last_B1, axis=1)[:, 0], tokens_B)
            alive_B &= ~((counts_B > 0) & jnp.take_along_axis(ends_BS, last_B1, axis=1)[:, 0])
            if history_BT.shape[1]:
                offsets_S = jnp.arange(S)
                places_BS = starts_B[:, None] + 1 + offsets_S
                places_BS = jnp.where(offsets_S < counts_B[:, None], places_BS, history_BT.shape[1])
                history_BT = history_BT.at[jnp.arange(B)[:, None], places_BS].set(ids_BS, mode="drop")
            guessed_B = ((guesses_BS >= 0) & real_BS[:, 1:]).sum(axis=1, dtype=jnp.int32)
            found = Made(counts_B, ids_BS, scores, guessed_B)
            made = jax.tree.map(lambda all, one: all.at[step].set(one), made, found)
            return step + 1, memory.after(counts_B), newest_B, starts_B + counts_B, alive_B, history_BT, made

        state = (0, cache, batch.tokens_B, batch.rows.starts_B, jnp.ones(B, bool), batch.history_BT, made)
        _, cache, *_, made = jax.lax.while_loop(going, one_step, state)
        return cache, made

    def _read(self, model: Transformer, cache: Cache, tokens_BS: jax.Array, rows: Rows):
        """What the head makes logits of, the cache's new state, and which tokens are real."""
        S = tokens_BS.shape[1]
        memory = PagedMemory(cache, self.layout, rows, S, self.rules)
        positions_BS = rows.starts_B[:, None] + jnp.arange(S)
        x_BSD = model.decode(tokens_BS, positions_BS, memory, self.rules)
        return x_BSD, memory, positions_BS < rows.ends_B[:, None]

    def _logits(self, model: Transformer, x_BSD: jax.Array) -> jax.Array:
        """Logits in float32, whole on every device."""
        logits_BSV = model.head(self.rules)(x_BSD)
        if jax.sharding.get_abstract_mesh().empty:
            return logits_BSV
        return jax.sharding.reshard(logits_BSV, self.rules.spec(None, None, None))

    def _ranked(
        self, model: Transformer, x_NSD: jax.Array, next_NS: jax.Array, wanted: jax.Array
    ) -> tuple[Scores, jax.Array]:
        """Scores and ranks of known tokens, a page of them at a time: the logits of all would be gigabytes."""
        N, S, D = x_NSD.shape
        P = self.layout.page  # S is a multiple of it

        def some(part) -> tuple[Scores, jax.Array]:
            x_PD, next_P = part
            logits_PV = self._logits(model, x_PD[None])[0]
            return score(logits_PV, next_P, self.top, wanted), rank(logits_PV, next_P)

        found = jax.lax.map(some, (x_NSD.reshape(N * S // P, P, D), next_NS.reshape(N * S // P, P)))
        return jax.tree.map(lambda x: x.reshape(N, S, *x.shape[2:]), found)

    def _choose(self, logits_BSV: jax.Array, batch: Decode, starts_B: jax.Array, forced_BS: jax.Array):
        """The token after each that was read, given or drawn, and its scores."""
        B, S, V = logits_BSV.shape
        logits_NV = logits_BSV.reshape(B * S, V)
        how = jax.tree.map(lambda x: jnp.repeat(x, S, axis=0), batch.how)
        indices_BS = starts_B[:, None] + 1 + jnp.arange(S) - batch.first_B[:, None]
        ids_N = draw(logits_NV, how, indices_BS.reshape(B * S))
        ids_N = jnp.where(forced_BS.reshape(B * S) >= 0, forced_BS.reshape(B * S), ids_N)
        scores = score(logits_NV, ids_N, self.top, batch.wanted)
        return ids_N.reshape(B, S), jax.tree.map(lambda x: x.reshape(B, S, *x.shape[1:]), scores)


def _from(values_BF: jax.Array, offsets_B: jax.Array, S: int) -> jax.Array:
    """S values of each row from its offset on, -1 behind the last."""
    places_BS = offsets_B[:, None] + jnp.arange(S)
    return jnp.take_along_axis(values_BF, places_BS, axis=1, mode="fill", fill_value=-1)
