"""Which inputs of a function are worth a trace: those that reach what none before them reached."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise
from random import Random

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.quality import difference
from cwm_jax.tracing.recorder import Limits, record_many
from cwm_jax.tracing.sources.functions import Subject
from cwm_jax.tracing.trace import Trace

# Exceptions that tell of a guess that was wrong, not of the program.
_WRONG_GUESS = ("TypeError(", "AttributeError(", "NameError(", "ImportError(", "ModuleNotFoundError(")
_SHORT = Limits(wall_seconds=3.0, cpu_seconds=2, max_frames=512, max_trace_chars=64_000, max_value_chars=4_000)


@dataclass(frozen=True)
class Explorer:
    """Tries inputs, keeps those that add coverage, and mutates those.

    Coverage is what the trace itself shows: the pairs of lines that follow each other, and what ends a function.

    Attributes:
      keep: traces of one function, at most.
      mutants: inputs made of good ones, for each function.
      limits: of one run; longer traces are dropped.
    """

    keep: int = 4
    mutants: int = 8
    limits: Limits = field(default_factory=lambda: _SHORT)

    def explore(
        self, subjects: Iterable[Subject], isolation: Isolation, dropped: Counter
    ) -> Iterator[tuple[Subject, Trace]]:
        """The traces that are kept, of functions of one origin.

        Every kept program has run twice, in two interpreters; where the traces differ both are dropped.

        Args:
          subjects: the functions.
          isolation: how far to keep them from the machine.
          dropped: traces that are not kept are counted here, by reason.
        """
        found = [_Found(subject) for subject in subjects]
        if not found:
            return
        record = partial(record_many, limits=self.limits, isolation=isolation, together=True)
        self._try(found, lambda one: one.subject.inputs, record, dropped)
        self._try(found, self._mutants, record, dropped)
        kept = [(one.subject, trace) for one in found for _, trace in one.kept]
        again = record([trace.context for _, trace in kept])
        for (subject, trace), second in zip(kept, again):
            if (apart := difference(trace, second)) is None:
                yield subject, trace
            else:
                dropped[f"not the same twice: {apart.reason}"] += 1

    def _try(self, found, inputs, record: Callable[[list[str]], Iterator[Trace]], dropped: Counter) -> None:
        runs = [(one, arguments) for one in found for arguments in inputs(one)]
        traces = record([one.subject.context(arguments) for one, arguments in runs])
        for (one, arguments), trace in zip(runs, traces):
            if reason := _unfit(trace):
                dropped[reason] += 1
            elif len(one.kept) == self.keep or not (new := _edges(trace) - one.reached):
                dropped["reaches nothing new"] += 1
            else:
                one.reached |= new
                one.kept.append((arguments, trace))

    def _mutants(self, one: "_Found") -> Iterator[dict[str, str]]:
        rng = Random(one.subject.origin)
        good = [arguments for arguments, _ in one.kept]
        if good and len(good) < self.keep:
            for index in range(self.mutants):
                yield from islice(one.subject.mutants(good[index % len(good)], rng), 1)


class _Found:
    """A function, what its traces have reached, and those that are kept with their arguments."""

    def __init__(self, subject: Subject):
        self.subject = subject
        self.reached: set[tuple] = set()
        self.kept: list[tuple[dict[str, str], Trace]] = []


def _unfit(trace: Trace) -> str:
    """Why a trace is not kept, whatever it reaches; empty if nothing speaks against it."""
    if trace.verdict == "raised":
        last = [frame.value for frame in trace.frames if frame.event == "exception"][-1]
        return "an input of the wrong kind" if last.startswith(_WRONG_GUESS) else ""
    return "" if trace.verdict == "returned" else trace.verdict


def _edges(trace: Trace) -> set[tuple]:
    places = [(frame.event, frame.line) for frame in trace.frames]
    return set(pairwise(places))
