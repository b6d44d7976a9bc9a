"""Greedy decoding with a KV cache, a batch of prompts at a time."""

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cwm_jax.model.transformer import Cache, Params, Transformer

_ROUND = 64  # prompt and cache lengths are multiples of this, so that few programs are compiled
_CHUNK = 16  # tokens decoded between two looks at who has finished


class Generator:
    """Continues prompts greedily; the answer to a prompt does not depend on what shares its batch.

    Args:
      rebuild: makes the module of the weights.
      params: the weights.
      eos_id: ends a sequence; part of the result.
      batch: prompts decoded at once; a smaller last batch is padded.
    """

    def __init__(self, rebuild: Callable[[Params], Transformer], params: Params, eos_id: int, batch: int = 32):
        self._params = params
        self._rebuild = rebuild
        self._eos_id = eos_id
        self._batch = batch
        self._prefill = jax.jit(self._prefill_step)
        self._decode = jax.jit(self._decode_chunk, donate_argnums=3)

    def __call__(self, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> Iterator[list[int]]:
        """For each prompt, in order, the ids that follow it: up to `<|end_of_text|>` or `limits[i]` of them."""
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]) + limits[index])
        results: dict[int, list[int]] = {}
        for start in range(0, len(order), self._batch):
            group = order[start : start + self._batch]
            for index, ids in zip(group, self._run([prompts[i] for i in group], [limits[i] for i in group])):
                results[index] = ids
        for index in range(len(prompts)):
            yield results.pop(index)

    def _run(self, prompts: list[Sequence[int]], limits: list[int]) -> list[list[int]]:
        B = self._batch
        lengths = np.ones(B, np.int32)
        lengths[: len(prompts)] = [len(prompt) for prompt in prompts]
        most = np.zeros(B, np.int32)
        most[: len(prompts)] = limits
        S = _round_up(lengths.max())
        tokens = np.zeros((B, S), np.int32)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt
        cache, last = self._prefill(
            self._params, tokens, lengths, jnp.zeros(_round_up((lengths + most).max() + _CHUNK))
        )
        generated = [np.asarray(last)[:, None]]
        count = 1
        while True:
            done = (np.concatenate(generated, axis=1) == self._eos_id).any(axis=1) | (count >= most)
            if done.all():
                break
            cache, last, chunk = self._decode(self._params, last, lengths + count - 1, cache)
            generated.append(np.asarray(chunk))
            count += _CHUNK
        ids = np.concatenate(generated, axis=1)
        return [self._cut(ids[row, : limits[row]].tolist()) for row in range(len(prompts))]

    def _cut(self, ids: list[int]) -> list[int]:
        return ids[: ids.index(self._eos_id) + 1] if self._eos_id in ids else ids

    def _prefill_step(self, params: Params, tokens_BS, lengths_B, room_T) -> tuple[Cache, jax.Array]:
        """The cache after the prompts, `room`'s length long, and the first new token of each row."""
        model = self._rebuild(params)
        B, S = tokens_BS.shape
        positions_BS = jnp.broadcast_to(jnp.arange(S), (B, S))
        logits_BSV, cache = model.decode(tokens_BS, positions_BS, model.empty_cache(B, room_T.shape[0]), lengths_B)
        logits_BV = jnp.take_along_axis(logits_BSV, (lengths_B - 1)[:, None, None], axis=1)[:, 0]
        return cache, jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)

    def _decode_chunk(self, params: Params, last_B, positions_B, cache: Cache) -> tuple[Cache, jax.Array, jax.Array]:
        """The next `_CHUNK` tokens of every row, [B, C]; rows that have finished go on and are cut later."""
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
