"""Attention on a mesh: batch and heads cut freely, and sequences cut along the `context` axis.

A shard of a sequence needs the keys that its queries see. Where a window reaches back over fewer shards than there
are, they come from the neighbours (a halo: CWM's window of 8192 at 131,072 tokens in 16 shards takes one hop); else
all shards gather all keys, which the 8 key heads keep small. Sequences stay contiguous, so that windows stay local.

Shapes: B batch, S query positions of a shard, T key positions, H query heads, G key/value heads, K head dim.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cwm_jax.model.attention import Attention
from cwm_jax.model.sharding import ShardingRules

_AXIS = "context"
_ROWS = 128  # halos have a multiple of this, if shards have: what kernels want


def attend_on_mesh(
    path: Attention,
    q_BSHK: jax.Array,
    k_BSGK: jax.Array,
    v_BSGK: jax.Array,
    segments_BS: jax.Array,
    window: int | None,
    rules: ShardingRules,
) -> jax.Array:
    """Whole rows attend to themselves by `path`, each device to what its own queries see.

    Args:
      path: attention on one device.
      q_BSHK, k_BSGK, v_BSGK: as `rules` lay out ("batch", "sequence", "heads", None).
      segments_BS: numbers of documents, from 0.
      window: tokens that a query sees, itself included; None is all.
      rules: how arrays lie on the mesh in force, if there is one.
    """
    mesh = jax.sharding.get_abstract_mesh()
    shards = 1 if mesh.empty or _AXIS not in rules.sequence else mesh.shape[_AXIS]

    def attend(q_BSHK, k_BSGK, v_BSGK, segments_BS):
        S = q_BSHK.shape[1]
        if shards == 1:
            return path(q_BSHK, k_BSGK, v_BSGK, segments_BS, segments_BS, window, 0)
        hops = shards if window is None else -(-(window - 1) // S)
        if hops < shards - 1:
            fetch, first = _halo(window, S, hops, shards), None
        else:
            fetch, first = _gather, jax.lax.axis_index(_AXIS) * S
        k_BTGK, v_BTGK = fetch(k_BSGK), fetch(v_BSGK)
        keys_BT = fetch(segments_BS + 1) - 1  # what no neighbour sent is 0, and so in no document
        first = k_BTGK.shape[1] - S if first is None else first
        return path(q_BSHK, k_BTGK, v_BTGK, segments_BS, keys_BT, window, first)

    if mesh.empty:
        return attend(q_BSHK, k_BSGK, v_BSGK, segments_BS)
    heads, rows = rules.spec("batch", "sequence", "heads", None), rules.spec("batch", "sequence")
    # Kernels do not say along which mesh axes their results vary, which the check wants to know.
    on_mesh = jax.shard_map(attend, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False)
    return on_mesh(q_BSHK, k_BSGK, v_BSGK, segments_BS)


def _gather(x_BS: jax.Array) -> jax.Array:
    """The array of all shards."""
    return jax.lax.all_gather(x_BS, _AXIS, axis=1, tiled=True)


def _halo(window: int, S: int, hops: int, shards: int) -> Callable[[jax.Array], jax.Array]:
    """A function that puts before a shard the `window` - 1 rows that come before it, zeros where none do."""

    def fetch(x_BS: jax.Array) -> jax.Array:
        parts = []
        for hop in range(hops, 0, -1):
            needed = window - 1 - (hop - 1) * S
            rows = min(S, -(-needed // _ROWS) * _ROWS)
            to_the_right = [(shard, shard + hop) for shard in range(shards - hop)]
            parts.append(jax.lax.ppermute(x_BS[:, S - rows :], _AXIS, to_the_right))
        return jnp.concatenate([*parts, x_BS], axis=1)

    return fetch
