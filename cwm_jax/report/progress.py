"""The one progress bar of the project.

    with progress("training", total=steps, unit="steps", start=resumed_at) as bar:
        bar.update(done=step, note="loss 1.23")

On a terminal a live bar; elsewhere (CI, pipes) a plain line on stderr now and then.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from cwm_jax.report.figures import duration, quantity

LINE_EVERY = 10.0  # seconds between plain lines: a log of an hour stays readable
WINDOW = 60.0  # seconds of work that the rate is taken from: compilation at the start is soon forgotten
SAMPLE_EVERY = 0.5  # seconds between remembered samples, however often `update` is called


class Pace:
    """How far, how fast and how long still, from the work of this session alone.

    Attributes:
      done: units finished, those of earlier sessions included.
      note: what the caller wants shown beside the figures.
    """

    def __init__(self, total: int | None, unit: str, start: int, clock: Callable[[], float]):
        self.total, self.unit, self.done, self.note = total, unit, start, ""
        self._clock = clock
        self._began = clock()
        self._samples = deque([(self._began, start)])

    def update(self, done: int, note: str) -> None:
        now = self._clock()
        self.done, self.note = done, note
        if len(self._samples) > 1 and now - self._samples[-2][0] < SAMPLE_EVERY:
            self._samples.pop()
        self._samples.append((now, done))
        while len(self._samples) > 2 and self._samples[1][0] < now - WINDOW:
            self._samples.popleft()

    @property
    def rate(self) -> float | None:
        """Units a second; None before anything was done."""
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        return (after - before) / (last - first) if last > first and after > before else None

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at this rate; None while that is unknown."""
        if self.total is None or self.rate is None:
            return None
        return max(0.0, (self.total - self.done) / self.rate - (self._clock() - self._samples[-1][0]))

    def describe(self) -> str:
        """`1,200/4,000 steps, 5.1/s, 9:08 left, loss 1.23`, without what is unknown."""
        parts = [f"{self.done:,}{'' if self.total is None else f'/{self.total:,}'} {self.unit}".rstrip()]
        if self.rate is not None:
            parts.append(f"{quantity(self.rate)}/s" if self.rate >= 0.1 else f"{quantity(1 / self.rate)} s each")
        if self.total is not None and self.done >= self.total:
            parts.append(f"took {duration(self._clock() - self._began)}")
        elif self.left is not None:
            parts.append(f"{duration(self.left)} left")
        return ", ".join([*parts, self.note] if self.note else parts)


class Bar:
    """What `progress` hands out. `update` may be called from any thread and as often as one likes."""

    def __init__(self, pace: Pace, shown: Callable[[], None]):
        self._pace, self._shown = pace, shown

    def update(self, done: int, note: str = "") -> None:
        """`done` units of the total are finished (the whole count, not an increment); `note` is shown beside."""
        self._pace.update(done, note)
        self._shown()


@contextmanager
def progress(title: str, total: int | None, unit: str = "", start: int = 0) -> Iterator[Bar]:
    """Shows the progress of the work inside on stderr.

    Bars may be nested: an inner one goes when it ends, the outermost stays. Whatever
    ends the work, Ctrl-C included, the terminal gets its cursor back.

    Args:
      total: units of the whole work; None where nobody knows, which leaves out the time left.
      start: units that earlier sessions finished; the rate and the time left do not count them.
    """
    console = Console(stderr=True)
    pace = Pace(total, unit, start, time.monotonic)
    if console.is_terminal and not console.is_dumb_terminal:
        with _screen.task(console, title, pace) as shown:
            yield Bar(pace, shown)
    else:
        with plain_lines(title, pace, sys.stderr, time.monotonic) as shown:
            yield Bar(pace, shown)


@contextmanager
def plain_lines(title: str, pace: Pace, stream: TextIO, clock: Callable[[], float]) -> Iterator[Callable[[], None]]:
    """Hands out what to call after each update: it writes a line at most every `LINE_EVERY` seconds.

    Work that took longer than that also gets a closing line.
    """
    began = written = clock()

    def shown() -> None:
        nonlocal written
        if clock() - written >= LINE_EVERY:
            written = clock()
            print(f"{title}: {pace.describe()}", file=stream, flush=True)

    try:
        yield shown
    finally:
        if clock() - began >= LINE_EVERY:
            ending = "done" if sys.exc_info()[0] is None else "stopped"
            print(f"{title}: {ending} at {pace.describe()}", file=stream, flush=True)


class _PaceColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["pace"].describe())


class _Screen:
    """The terminal's live display. There is one terminal, so all bars of the process share one."""

    def __init__(self):
        self._lock = threading.Lock()
        self._live: Progress | None = None
        self._users = 0

    @contextmanager
    def task(self, console: Console, title: str, pace: Pace) -> Iterator[Callable[[], None]]:
        with self._lock:
            if self._users == 0:
                self._live = _live_display(console)
                self._live.start()
            self._users += 1
        live = self._live
        task = live.add_task(title, total=pace.total, completed=pace.done, pace=pace)
        try:
            yield lambda: live.update(task, completed=pace.done)
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    live.stop()
                else:
                    live.remove_task(task)


def _live_display(console: Console) -> Progress:
    one_line = Column(no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("[bold]{task.description}", table_column=one_line, markup=True),
        BarColumn(bar_width=24),
        _PaceColumn(table_column=one_line),
        console=console,
        refresh_per_second=4,
        # what is printed to a pipe must stay on stdout; only a terminal's lines go above the bar
        redirect_stdout=sys.stdout.isatty(),
    )


_screen = _Screen()
