"""The reference: every score at once, by einsum, softmax in float32.

Shapes: B batch, S query positions, T key positions, H query heads, G key/value heads, R = H / G, K head dim.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


def visible(
    query_positions_BS: jax.Array,
    key_positions_BT: jax.Array,
    query_segments_BS: jax.Array,
    key_segments_BT: jax.Array,
    window: int | None,
) -> jax.Array:
    """Who sees whom, bool [B, S, T]: same document, not later, less than `window` back."""
    distance_BST = query_positions_BS[:, :, None] - key_positions_BT[:, None, :]
    mask_BST = (distance_BST >= 0) & (query_segments_BS[:, :, None] == key_segments_BT[:, None, :])
    return mask_BST if window is None else mask_BST & (distance_BST < window)


def masked_attention(q_BSHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, mask_BST: jax.Array) -> jax.Array:
    """Softmax attention with scale 1/sqrt(K); [B, S, H, K] in the dtype of `q`; zeros for a query that sees nothing."""
    B, S, H, K = q_BSHK.shape
    G = k_BTGK.shape[2]
    q_BSGRK = (q_BSHK * K**-0.5).reshape(B, S, G, H // G, K)
    scores_BGRST = jnp.einsum("bsgrk,btgk->bgrst", q_BSGRK, k_BTGK, preferred_element_type=jnp.float32)
    scores_BGRST = jnp.where(mask_BST[:, None, None], scores_BGRST, -jnp.inf)
    weights_BGRST, total_BGRS1 = softmax_parts(scores_BGRST)
    mixed_BSGRK = jnp.einsum("bgrst,btgk->bsgrk", weights_BGRST.astype(v_BTGK.dtype), v_BTGK)
    inverse_BSGR1 = (1.0 / total_BGRS1).transpose(0, 3, 1, 2, 4).astype(v_BTGK.dtype)
    return (mixed_BSGRK * inverse_BSGR1).reshape(B, S, H, K)


@dataclass(frozen=True)
class Reference:
    """Attention as its definition says, in memory of O(S T)."""

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
        places_1S, places_1T = first + jnp.arange(q_BSHK.shape[1])[None], jnp.arange(k_BTGK.shape[1])[None]
        mask_BST = visible(places_1S, places_1T, query_segments_BS, key_segments_BT, window)
        return masked_attention(q_BSHK, k_BTGK, v_BTGK, mask_BST)


def softmax_parts(scores_BGRST: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Unnormalised softmax weights and their sums; both finite where a query sees nothing."""
    largest_BGRS1 = jnp.maximum(scores_BGRST.max(axis=-1, keepdims=True), jnp.finfo(jnp.float32).min)
    weights_BGRST = jnp.exp(scores_BGRST - jax.lax.stop_gradient(largest_BGRS1))
    return weights_BGRST, jnp.maximum(weights_BGRST.sum(axis=-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
