"""Which inputs of a function are worth a trace: those that take new paths, and some that take the same ones."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from random import Random

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.hidden import Hidden
from cwm_jax.tracing.quality import difference
from cwm_jax.tracing.recorder import Limits, record_many
from cwm_jax.tracing.sources.subject import Subject
from cwm_jax.tracing.trace import Trace

# Exceptions that tell of a guess that was wrong, not of the program.
_WRONG_GUESS = ("TypeError(", "AttributeError(", "NameError(", "ImportError(", "ModuleNotFoundError(")
# Exceptions that tell of the sandbox.
_CONTAINED = ("BlockingIOError(", "PermissionError(", "OSError(", "ConnectionRefusedError(", "gaierror(")
_MOST_COSTLY, _MOST_IN_VAIN = 2, 10
# Of one run; longer traces are dropped.
_LIMITS = Limits(wall_seconds=2.0, cpu_seconds=2, max_frames=512, max_trace_chars=64_000, max_value_chars=4_000)


@dataclass(frozen=True)
class Explorer:
    """Tries inputs and mutates those that reach what none before them reached.

    Coverage is what the trace itself shows: its path, that is the lines in the order in which they run, and how the
    functions end. A loop that runs twice takes another path than one that runs once.

    Attributes:
      keep: traces of one function, at most; those of new paths go first.
      alike: traces of one path, at most, which differ in their values (our choice: what a model has to learn of a
        function without branches is how its values come about).
      mutants: inputs made of good ones, for each function.
      hidden: what traces tell besides, such as which names share an object; None: nothing.
    """

    keep: int = 24
    alike: int = 8
    mutants: int = 12
    hidden: Hidden | None = None

    def __post_init__(self):
        for name, least in {"keep": 1, "alike": 1, "mutants": 0}.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"Explorer.{name}={value} is too small; give at least {least}")

    def explore(
        self, subjects: Iterable[Subject], isolation: Isolation, dropped: Counter, imports: tuple[str, ...] = ()
    ) -> Iterator[tuple[Subject, Trace]]:
        """The traces that are kept, of functions of one origin.

        Every kept program has run twice, in two interpreters; where the traces differ both are dropped.

        Args:
          subjects: the functions.
          isolation: how far to keep them from the machine.
          dropped: traces that are not kept are counted here, by reason.
          imports: folders from which the functions may import modules.
        """
        found = [_Found(subject) for subject in subjects]
        if not found:
            return
        settings = {"limits": _LIMITS, "isolation": isolation, "imports": imports, "hidden": self.hidden}
        record = partial(record_many, together=True, **settings)
        self._try(found, lambda one: one.subject.inputs, record, dropped)
        self._try(found, self._mutants, record, dropped)
        kept = [(one.subject, trace) for one in found for trace in self._choose(one, dropped)]
        again = record([trace.context for _, trace in kept])
        for (subject, trace), second in zip(kept, again):
            if (apart := difference(trace, second)) is None:
                yield subject, trace
            else:
                dropped[f"not the same twice: {apart.reason}"] += 1

    def _try(self, found, inputs, record: Callable[[list[str]], Iterator[Trace]], dropped: Counter) -> None:
        running: deque[tuple[_Found, dict[str, str]]] = deque()

        def contexts() -> Iterator[str]:
            for one in found:
                for arguments in inputs(one):
                    if not one.hopeless:
                        running.append((one, arguments))
                        yield one.subject.context(arguments)

        for trace in record(contexts()):
            one, arguments = running.popleft()
            if reason := _unfit(trace):
                dropped[reason] += 1
                one.failures[trace.verdict] += 1
            else:
                one.add(arguments, trace)

    def _mutants(self, one: "_Found") -> Iterator[dict[str, str]]:
        rng = Random(one.subject.origin)
        if one.reaching and len(one.reaching) < self.keep:
            for index in range(self.mutants):
                if near := one.subject.mutant(one.reaching[index % len(one.reaching)], rng):
                    yield near

    def _choose(self, one: "_Found", dropped: Counter) -> list[Trace]:
        """One trace of each path, then the second of each, and so on."""
        paths = [list(traces.values())[: self.alike] for traces in one.paths.values()]
        ranked = [trace for rank in zip_longest(*paths) for trace in rank if trace is not None]
        dropped["as good as others of its function"] += sum(map(len, one.paths.values())) - len(ranked[: self.keep])
        return ranked[: self.keep]


class _Found:
    """A function and what its runs showed.

    Attributes:
      subject: the function.
      paths: by path the traces that took it, by what they hold.
      reaching: the arguments that were the first to take a path.
      failures: runs that were no use, by verdict.
    """

    def __init__(self, subject: Subject):
        self.subject = subject
        self.paths: dict[tuple, dict[tuple, Trace]] = {}
        self.reaching: list[dict[str, str]] = []
        self.failures: Counter[str] = Counter()

    @property
    def hopeless(self) -> bool:
        """Whether more runs are likely to be no use, either: they cost seconds each, or none was any good so far."""
        costly = sum(count for verdict, count in self.failures.items() if verdict not in ("raised", "returned"))
        return costly >= _MOST_COSTLY or (not self.paths and self.failures.total() >= _MOST_IN_VAIN)

    def add(self, arguments: dict[str, str], trace: Trace) -> None:
        path = tuple((frame.event, frame.line) for frame in trace.frames)
        if path not in self.paths:
            self.reaching.append(arguments)
        content = tuple((frame.locals, frame.value) for frame in trace.frames)
        self.paths.setdefault(path, {}).setdefault(content, trace)


def _unfit(trace: Trace) -> str:
    """Why a trace is not kept, whatever it reaches; empty if nothing speaks against it."""
    if trace.verdict == "raised":
        last = [frame.value for frame in trace.frames if frame.event == "exception"][-1]
        if last.startswith(_CONTAINED):
            return "stopped by the sandbox"
        return "an input of the wrong kind" if last.startswith(_WRONG_GUESS) else ""
    return "" if trace.verdict == "returned" else trace.verdict
