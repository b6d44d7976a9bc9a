"""Attention over whole rows, one signature for every path, each compared with `Reference` in the tests.

    path(q_BSHK, k_BTGK, v_BTGK, query_segments_BS, key_segments_BT, window, first) -> mixed_BSHK

Query i of a row stands at place `first + i` of its keys. It sees the keys of its own document at its place and
before, of these the last `window` (None: all), itself included: CWM's local layers see themselves and 8191 others.
`first` is an int where it is known (0 for whole rows, T - S behind a halo), else an array: a multiple of S, the shard
of the queries times its length. Documents lie whole and in order in a row, so distances in the row are distances in
the document.

Shapes: B batch, S query positions, T key positions, H query heads, G key/value heads (H is a multiple), K head dim.
Scores are scaled by 1/sqrt(K); softmax is in float32, the result in the dtype of `q`.
"""

from collections.abc import Callable

import jax

from cwm_jax.model.attention.blocks import CausalBlocks
from cwm_jax.model.attention.reference import Reference, masked_attention, visible
from cwm_jax.model.attention.splash import Splash

Attention = Callable[[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, int | None, "int | jax.Array"], jax.Array]

__all__ = ["Attention", "CausalBlocks", "Reference", "Splash", "masked_attention", "visible"]
