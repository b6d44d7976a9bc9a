"""Attention in blocks of queries, for CPUs and GPUs: no score that cannot count is computed, none is kept.

Shapes: B batch, S query positions, T key positions, H query heads, G key/value heads, R = H / G, K head dim.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from cwm_jax.model.attention.reference import softmax_parts, visible

_MOST_BLOCKS = 16  # longer rows have larger blocks, so that programs stay small
_KEPT_BLOCKS = 8  # up to so many blocks keep their weights for the backward pass, which is faster; more make them anew


@dataclass(frozen=True)
class CausalBlocks:
    """Each block of queries against the keys from the start of its window to its end.

    Skips most of the upper triangle and what lies before the window; score buffers of short rows stay in cache: on
    CPUs about a third faster than `Reference`. Memory is O(S T / 16) for a moment, and O(S) between the passes.

    Attributes:
      block: queries in one block, at least.
    """

    block: int = 128

    def __call__(
        self,
        q_BSHK: jax.Array,
        k_BTGK: jax.Array,
        v_BTGK: jax.Array,
        query_segments_BS: jax.Array,
        key_segments_BT: jax.Array,
        window: int | None,
        first: int | jax.Array,
    ) -> jax.Array:
        B, S, H, K = q_BSHK.shape
        G, T = k_BTGK.shape[2], k_BTGK.shape[1]
        q_BGRSK = (q_BSHK * K**-0.5).reshape(B, S, G, H // G, K).transpose(0, 2, 3, 1, 4)
        k_BGTK, v_BGTK = k_BTGK.transpose(0, 2, 1, 3), v_BTGK.transpose(0, 2, 1, 3)
        block = max(self.block, -(-S // _MOST_BLOCKS))
        attend = _attend if _KEPT_BLOCKS * block >= S else jax.checkpoint(_attend, static_argnums=(5,))
        mixed = []
        for start in range(0, S, block):
            end = min(start + block, S)
            low, high = 0, T
            if isinstance(first, int):
                low = 0 if window is None else max(0, first + start - window + 1)
                high = min(T, first + end)
            places_1S, places_1T = first + jnp.arange(start, end)[None], jnp.arange(low, high)[None]
            mixed.append(
                attend(
                    q_BGRSK[..., start:end, :],
                    k_BGTK[:, :, low:high],
                    v_BGTK[:, :, low:high],
                    (places_1S, query_segments_BS[:, start:end]),
                    (places_1T, key_segments_BT[:, low:high]),
                    window,
                )
            )
        return jnp.concatenate(mixed, axis=3).transpose(0, 3, 1, 2, 4).reshape(B, S, H, K)


def _attend(q_BGRSK, k_BGTK, v_BGTK, queries, keys, window: int | None) -> jax.Array:
    """One block; `queries` and `keys` are places and segments of each."""
    mask_BST = visible(queries[0], keys[0], queries[1], keys[1], window)
    scores_BGRST = jnp.einsum("bgrsk,bgtk->bgrst", q_BGRSK, k_BGTK, preferred_element_type=jnp.float32)
    scores_BGRST = jnp.where(mask_BST[:, None, None], scores_BGRST, -jnp.inf)
    weights_BGRST, total_BGRS1 = softmax_parts(scores_BGRST)
    mixed_BGRSK = jnp.einsum("bgrst,bgtk->bgrsk", weights_BGRST.astype(v_BGTK.dtype), v_BGTK)
    return (mixed_BGRSK / total_BGRS1).astype(v_BGTK.dtype)
