"""Contest solutions: whole programs that read the tests of a problem and print answers, right and wrong ones.

The format is that of CodeContests, one problem a line of JSON. CWM's paper (§2.2) traces solutions
that a model wrote for its problems, as many correct as incorrect ones, on the problems' tests, and
drops traces of more than 10 k line events or 1 MB; here it is the solutions that the data set holds.
"""

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.hidden import Hidden
from cwm_jax.tracing.language import render
from cwm_jax.tracing.parts import Found, settings_of
from cwm_jax.tracing.recorder import Job, Limits, record_many
from cwm_jax.tracing.script import CannotTrace, script_context
from cwm_jax.tracing.sources.program import fingerprint
from cwm_jax.tracing.store import Stored
from cwm_jax.tracing.trace import Trace

_PROBLEMS_PER_PART = 4
_PYTHON3 = 3  # in the data set's enumeration of languages
_TESTS = ("public_tests", "private_tests", "generated_tests")
_MOST_LINES = 10_000
_MOST_BYTES = 1_000_000
_MOST_TEXT = 1 << 15  # bytes of a test: our choice, far below what the recorder keeps of the output
_EXITS = ("SystemExit()", "SystemExit(None)", "SystemExit(0)")
# Lines are counted afterwards: with 56 characters a frame at least, 1 MB is full before so many frames are.
LIMITS = Limits(max_frames=2 * _MOST_LINES, max_trace_chars=_MOST_BYTES)


class Case(NamedTuple):
    """A test of a problem: what a program reads, and what it should print."""

    input: str
    output: str


class Solution(NamedTuple):
    """One program for one problem.

    Attributes:
      problem: its name in the data set.
      correct: whether the data set calls the solution correct.
      context: the program with its start marked.
      tests: what to run it on.
    """

    problem: str
    correct: bool
    context: str
    tests: tuple[Case, ...]

    def jobs(self) -> list[Job]:
        """What to record, one run for each test."""
        return [Job(self.context, test.input) for test in self.tests]


@dataclass(frozen=True)
class Contests:
    """Python 3 solutions, of every problem as many correct as incorrect ones.

    Attributes:
      path: a file of CodeContests' problems as JSON lines; compressed if its name ends in `.gz`.
      solutions: at most so many correct ones of a problem, and as many incorrect ones.
      tests: at most so many tests of a problem, those with the shortest input (our choice: most traces of
        long ones would be dropped).
      hidden: what traces tell besides, such as which names share an object; None: nothing.
    """

    path: str
    solutions: int = 8
    tests: int = 8
    hidden: Hidden | None = None

    def __post_init__(self):
        if self.solutions < 1 or self.tests < 1:
            raise ValueError(f"Contests.solutions={self.solutions} and tests={self.tests} must be at least 1")

    def parts(self, folder: Path, limit: int | None = None) -> list["SolutionsOfProblems"]:
        """A few problems each; see `Source`."""
        with self._open() as lines:
            count = sum(1 for _ in islice(lines, limit))
        digest = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()
        firsts = range(0, count, _PROBLEMS_PER_PART)
        return [SolutionsOfProblems(self, digest, at, min(at + _PROBLEMS_PER_PART, count)) for at in firsts]

    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return (Path(self.path).name,)

    def _open(self) -> BinaryIO:
        path = Path(self.path)
        if not path.is_file():
            raise FileNotFoundError(f"Contests.path={self.path!r} is no file; name one of CodeContests' JSON lines")
        return gzip.open(path) if path.suffix == ".gz" else path.open("rb")

    def work(self, dropped: Counter[str], first: int = 0, last: int | None = None) -> Iterator[Solution]:
        """The solutions of problems `first` to `last`, in the order of the file; counts in `dropped`, by reason, what
        gives none.

        Raises:
          OSError: the file cannot be read.
        """
        with self._open() as lines:
            for line in islice(lines, first, last):
                try:
                    yield from self._solutions(json.loads(line), dropped)
                except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                    dropped["a problem that is not in CodeContests' format"] += 1

    def _solutions(self, problem: dict, dropped: Counter[str]) -> list[Solution]:
        if problem.get("input_file") or problem.get("output_file"):
            dropped["a problem that uses files"] += 1
            return []
        tests = self._tests(problem)
        right, wrong = (
            list(islice(_contexts(problem[key], dropped), self.solutions))
            for key in ("solutions", "incorrect_solutions")
        )
        if not (tests and right and wrong):
            dropped["a problem without tests, or without correct or incorrect solutions"] += 1
        pairs = zip(right, wrong) if tests else ()
        name = str(problem["name"])
        return [Solution(name, mark, code, tests) for pair in pairs for mark, code in zip((True, False), pair)]

    def _tests(self, problem: dict) -> tuple[Case, ...]:
        found: dict[str, str] = {}
        for tests in (problem.get(key) or {"input": [], "output": []} for key in _TESTS):
            for given, answer in zip(tests["input"], tests["output"]):
                if len((given + answer).encode()) <= _MOST_TEXT:
                    found.setdefault(given, answer)
        return tuple(Case(*item) for item in sorted(found.items(), key=lambda item: len(item[0]))[: self.tests])


