"""Keys, values and convolution inputs of the tokens so far, in pages; one formula for global and local layers.

Position p of a sequence is entry `p % page` of its logical page `p // page`, and the sequence's row in a table says in
which page of the pool that is, at `(p // page) % width`. Layers that see everything have rows as wide as the longest
sequence; those with a window reuse a row that spans one window and the tokens in flight, and their older pages go back
to the pool. At 131,072 tokens that is 10 GiB for CWM instead of 32.

Shapes: B rows, S positions, E entries of a row in a table, P pages in a pool, T positions in a page, G KV heads,
R query heads of each, H = G R, K head dim, D model, W convolution taps.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from cwm_jax.model.sharding import ShardingRules
from cwm_jax.model.transformer import ModelConfig


@dataclass(frozen=True)
class Group:
    """Layers that see equally far: they share tables, and have pools of one size.

    Attributes:
      window: tokens that they see; None is all.
      layers: their indices.
      width: entries of a sequence's row, and so the most pages that it holds.
      pages: in each pool.
    """

    window: int | None
    layers: tuple[int, ...]
    width: int
    pages: int

    def needed(self, position: int, page: int) -> int:
        """The first logical page that a query at `position` sees."""
        return 0 if self.window is None else max(0, position - self.window + 1) // page


@dataclass(frozen=True)
class Layout:
    """How the caches of a model lie.

    Attributes:
      page: positions in a page.
      slots: sequences that run at once.
      groups: one for every kind of layer, that with the widest view first.
    """

    page: int
    slots: int
    groups: tuple[Group, ...]

    @staticmethod
    def of(
        model: ModelConfig, page: int, slots: int, length: int, flight: int, pages: int | None, prefixes: int
    ) -> "Layout":
        """The layout for sequences of at most `length` tokens.

        Args:
          model: the shape of the model.
          page, slots: as in the result.
          length: most tokens of a sequence.
          flight: most tokens whose places are held before the first of them is computed.
          pages: in each pool of global layers; None has room for every slot at its longest.
          prefixes: windows that finished sequences may leave behind for later ones.
        """
        groups, windows = [], model.windows()
        longest = -(-length // page)
        for window in dict.fromkeys(sorted(windows, key=lambda window: -(window or length))):
            layers = tuple(layer for layer, other in enumerate(windows) if other == window)
            if window is None:
                groups.append(Group(window, layers, longest, pages or slots * longest))
            else:
                width = min(longest, (window + flight - 3) // page + 2)
                groups.append(Group(window, layers, width, slots * width + prefixes * min(longest, window // page + 2)))
        return Layout(page, slots, tuple(groups))

    def group_of(self, layer: int) -> int:
        """The index of a layer's group."""
        return next(index for index, group in enumerate(self.groups) if layer in group.layers)


class Cache(NamedTuple):
    """The arrays, one a layer: a slice of a stack would be a copy at every token.

    Attributes:
      kv_P2GTK: keys and values of each layer; the heads lie as `ShardingRules.heads` says.
      past_BWD: the last W - 1 inputs of each layer's convolution, by slot; none without one.
      tails_PWD: those at the end of each page of the first group, where other sequences may go on.
    """

    kv_P2GTK: tuple[jax.Array, ...]
    past_BWD: tuple[jax.Array, ...]
    tails_PWD: tuple[jax.Array, ...]


def empty_cache(model: ModelConfig, layout: Layout, dtype: jnp.dtype, rules: ShardingRules) -> Cache:
    """A cache of zeros, on the mesh in force if there is one."""
    taps = model.conv.taps - 1 if model.conv else 0
    layers = range(model.layers) if taps else ()
    pages = [layout.groups[layout.group_of(layer)].pages for layer in range(model.layers)]
    lies = None if jax.sharding.get_abstract_mesh().empty else _heads(rules)
    return Cache(
        tuple(jnp.zeros((P, 2, model.kv_heads, layout.page, model.head_dim), dtype, out_sharding=lies) for P in pages),
        tuple(jnp.zeros((layout.slots, taps, model.d_model), dtype) for _ in layers),
        tuple(jnp.zeros((layout.groups[0].pages, taps, model.d_model), dtype) for _ in layers),
    )


