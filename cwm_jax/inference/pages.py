"""Who holds which page of the pools: running sequences, and the prefixes that they leave behind for later ones."""

import hashlib
from collections import OrderedDict, defaultdict, deque
from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from cwm_jax.inference.cache import Layout


def next_key(before: bytes, tokens: Sequence[int]) -> bytes:
    """The key of a page of tokens behind others: equal only for equal tokens behind equal ones.

    Args:
      before: the key of the page before; of the first, what sets its weights apart from others.
      tokens: of the page.
    """
    return hashlib.blake2b(before + np.asarray(tokens, np.int32).tobytes(), digest_size=16).digest()


class Pages:
    """Counts the holders of every page. What only prefixes hold is taken, used longest ago first, when none is free.

    A page of a global layer is worth nothing without those before it, and goes with all that is known of its tokens;
    a page of a local layer may go alone, and then only longer prefixes can be gone on from.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._free = [deque(range(group.pages)) for group in layout.groups]
        self._holders = [[0] * group.pages for group in layout.groups]
        self._prefixes: OrderedDict[bytes, list[int | None]] = OrderedDict()  # key -> page of each group
        self._kept = [[0] * group.pages for group in layout.groups]  # how many prefixes hold each page
        # Of prefixes; those whose pages are always in use are not evicted.
        self._most = 2 * sum(group.pages for group in layout.groups)

    def available(self, group: int) -> int:
        """Pages of a group that nothing running holds."""
        both = zip(self._kept[group], self._holders[group])
        return len(self._free[group]) + sum(0 < kept == holders for kept, holders in both)

    def take(self, group: int) -> int | None:
        """A page, with one holder; None if all are held by what runs."""
        if not self._free[group] and not self._evict(group):
            return None
        page = self._free[group].popleft()
        self._holders[group][page] = 1
        return page

    def release(self, group: int, page: int) -> None:
        """One holder less."""
        self._holders[group][page] -= 1
        if not self._holders[group][page]:
            self._free[group].append(page)

    def keep(self, key: bytes, pages: Sequence[int | None]) -> None:
        """Holds a full page of tokens for later: its page in each group, None if let go of.

        A page may be held under several keys. Under one key stay the pages that came first.
        """
        if all(page is None for page in pages):
            return
        held = self._prefixes.setdefault(key, [None] * len(pages))
        for group, page in enumerate(pages):
            if page is not None and held[group] is None:
                held[group] = page
                self._holders[group][page] += 1
                self._kept[group][page] += 1
        if len(self._prefixes) > self._most:
            self._delete(next(iter(self._prefixes)))

    def reach(self, keys: Sequence[bytes]) -> int:
        """Pages of the longest prefix to go on from."""
        found = [self._prefixes[key] for key in takewhile(self._prefixes.__contains__, keys)]
        while found and not self._whole(found):
            found.pop()
        return len(found)

    def find(self, keys: Sequence[bytes]) -> list[list[int | None]]:
        """A prefix to go on from: of each of its pages those of the groups, None where no query looks.

        They have one holder more now.

        Args:
          keys: of as many pages as `reach` says.
        """
        for key in reversed(keys):  # the first page is needed most
            self._prefixes.move_to_end(key)
        needed = self._needed(len(keys))
        found = [
            [page if index >= first else None for first, page in zip(needed, self._prefixes[key])]
            for index, key in enumerate(keys)
        ]
        for pages in found:
            self._hold(pages)
        return found

    def drop(self, pages: Sequence[int | None]) -> None:
        """Releases what was found."""
        for group, page in enumerate(pages):
            if page is not None:
                self.release(group, page)

    def _hold(self, pages: Sequence[int | None]) -> None:
        for group, page in enumerate(pages):
            if page is not None:
                self._holders[group][page] += 1

    def _needed(self, count: int) -> list[int]:
        """The first logical page of each group that a sequence needs which goes on behind `count` pages."""
        position = count * self._layout.page
        return [min(group.needed(position, self._layout.page), max(count - 1, 0)) for group in self._layout.groups]

    def _whole(self, found: list[list[int | None]]) -> bool:
        needed = self._needed(len(found))
        return all(pages[group] is not None for group, first in enumerate(needed) for pages in found[first:])

    def _evict(self, group: int) -> bool:
        """Frees the page of `group` used longest ago, of those that prefixes alone hold; whether there is one."""
        keys = defaultdict(list)  # of each such page
        for key, pages in self._prefixes.items():
            page = pages[group]
            if page is None or self._kept[group][page] < self._holders[group][page]:
                continue
            keys[page].append(key)
            if len(keys[page]) == self._kept[group][page]:
                break
        else:
            return False
        for key in keys[page]:
            pages = self._prefixes[key]
            self._forget(pages, group)
            if self._layout.groups[group].window is None or all(held is None for held in pages):
                self._delete(key)
        return True

    def _delete(self, key: bytes) -> None:
        pages = self._prefixes.pop(key)
        for group in range(len(pages)):
            self._forget(pages, group)

    def _forget(self, pages: list[int | None], group: int) -> None:
        """Takes its page of a group out of what a prefix holds."""
        if (page := pages[group]) is not None:
            pages[group] = None
            self._kept[group][page] -= 1
            self.release(group, page)