@dataclass(frozen=True)
class SolutionsOfProblems:
    """The solutions of a few problems of one file."""

    source: Contests
    digest: str
    first: int
    last: int

    @property
    def mark(self) -> str:
        return f"{settings_of(self.source, 'path')} {self.digest} {self.first} {self.last}"

    def record(self, isolation: Isolation, dropped: Counter) -> Iterator[Found]:
        """Their traces; see `Part`."""
        for solution in self.source.work(dropped, self.first, self.last):
            program = fingerprint(solution.context)
            origin = f"{solution.problem}:{'correct' if solution.correct else 'incorrect'}"
            for test, trace in record_solution(solution, dropped, isolation, self.source.hidden):
                yield Found(Stored("trace", origin, program, trace), solution.context, (test.input,))


def _contexts(solutions: dict, dropped: Counter[str]) -> Iterator[str]:
    codes = [c for language, c in zip(solutions["language"], solutions["solution"]) if language == _PYTHON3]
    for code in dict.fromkeys(codes):
        try:
            yield script_context(code)
        except CannotTrace as error:
            dropped[f"a solution that {error}"] += 1


def record_solution(
    solution: Solution,
    dropped: Counter[str],
    isolation: Isolation = Isolation.BUBBLEWRAP,
    hidden: Hidden | None = None,
) -> list[tuple[Case, Trace]]:
    """The traces of a solution that are worth keeping, each with its test; counts others in `dropped`, by reason."""
    traces = list(record_many(solution.jobs(), LIMITS, isolation, hidden=hidden))
    reasons = judge(solution, traces)
    dropped.update(reason for reason in reasons if reason)
    return [(test, trace) for test, trace, reason in zip(solution.tests, traces, reasons) if not reason]


def judge(solution: Solution, traces: Sequence[Trace]) -> list[str]:
    """For each trace why it is to be dropped, empty if it is to be kept.

    None is kept of a solution whose label its own runs contradict: a correct one that gives a wrong
    answer (perhaps the problem has several right ones), an incorrect one whose answers are all right.
    """
    passed = [passes(test, trace) for test, trace in zip(solution.tests, traces)]
    if solution.correct and any(trace.complete and not good for trace, good in zip(traces, passed)):
        return ["labelled correct, but an answer is wrong"] * len(traces)
    if not solution.correct and all(passed):
        return ["labelled incorrect, but every answer is right"] * len(traces)
    return [_unfit(trace) for trace in traces]


def passes(test: Case, trace: Trace) -> bool:
    """Whether the run ended well and printed the words of the answer (our choice: white space does not count)."""
    if trace.verdict == "raised" and not trace.reason.endswith(_EXITS):
        return False
    return trace.complete and trace.stdout.split() == test.output.split()


def _unfit(trace: Trace) -> str:
    if not trace.complete:
        return trace.verdict
    if sum(frame.event == "line" for frame in trace.frames) > _MOST_LINES:
        return f"more than {_MOST_LINES} line events"
    return f"more than {_MOST_BYTES} bytes" if len(render(trace).encode()) > _MOST_BYTES else ""
