"""Keys, values and convolution inputs of the tokens so far, in pages; one formula for global and local layers.

Position p of a sequence is entry `p % page` of its logical page `p // page`, and the sequence's row in a table says in
which page of the pool that is, at `(p // page) % width`. Layers that see everything have rows as wide as the longest
sequence; those with a window reuse a row that spans one window and the tokens in flight, and their older pages go back
to the pool. At 131,072 tokens that is 10 GiB for CWM instead of 32.

Shapes: B rows, S positions, E entries of a row in a table, P pages in a pool, T positions in a page, G KV heads,
R query heads of each, H = G R, K head dim, D model, W convolution taps.
"""

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
            places = (pages_BS, slice(None), slice(None), positions_BS % self._layout.page)
            kv_P2GTK = kv_P2GTK.at[places].set(kv_BS2GK.astype(kv_P2GTK.dtype), mode="drop")
            return kv_P2GTK, _attend_pages(q_BSHK, kv_P2GTK, table_BE, positions_BS, ends_B, group.window)

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


def _attend_pages(
    q_BSHK: jax.Array,
    kv_P2GTK: jax.Array,
    table_BE: jax.Array,
    positions_BS: jax.Array,
    ends_B: jax.Array,
    window: int | None,
) -> jax.Array:
    """Attention page by page with a running softmax in float32: as many pages as the row that sees most of them.

    Pages that a row does not see change none of its bits, so its result does not depend on the other rows.
    """
    B, S, H, K = q_BSHK.shape
    _, _, G, T, _ = kv_P2GTK.shape
    q_BGRSK = (q_BSHK * K**-0.5).reshape(B, S, G, H // G, K).transpose(0, 2, 3, 1, 4)
    starts_B = positions_BS[:, 0]
    low_B = jnp.zeros_like(starts_B) if window is None else jnp.maximum(starts_B - window + 1, 0) // T
    counts_B = jnp.where(ends_B > starts_B, (jnp.minimum(positions_BS[:, -1], ends_B - 1)) // T - low_B + 1, 0)

    def add_page(index, running):
        mixed_BGRSK, most_BGRS, total_BGRS = running
        logical_B = low_B + index
        page_B = jnp.take_along_axis(table_BE, (logical_B % table_BE.shape[1])[:, None], axis=1)[:, 0]
        kv_B2GTK = kv_P2GTK[page_B]
        distance_BST = positions_BS[:, :, None] - (logical_B[:, None] * T + jnp.arange(T))[:, None, :]
        seen_BST = (distance_BST >= 0) & (index < counts_B)[:, None, None]
        seen_BST = seen_BST if window is None else seen_BST & (distance_BST < window)
        scores_BGRST = jnp.einsum("bgrsk,bgtk->bgrst", q_BGRSK, kv_B2GTK[:, 0], preferred_element_type=jnp.float32)
        scores_BGRST = jnp.where(seen_BST[:, None, None], scores_BGRST, -jnp.inf)
        larger_BGRS = jnp.maximum(most_BGRS, scores_BGRST.max(axis=-1))
        weights_BGRST = jnp.exp(scores_BGRST - larger_BGRS[..., None])
        shrink_BGRS = jnp.exp(most_BGRS - larger_BGRS)
        found_BGRSK = jnp.einsum(
            "bgrst,bgtk->bgrsk",
            weights_BGRST.astype(kv_P2GTK.dtype),
            kv_B2GTK[:, 1],
            preferred_element_type=jnp.float32,
        )
        total_BGRS = total_BGRS * shrink_BGRS + weights_BGRST.sum(axis=-1)
        return mixed_BGRSK * shrink_BGRS[..., None] + found_BGRSK, larger_BGRS, total_BGRS

    floor = jnp.finfo(jnp.float32)
    parts = (B, G, H // G, S)
    nothing = (jnp.zeros((*parts, K)), jnp.full(parts, floor.min), jnp.zeros(parts))
    mixed_BGRSK, _, total_BGRS = jax.lax.fori_loop(0, counts_B.max(), add_page, nothing)
    mixed_BGRSK = mixed_BGRSK / jnp.maximum(total_BGRS, floor.tiny)[..., None]
    return mixed_BGRSK.transpose(0, 3, 1, 2, 4).reshape(B, S, H, K).astype(q_BSHK.dtype)


def _heads(rules: ShardingRules) -> PartitionSpec:
    return rules.spec(None, None, "heads", None, None)
