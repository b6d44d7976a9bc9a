"""Where the time of a role goes: parts that add up to the time on the clock."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TimeLedger:
    """The time of one role since it began. One thread tells; parts do not overlap.

    Args:
      parts: names of all there are; `other`, what is told of none of them, is added.
      clock: tells seconds.
    """

    def __init__(self, *parts: str, clock: Callable[[], float] = time.monotonic):
        self._clock, self._began = clock, clock()
        self._seconds = Counter(dict.fromkeys(parts, 0.0))

    @contextmanager
    def spent(self, part: str) -> Iterator[None]:
        """What is done inside is of this part."""
        began = self._clock()
        try:
            yield
        finally:
            self.add(part, self._clock() - began)

    def add(self, part: str, seconds: float) -> None:
        """Time that was measured elsewhere."""
        if part not in self._seconds:
            raise KeyError(f"{part!r} is no part; there are {', '.join(self._seconds)}")
        self._seconds[part] += seconds

    @property
    def wall(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    def told(self) -> dict[str, float]:
        """Seconds of each part, `other` last; they add up to `wall`."""
        wall = self.wall
        return {**self._seconds, "other": wall - sum(self._seconds.values())}
