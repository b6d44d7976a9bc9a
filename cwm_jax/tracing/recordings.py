"""What the tests of a project call: recorded by a pytest plugin in the project's own environment, read back as trees.

The plugin is `child/calls.py`, where the journal is described; it runs inside the sandbox with `cwm_jax.repos`.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cwm_jax.repos import Build, Outcome, SuiteLimits, run_tests
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.language import resolve
from cwm_jax.tracing.trace import EVENTS, Frame, Trace

_PLUGIN = Path(__file__).parent / "child" / "calls.py"


@dataclass(frozen=True)
class Caps:
    """Bounds on what is recorded of a project's tests. CWM's paper gives none (§2.2); these are our choice.

    Attributes:
      depth: levels of calls below a recorded one that are kept in full.
      per_function: recordings of one function, each with arguments that print differently.
      frames: of one test.
      chars: of one test, in values.
      seconds: of one test, after which it runs on without being recorded.
      value_chars: of one value; a longer one ends the recordings under way.
      journal_chars: of all tests.
    """

    depth: int = 2
    per_function: int = 8
    frames: int = 20_000
    chars: int = 2_000_000
    seconds: float = 5.0
    value_chars: int = 4_000
    journal_chars: int = 100_000_000


@dataclass(frozen=True)
class Code:
    """A function of the package: `path` of its file in the package, and that file's `text`."""

    path: str
    text: str = field(repr=False)
    name: str
    first_line: int


@dataclass
class Call:
    """One stay in a frame, from its call to its return; a generator has one for each time that it goes on.

    Attributes:
      code: of the function.
      frame: number of the frame that it is a stay in.
      brief: whether only its call, exceptions and return were kept.
      events: its frames, locals in full, and between them the calls that it makes.
      left: `returned`, `raised`, or empty where it only pauses; None if the recording broke off.
      lost: why it broke off.
    """

    code: Code
    frame: int
    brief: bool
    events: list["Frame | Call"] = field(default_factory=list)
    left: str | None = None
    lost: str = ""


@dataclass(frozen=True)
class Recording:
    """One call of a function during a test.

    Attributes:
      test: the test's name.
      calls: the stays in its frame, in order: one, but for generators and coroutines.
      python: version of the interpreter.
    """

    test: str
    calls: tuple[Call, ...]
    python: str


def record_suite(
    build: Build, caps: Caps, limits: SuiteLimits, isolation: Isolation = Isolation.BUBBLEWRAP
) -> tuple[Outcome, list[Recording]]:
    """Runs the tests of a project once; how they went, and what those that passed did.

    Args:
      build: the project.
      caps: bounds on what is recorded.
      limits: bounds on the run.
      isolation: how far to keep it from the machine.

    Raises:
      SandboxMissing: the tools for `isolation` are not installed.
    """
    with closing(os.fdopen(os.memfd_create("journal"), "rb")) as journal:
        options = ["--calls-journal", str(journal.fileno()), "--calls-caps", json.dumps(asdict(caps))]
        fds = (journal.fileno(),)
        outcome = run_tests(build, limits, isolation, plugin=_PLUGIN, options=options, pass_fds=fds)
        journal.seek(0)
        return outcome, list(read_journal(journal))


def read_journal(lines: Iterable[bytes]) -> Iterator[Recording]:
    """The recordings in a journal. What a test may have written over it ends the reading, and harms nothing else."""
    python, files, codes = "", {}, {}
    test, entries = "", []
    try:
        for line in lines:
            entry = json.loads(line)
            match entry:
                case ["python", str(python)]:
                    pass
                case ["file", int(number), str(path), str(text)]:
                    files[number] = path, text
                case ["code", int(number), int(file), str(name), int(first)]:
                    codes[number] = Code(*files[file], name, first)
                case ["test", str(name)]:
                    yield from _recordings(test, entries, codes, python)
                    test, entries = name, []
                case _:
                    entries.append(entry)
        yield from _recordings(test, entries, codes, python)
    except (ValueError, TypeError, LookupError, AttributeError):
        return


def _recordings(test: str, entries: list[list], codes: dict[int, Code], python: str) -> Iterator[Recording]:
    """The trees of one test, in the order in which they begin."""
    calls: dict[int, Call] = {}
    recorded: dict[int, list[Call]] = {}  # the stays in frames that have a recording of their own
    frames = [entry for entry in entries if entry[0] != "lost"]
    for entry, frame in zip(frames, _in_full(frames)):
        if frame.event == "call":
            parent, number, code, depth, root = entry[4:]
            call = calls[entry[1]] = Call(codes[code], number, depth < 0)
            if parent:
                calls[parent].events.append(call)
            if root:
                recorded.setdefault(number, []).append(call)
        elif frame.event == "return":
            calls[entry[1]].left = str(entry[4])
        calls[entry[1]].events.append(frame)
    for _, number, reason in (entry for entry in entries if entry[0] == "lost"):
        if number in calls:  # else the cap struck before its first frame
            calls[number].lost = str(reason)
    for stays in recorded.values():
        yield Recording(test, tuple(stays), python)


def _in_full(entries: list[list]) -> list[Frame]:
    """The frames with their locals in full, and without their source lines."""
    frames = []
    for event, _, line, content, *_ in entries:
        shown = {"locals": tuple(content.items())} if isinstance(content, dict) else {"value": content}
        frames.append(Frame(EVENTS[event], "", **shown, line=line))
    states = resolve(Trace("", tuple(frames)))
    return [
        Frame(frame.event, "", tuple(state.items()), None, frame.line) if frame.locals is not None else frame
        for frame, state in zip(frames, states)
    ]
