"""Which sequence runs in which slot, reads what next, and holds which pages; NumPy and Python only.

Shapes: B slots, E entries of a row in a table.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from cwm_jax.inference.cache import Layout
from cwm_jax.inference.pages import Pages, next_key
from cwm_jax.inference.request import QueueFull, Request, Scored

_WORTH_A_CALL = 2  # full pages; a shorter prompt that another reads is read once more, rather than waited for


@dataclass
class Running:
    """A request on its way.

    Attributes:
      number: names it.
      request: what was asked.
      tokens: those of the prompt and of the answer so far.
      read: how many of them the caches hold.
      furthest: how many they held at most.
      decoding: whether only the newest token is unread, in the slot where the others were read.
      slot: where it runs; None while it waits.
      pages: those that it holds, by logical page, of each group.
      pure: whether all that the caches hold of it is of one version of the weights, so that others may use it; of one
        with a lineage that waits, whether nothing of that is worth more than what anybody finds.
      keys: of its full pages, as far as they were needed.
      version_keys: of one with a lineage, keys under which anybody finds its prompt, as long as it is pure.
      prompt_logprobs: of the prompt's tokens so far.
      forced: tokens of the answer that are given, by their index.
      version: of the weights that make its tokens; None: of the present ones.
    """

    number: int
    request: Request
    tokens: list[int]
    read: int = 0
    furthest: int = 0
    decoding: bool = False
    slot: int | None = None
    pages: list[dict[int, int]] = field(default_factory=list)
    pure: bool = True
    keys: list[bytes] = field(default_factory=list)
    version_keys: list[bytes] = field(default_factory=list)
    version: int | None = None
    prompt_logprobs: list[Scored | None] = field(default_factory=lambda: [None])
    forced: dict[int, int] = field(init=False)

    def __post_init__(self):
        self.forced = dict(self.request.forced)

    @property
    def made(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - len(self.request.prompt)

    @property
    def reads(self) -> int:
        """Tokens to be read in all: the last one of an answer is not, but a prompt without an answer is."""
        return len(self.request.prompt) + max(self.request.max_tokens - 1, 0)


class Scheduler:
    """Admits in order of arrival, but for those who wait for what another reads; when pages run out, the sequence that
    was admitted last gives its own back and waits.

    Args:
      layout: of the cache.
      version: of the weights.
      queue: most requests that wait.
    """

    def __init__(self, layout: Layout, version: int, queue: int):
        self.version = version
        self.tables_BE = [np.zeros((layout.slots, group.width), np.int32) for group in layout.groups]
        self.preempted = 0  # how often pages ran out
        self.reused = 0  # tokens of prompts that were found in caches
        self._layout = layout
        self._queue = queue
        self._pages = Pages(layout)
        self._waiting: deque[Running] = deque()
        self._running: list[Running] = []  # in order of admission
        self._slots = list(range(layout.slots))[::-1]

    @property
    def running(self) -> list[Running]:
        """Those in slots, in order of admission."""
        return list(self._running)

    @property
    def waiting(self) -> int:
        """How many have no slot."""
        return len(self._waiting)

    def available(self) -> list[int]:
        """Pages of each group that nothing running holds."""
        return [self._pages.available(group) for group in range(len(self._layout.groups))]

    def submit(self, one: Running) -> None:
        """Puts a request at the end of the queue.

        Raises:
          ValueError: it needs more pages than there are.
          QueueFull: too many wait.
        """
        for group in self._layout.groups:
            needed = -(-one.reads // self._layout.page)
            if min(needed, group.width) > group.pages:
                raise ValueError(
                    f"Request.prompt and max_tokens need {needed} pages of {self._layout.page} tokens, and "
                    f"EngineConfig.pages={group.pages}; ask for fewer tokens or make it larger"
                )
        if len(self._waiting) >= self._queue:
            raise QueueFull(f"{len(self._waiting)} requests wait, EngineConfig.queue={self._queue}; ask again later")
        if one.request.on_swap == "pin":
            one.version = self.version if one.request.version is None else one.request.version
        self._waiting.append(one)

    def admit(self) -> None:
        """Gives slots to those who wait, in order, as long as what they must read has room.

        Where another reads the very same pages now, who waits goes on waiting, to find them, and keeps a slot free.
        """
        page = self._layout.page
        reading = {key for one in self._running if not one.decoding for key in self._findable(one)[one.read // page :]}
        skipped = 0
        for one in list(self._waiting):
            if len(self._slots) <= skipped:
                return
            keys, reach = self._look_up(one)
            if len(keys) >= _WORTH_A_CALL and not reading.isdisjoint(keys[reach : reach + 1]):
                skipped += 1
                continue
            found = self._pages.find(keys[:reach])
            if self._running and not self._room(one, len(found)):
                for pages in found:
                    self._pages.drop(pages)
                return
            self._waiting.remove(one)
            one.slot, one.pages = self._slots.pop(), [{} for _ in self._layout.groups]
            for logical, pages in enumerate(found):
                for group, page in enumerate(pages):
                    if page is not None:
                        self._set(one, group, logical, page)
            one.read = len(found) * self._layout.page
            self.reused += one.read
            self._running.append(one)
            reading |= set(keys[len(found) :])
            if one.request.lineage and one.pure:
                for key, pages in reversed(list(zip(self._keys(one), found))):  # the first page is needed most
                    self._pages.keep(key, pages)

    def ensure(self, one: Running, end: int) -> int:
        """Makes room for the tokens of a sequence up to position `end`, and lets go of pages behind its windows.

        Those admitted later give theirs up before it goes without room for a single token.

        Args:
          one: in a slot.
          end: the first position that needs no room.

        Returns:
          The end of the room that there is; the sequence itself may have lost its slot.
        """
        page = self._layout.page
        for group, spec in enumerate(self._layout.groups):
            first = spec.needed(one.read, page)
            for logical in [old for old in one.pages[group] if old < first]:
                self._pages.release(group, one.pages[group].pop(logical))
            for logical in range(max(first, one.read // page), -(-end // page)):
                while logical not in one.pages[group]:
                    if (taken := self._pages.take(group)) is not None:
                        self._set(one, group, logical, taken)
                    elif logical * page > one.read:
                        end = logical * page  # enough to go on for now
                        break
                    else:
                        self.preempt(self._running[-1])
                        if one.slot is None:
                            return one.read
                if logical not in one.pages[group]:
                    break
        return end

    def advance(self, one: Running, end: int) -> None:
        """Says that the tokens of a sequence before `end` were read; its full pages can be found from now on."""
        before, one.read = one.read // self._layout.page, end
        for keys in (self._keys(one, end), self._version_keys(one, end)):
            for logical, key in enumerate(keys[before:], before):
                self._pages.keep(key, [held.get(logical) for held in one.pages])

    def preempt(self, one: Running) -> None:
        """Takes slot and pages of a sequence; it is first in the queue, and reads what it does not find again."""
        self.preempted += 1
        self.leave(one)
        self._waiting.appendleft(one)

    def leave(self, one: Running) -> None:
        """Takes a sequence out, with its pages or out of the queue."""
        if one.slot is None:
            self._waiting.remove(one)
            return
        for group, held in enumerate(one.pages):
            for page in held.values():
                self._pages.release(group, page)
        self._running.remove(one)
        self._slots.append(one.slot)
        one.slot, one.pages, one.read, one.decoding, one.pure = None, [], 0, False, True
        one.keys, one.version_keys = [], []

    def swap(self, version: int) -> None:
        """The weights have another version from now on; what becomes of sequences, each of them says."""
        self.version = version
        for one in reversed(self.running):
            if one.request.on_swap == "recompute":
                self.leave(one)
                self._waiting.appendleft(one)
            elif one.request.on_swap == "keep" and one.read:
                one.pure = False
            elif one.request.on_swap == "keep":
                one.keys, one.version_keys = [], []
        for one in self._waiting:
            if one.version is None:
                one.keys, one.version_keys = [], []

    def pinned(self) -> set[int]:
        """Versions of weights that sequences still need beside the present one."""
        return {one.version for one in (*self._running, *self._waiting) if one.version is not None} - {self.version}

    def _room(self, one: Running, found: int) -> bool:
        """Whether there are pages for what a sequence must read to make a token, `found` pages of tokens apart."""
        needed = -(-min(len(one.tokens) + 1, one.reads) // self._layout.page) - found
        return all(free >= min(needed, group.width) for free, group in zip(self.available(), self._layout.groups))

    def _keys(self, one: Running, end: int | None = None) -> list[bytes]:
        """The keys of the full pages before `end`; by default of those that may be found: one token must be read."""
        lineage = one.request.lineage
        if one.request.prompt_logprobs is not None or not (one.pure or lineage):
            return []
        root = f"of {lineage}" if lineage else self._version(one)
        return self._extended(one.keys, root, one.tokens, len(one.tokens) - 1 if end is None else end)

    def _version_keys(self, one: Running, end: int | None = None) -> list[bytes]:
        """As `_keys`, of one with a lineage: what anybody knows the pages of its prompt by, if others may use them."""
        if one.request.prompt_logprobs is not None or not (one.pure and one.request.lineage):
            return []
        end = min(len(one.tokens) - 1 if end is None else end, len(one.request.prompt))
        return self._extended(one.version_keys, self._version(one), one.tokens, end)

    def _look_up(self, one: Running) -> tuple[list[bytes], int]:
        """The keys that pages of one that waits are found by, and how many are; of its lineage where that has more."""
        one.pure = True
        keys = self._findable(one)
        reach = self._pages.reach(keys)
        if one.request.lineage and (own := self._pages.reach(self._keys(one))) > reach:
            one.pure = False
            return self._keys(one), own
        return keys, reach

    def _findable(self, one: Running) -> list[bytes]:
        """The keys that others, or it itself, find its pages by."""
        return self._version_keys(one) if one.request.lineage and one.pure else self._keys(one)

    def _version(self, one: Running) -> str:
        return str(self.version if one.version is None else one.version)

    def _extended(self, keys: list[bytes], root: str, tokens: list[int], end: int) -> list[bytes]:
        """The keys of the full pages before `end`, to which `keys` grow if need be."""
        page = self._layout.page
        for start in range(len(keys) * page, end // page * page, page):
            keys.append(next_key(keys[-1] if keys else root.encode(), tokens[start : start + page]))
        return keys[: end // page]

    def _set(self, one: Running, group: int, logical: int, page: int) -> None:
        one.pages[group][logical] = page
        self.tables_BE[group][one.slot, logical % self._layout.groups[group].width] = page
