"""Greedy decoding with a KV cache: prompts enter a batch of slots as others leave it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cwm_jax.model.transformer import Cache, Params, Transformer

_ROUND = 128  # prompt and cache lengths are multiples of this, so that few programs are compiled
_CHUNK = 16  # tokens decoded between two looks at who has finished


class Generator:
    """Continues prompts greedily; the answer to a prompt does not depend on what shares its batch.

    Args:
      rebuild: makes the module of the weights.
      params: the weights.
      eos_id: ends a sequence; part of the result.
      slots: prompts decoded at once.
      admitted: prompts that enter together; so many slots are free before the next ones do.
    """

    def __init__(
        self,
        rebuild: Callable[[Params], Transformer],
        params: Params,
        eos_id: int,
        slots: int = 32,
        admitted: int = 8,
    ):
        self._params = params
        self._rebuild = rebuild
        self._eos_id = eos_id
        self._slots = slots
        self._admitted = min(admitted, slots)
        self._admit = jax.jit(self._admit_step, donate_argnums=(1, 2))
        self._decode = jax.jit(self._decode_chunk, donate_argnums=(1, 2))

    def __call__(self, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> Iterator[list[int]]:
        """For each prompt, in order, the ids that follow it: up to `<|end_of_text|>` or `limits[i]` of them."""
        if not prompts:
            return
        B, longest = self._slots, max(map(len, prompts))
        room = max(len(prompt) + limit for prompt, limit in zip(prompts, limits))
        cache, last_B = self._rebuild(self._params).empty_cache(B, _round_up(room + _CHUNK)), jnp.zeros(B, jnp.int32)
        waiting, finished = deque(range(len(prompts))), {}
        owners: list[int | None] = [None] * B
        answers: dict[int, list[int]] = {}
        turn = 0
        while turn < len(prompts):
            free = [slot for slot, owner in enumerate(owners) if owner is None]
            if waiting and len(free) >= min(self._admitted, len(waiting)):
                entering = [(slot, waiting.popleft()) for slot, _ in zip(free[: self._admitted], list(waiting))]
                tokens, lengths, slots = self._group([(slot, prompts[index]) for slot, index in entering], longest)
                cache, last_B = self._admit(self._params, cache, last_B, tokens, lengths, slots)
                first = np.asarray(last_B)
                for slot, index in entering:
                    owners[slot], answers[index] = index, [int(first[slot])]
            else:
                positions = [
                    len(prompts[owner]) + len(answers[owner]) - 1 if owner is not None else 0 for owner in owners
                ]
                cache, last_B, chunk = self._decode(self._params, cache, last_B, np.asarray(positions, np.int32))
                for owner, ids in zip(owners, np.asarray(chunk).tolist()):
                    if owner is not None:
                        answers[owner] += ids
            for slot, owner in enumerate(owners):
                if owner is not None and (answer := self._whole(answers[owner], limits[owner])) is not None:
                    finished[owner], owners[slot] = answer, None
            while turn in finished:
                yield finished.pop(turn)
                turn += 1

    def _group(self, entering: list[tuple[int, Sequence[int]]], longest: int) -> tuple[np.ndarray, ...]:
        """Tokens, lengths and slots of the prompts that enter; unused places get a slot that does not exist."""
        N = self._admitted
        tokens_NS = np.zeros((N, _round_up(longest)), np.int32)
        lengths_N, slots_N = np.ones(N, np.int32), np.full(N, self._slots, np.int32)
        for row, (slot, prompt) in enumerate(entering):
            tokens_NS[row, : len(prompt)] = prompt
            lengths_N[row], slots_N[row] = len(prompt), slot
        return tokens_NS, lengths_N, slots_N

    def _whole(self, ids: list[int], limit: int) -> list[int] | None:
        """The answer, if `ids` hold it whole."""
        if self._eos_id in ids[:limit]:
            return ids[: ids.index(self._eos_id) + 1]
        return ids[:limit] if len(ids) >= limit else None

    def _admit_step(self, params: Params, cache: Cache, last_B, tokens_NS, lengths_N, slots_N):
        """The cache with N prompts in their slots, and the last tokens with the first new one of each."""
        model = self._rebuild(params)
        N, S = tokens_NS.shape
        positions_NS = jnp.broadcast_to(jnp.arange(S), (N, S))
        logits_NSV, entering = model.decode(tokens_NS, positions_NS, model.empty_cache(N, S), lengths_N)
        logits_NV = jnp.take_along_axis(logits_NSV, (lengths_N - 1)[:, None, None], axis=1)[:, 0]
        first_N = jnp.argmax(logits_NV, axis=-1).astype(jnp.int32)

        def place(kept: jax.Array, new: jax.Array) -> jax.Array:
            if kept.shape[1] > new.shape[1]:  # keys and values; the rest of the slot is not seen before it is written
                return kept.at[slots_N, : new.shape[1]].set(new, mode="drop")
            return kept.at[slots_N].set(new[:, : kept.shape[1]], mode="drop")

        return jax.tree.map(place, cache, entering), last_B.at[slots_N].set(first_N, mode="drop")

    def _decode_chunk(self, params: Params, cache: Cache, last_B, positions_B) -> tuple[Cache, jax.Array, jax.Array]:
        """The next `_CHUNK` tokens of every slot, [B, C]; those that have finished go on and are cut later."""
        model = self._rebuild(params)
        T = cache.k_BTGK[0].shape[1]

        def body(carry, offset):
            cache, token_B = carry
            positions_B1 = jnp.minimum(positions_B + offset, T - 1)[:, None]
            logits_B1V, cache = model.decode(token_B[:, None], positions_B1, cache)
            token_B = jnp.argmax(logits_B1V[:, 0], axis=-1).astype(jnp.int32)
            return (cache, token_B), token_B

        (cache, last_B), tokens_CB = jax.lax.scan(body, (cache, last_B), jnp.arange(_CHUNK))
        return cache, last_B, tokens_CB.T


def _round_up(length: int) -> int:
    return -(-int(length) // _ROUND) * _ROUND
