"""Splash attention, JAX's Pallas kernel for TPUs, behind the common signature.

Shapes: B batch, S query positions, T key positions, H query heads, G key/value heads, K head dim.
"""

import functools
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as kernels

_LANES = 128  # the kernel's smallest block
_BLOCK = 1024  # largest block of queries and keys; 2 * 1024 * 128 * 4 bytes and the scores fit a core's memory
_FUSED_KEYS = 16_384  # the fused backward keeps keys/block copies of dQ: beyond so many keys they would not fit


@dataclass(frozen=True)
class Splash:
    """TPU attention that visits only blocks that hold something to see.

    Heads share one mask: making one for each takes longer than compiling the rest.
    """

    interpret: ClassVar[bool] = False  # tests run the kernel in Python, by a subclass

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
        _, S, H, K = q_BSHK.shape
        T = k_BTGK.shape[1]
        if S % _LANES or T % _LANES:
            raise ValueError(f"Splash wants rows of a multiple of {_LANES} tokens, not {S} and {T}; pad them")
        if isinstance(first, int):
            kernel = _kernel(S, T, H, window, first, 1, self.interpret)
        else:
            whole = _kernel(T, T, H, window, 0, T // S, self.interpret)
            kernel = _shard(whole, first // S, T // S)
        one = lambda q, k, v, queries, keys: kernel(  # noqa: E731
            q, k, v, kernels.SegmentIds(q=queries, kv=keys)
        )
        heads_first = lambda x: x.transpose(0, 2, 1, 3)  # noqa: E731
        mixed_BHSK = jax.vmap(one)(
            heads_first(q_BSHK * jnp.asarray(K**-0.5, q_BSHK.dtype)),
            heads_first(k_BTGK),
            heads_first(v_BTGK),
            query_segments_BS,
            key_segments_BT,
        )
        return heads_first(mixed_BHSK).astype(q_BSHK.dtype)


@functools.lru_cache(maxsize=64)
def _kernel(S: int, T: int, heads: int, window: int | None, first: int, shards: int, interpret: bool):
    """The kernel for S queries at place `first` of T keys, its tables as NumPy arrays: they outlive a trace."""
    left = None if window is None or window >= T else window - 1  # the kernel's window is inclusive on both sides
    mask = kernels.LocalMask((S, T), (left, 0), first) if left is not None else kernels.CausalMask((S, T), first)
    queries = _block(S // shards)
    keys = _block(T)
    fused = T <= _FUSED_KEYS
    sizes = kernels.BlockSizes(
        block_q=queries,
        block_kv=keys,
        block_kv_compute=min(keys, 512),
        block_q_dkv=queries,
        block_kv_dkv=keys,
        block_kv_dkv_compute=min(keys, 512),
        block_q_dq=None if fused else queries,
        block_kv_dq=None if fused else keys,
        use_fused_bwd_kernel=fused,
    )
    with jax.ensure_compile_time_eval():
        kernel = kernels.make_splash_mha(
            kernels.MultiHeadMask([mask] * heads),
            head_shards=1,
            q_seq_shards=shards,
            block_sizes=sizes,
            interpret=interpret,
        )
        return jax.tree.map(np.asarray, kernel)


def _block(length: int) -> int:
    """The largest block that divides `length`."""
    block = _BLOCK
    while length % block:
        block //= 2
    return block


def _shard(kernel, shard: jax.Array, shards: int):
    """The part of the tables that shard `shard` of the queries needs: axis 1 of mask tables, the places of queries."""

    def part(table, axis: int):
        if table is None:
            return None
        size = table.shape[axis] // shards
        return jax.lax.dynamic_slice_in_dim(jnp.asarray(table), shard * size, size, axis)

    def parts(info):
        return info and info._replace(
            data_next=part(info.data_next, 1),
            mask_next=part(info.mask_next, 1),
            block_mask=part(info.block_mask, 1),
            q_sequence=part(info.q_sequence, 0),
        )

    tables = (kernel.fwd_mask_info, kernel.dq_mask_info, kernel.dkv_mask_info)
    return type(kernel)(*map(parts, tables), **kernel.kwargs)