class Rows(NamedTuple):
    """The tokens that are read: row b has those at positions starts_B[b] up to ends_B[b], padded to S.

    Attributes:
      tables_BE: of each group.
      starts_B, ends_B: int32; equal where a row is idle.
      slots_B: where the state of the convolution goes; None if row b is slot b and goes on where it stopped,
        else rows start at the start of a page.
    """

    tables_BE: tuple[jax.Array, ...]
    starts_B: jax.Array
    ends_B: jax.Array
    slots_B: jax.Array | None = None


class PagedMemory:
    """A `Memory` over a cache while a program is traced; `cache` has what came in."""

    def __init__(self, cache: Cache, layout: Layout, rows: Rows, S: int, rules: ShardingRules):
        self.cache = cache
        self._layout, self._rows, self._rules = layout, rows, rules
        self._kv, self._inputs, self._tails = list(cache.kv_P2GTK), [], list(cache.tails_PWD)
        self._positions_BS = rows.starts_B[:, None] + jnp.arange(S)
        # The page of each position in each group; one that does not exist where there is no token.
        real_BS, logical_BS = self._positions_BS < rows.ends_B[:, None], self._positions_BS // layout.page
        self._pages_BS = [
            jnp.where(real_BS, jnp.take_along_axis(table_BE, logical_BS % group.width, axis=1), group.pages)
            for group, table_BE in zip(layout.groups, rows.tables_BE)
        ]

    def attend(self, layer: int, q_BSHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array) -> jax.Array:
        index = self._layout.group_of(layer)
        group, table_BE = self._layout.groups[index], self._rows.tables_BE[index]

        def on_device(kv_P2GTK, q_BSHK, k_BSGK, v_BSGK, table_BE, pages_BS, positions_BS, ends_B):
            kv_BS2GK = jnp.stack([k_BSGK, v_BSGK], axis=2)
            # Every index is named, so that what is written are rows of K, in the order in which the pool lies: with
            # slices the TPU compiler turns the whole pool round and back, in every step.
            pages_BS11, places_BS11 = pages_BS[..., None, None], positions_BS[..., None, None] % self._layout.page
            places = (pages_BS11, jnp.arange(2)[:, None], jnp.arange(kv_P2GTK.shape[2]), places_BS11)
            kv_P2GTK = kv_P2GTK.at[places].set(kv_BS2GK.astype(kv_P2GTK.dtype), mode="drop")
            attend = [functools.partial(attend_pages, spread, window=group.window) for spread in (by_row, by_page)]
            arrays = (q_BSHK, kv_P2GTK, table_BE, positions_BS, ends_B)
            return kv_P2GTK, jax.lax.platform_dependent(*arrays, cpu=attend[0], default=attend[1])

        if not jax.sharding.get_abstract_mesh().empty:
            heads, pool = self._rules.spec(None, None, "heads", None), _heads(self._rules)
            whole = PartitionSpec()
            on_device = jax.shard_map(
                on_device,
                in_specs=(pool, heads, heads, heads, whole, whole, whole, whole),
                out_specs=(pool, heads),
                check_vma=False,
            )
        self._kv[layer], mixed_BSHK = on_device(
            self._kv[layer],
            q_BSHK,
            k_BSGK,
            v_BSGK,
            table_BE,
            self._pages_BS[index],
            self._positions_BS,
            self._rows.ends_B,
        )
        return mixed_BSHK

    def past(self, layer: int) -> jax.Array | None:
        if not self.cache.past_BWD:
            return None
        if self._rows.slots_B is None:
            return self.cache.past_BWD[layer]
        before_B = jnp.maximum(self._rows.starts_B // self._layout.page - 1, 0) % self._layout.groups[0].width
        page_B = jnp.take_along_axis(self._rows.tables_BE[0], before_B[:, None], axis=1)[:, 0]
        return self.cache.tails_PWD[layer][page_B]  # at the start of a sequence never looked at

    def keep(self, layer: int, inputs_BSD: jax.Array) -> None:
        if not self.cache.past_BWD:
            return
        self._inputs.append(inputs_BSD)
        taps = self.cache.past_BWD[layer].shape[1]
        place_BS = self._positions_BS % self._layout.page - (self._layout.page - taps)
        pages_BS = jnp.where(place_BS >= 0, self._pages_BS[0], self._layout.groups[0].pages)
        self._tails[layer] = self._tails[layer].at[pages_BS, place_BS].set(inputs_BSD[:, taps:], mode="drop")

    def after(self, counts_B: jax.Array) -> Cache:
        """The cache when only the first `counts_B` tokens of each row turned out to be real."""
        past = []
        for before_BWD, inputs_BSD in zip(self.cache.past_BWD, self._inputs):
            last_BW = counts_B[:, None] + jnp.arange(before_BWD.shape[1])  # inputs start W - 1 tokens early
            last_BWD = jnp.take_along_axis(inputs_BSD, last_BW[:, :, None], axis=1)
            slots_B = self._rows.slots_B
            past.append(last_BWD if slots_B is None else before_BWD.at[slots_B].set(last_BWD, mode="drop"))
        return Cache(tuple(self._kv), tuple(past), tuple(self._tails))


def attend_pages(
    spread: Callable,
    q_BSHK: jax.Array,
    kv_P2GTK: jax.Array,
    table_BE: jax.Array,
    positions_BS: jax.Array,
    ends_B: jax.Array,
    window: int | None,
) -> jax.Array:
    """Attention of each row to its pages, [B, S, H, K], page by page with a running softmax in float32.

    Pages that a row does not see change none of its bits, so its result does not depend on the other rows.

    Args:
      spread: `by_page` or `by_row`.
      q_BSHK: the queries, at `positions_BS`; those from `ends_B` on are no tokens.
      kv_P2GTK, table_BE: all keys and values, and where those of a row are.
      window: tokens that a query sees; None is all.
    """
    _, _, G, T, K = kv_P2GTK.shape
    S, H = q_BSHK.shape[1:3]
    floor = jnp.finfo(jnp.float32)

    def one_row(row):
        q_SHK, table_E, positions_S, end = row
        q_GRSK = (q_SHK * K**-0.5).reshape(S, G, H // G, K).transpose(1, 2, 0, 3)
        first = 0 if window is None else jnp.maximum(positions_S[0] - window + 1, 0) // T
        last = jnp.where(end > positions_S[0], jnp.minimum(positions_S[-1], end - 1) // T, -1)

        def add_page(logical, running):
            mixed_GRSK, most_GRS, total_GRS = running
            k_GTK, v_GTK = kv_P2GTK[table_E[logical % len(table_E)]]
            distance_ST = positions_S[:, None] - (logical * T + jnp.arange(T))
            seen_ST = distance_ST >= 0 if window is None else (distance_ST >= 0) & (distance_ST < window)
            scores_GRST = jnp.einsum("grsk,gtk->grst", q_GRSK, k_GTK, preferred_element_type=jnp.float32)
            scores_GRST = jnp.where(seen_ST, scores_GRST, -jnp.inf)
            larger_GRS = jnp.maximum(most_GRS, scores_GRST.max(axis=-1))
            weights_GRST = jnp.exp(scores_GRST - larger_GRS[..., None])
            shrink_GRS = jnp.exp(most_GRS - larger_GRS)
            found_GRSK = jnp.einsum(
                "grst,gtk->grsk", weights_GRST.astype(v_GTK.dtype), v_GTK, preferred_element_type=jnp.float32
            )
            mixed_GRSK = mixed_GRSK * shrink_GRS[..., None] + found_GRSK
            return mixed_GRSK, larger_GRS, total_GRS * shrink_GRS + weights_GRST.sum(axis=-1)

        parts = (G, H // G, S)
        nothing = (jnp.zeros((*parts, K)), jnp.full(parts, floor.min), jnp.zeros(parts))
        mixed_GRSK, _, total_GRS = jax.lax.fori_loop(first, last + 1, add_page, nothing)
        mixed_GRSK = mixed_GRSK / jnp.maximum(total_GRS, floor.tiny)[..., None]
        return mixed_GRSK.transpose(2, 0, 1, 3).reshape(S, H, K).astype(q_SHK.dtype)

    return spread(one_row, (q_BSHK, table_BE, positions_BS, ends_B))


def by_page(one_row: Callable, rows: tuple) -> jax.Array:
    """All rows at once: as many steps as the row with most pages has. For accelerators."""
    return jax.vmap(one_row)(rows)


def by_row(one_row: Callable, rows: tuple) -> jax.Array:
    """One row after the other: as many steps as all have pages, and no copy of many pages. For CPUs."""
    return jax.lax.map(one_row, rows)


def _heads(rules: ShardingRules) -> PartitionSpec:
    return rules.spec(None, None, "heads", None, None)
