"""The recorder: runs programs in a child interpreter and writes down what they do.

The trace starts when the function that carries the start marker is first entered, while
the program's own top-level code runs or, if that never calls it, when we call it after; it
ends when that function is left. Frames lie in memory shared with the child (see
`cwm_jax/tracing/child/`), so a program that dies or is stopped keeps what it did until then.

What CWM's paper leaves open, decided here: the VALUE of an exception frame is the `repr` of
the exception, and a scope that an exception leaves closes with CPython's return frame, "None".
A program can forge its own trace (it shares the interpreter with the recorder), never break ours.
"""

import json
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from cwm_jax import sandbox
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.hidden import Hidden
from cwm_jax.tracing.language import plain_text, source_lines
from cwm_jax.tracing.trace import EVENTS, Event, Frame, Trace
from cwm_jax.tracing.verdicts import COMPLETE, death, explain

try:  # reads most frames, where cwm_jax/tracing/native.py has built it
    from cwm_jax.tracing.child.native import read_frames
except ImportError:

    def read_frames(records: list[str], *_: object) -> list[str]:
        """The records that `_trace` has to read by itself."""
        return records


_CHILD = Path(__file__).parent / "child"
_CHUNK = 1 << 14
_START_SECONDS = 30
_LONGEST_POLL = 2_000_000.0  # seconds; the kernel counts milliseconds in 32 bits
_CORRUPTED = ([], ("corrupted", ""))
_SLACK = 1 << 19  # of the journal, beyond the trace itself: its first and last record, and the output as JSON


@dataclass(frozen=True)
class Limits(sandbox.Limits):
    """What one recorded program may use up; at the first limit it is stopped, and what was recorded is kept.

    Attributes:
      max_frames: frames of a trace (CWM keeps contest traces of at most 10 k line events, paper §2.2).
      max_trace_chars: characters of the trace's text (CWM: at most 1 MB, paper §2.2).
      max_value_chars: characters of one value's `repr`; our choice, a tenth of a trace.
      max_depth: calls of the program's functions open at once; Python's own default. A program that
        expects to catch `RecursionError` ends here instead.
    """

    max_frames: int = 10_000
    max_trace_chars: int = 1_000_000
    max_value_chars: int = 100_000
    max_depth: int = 1_000

    def __post_init__(self):
        super().__post_init__()
        if self.max_trace_chars > self.memory_mb << 19:  # the child holds the trace, too
            raise ValueError(
                f"max_trace_chars={self.max_trace_chars} needs more than half of the child's memory; "
                f"raise memory_mb={self.memory_mb} with it"
            )


class Job(NamedTuple):
    """A program to record: its context, and the text that it reads as standard input."""

    context: str
    stdin: str = ""


def record(
    context: str,
    limits: Limits = Limits(),
    isolation: Isolation = Isolation.BUBBLEWRAP,
    stdin: str = "",
    hidden: Hidden | None = None,
) -> Trace:
    """The trace of one program: what its marked function does, called without arguments.

    Args:
      context: source text in which one `def` line ends in `  # << START_OF_TRACE`.
      limits: caps on the run.
      isolation: how far to keep the program from the machine.
      stdin: what the program reads as its standard input, a file in memory.
      hidden: bounds on the hidden state that each frame gets, too; None for none.

    Returns:
      A trace whose `verdict` is `returned` or `raised`, or else the cap or fault that cut it short.

    Raises:
      ValueError: a control token of the trace language stands in the context, half a surrogate pair in
        the context or in `stdin`, or `stdin` is longer than a file may be.
      SandboxMissing: the tools for `isolation` are not installed.
      SandboxError: the child interpreter does not start.
    """
    with Recorder(limits, isolation, hidden=hidden) as recorder:
        return recorder.record(Job(context, stdin))


def record_many(
    contexts: Iterable[str | Job],
    limits: Limits = Limits(),
    isolation: Isolation = Isolation.BUBBLEWRAP,
    together: bool = False,
    imports: tuple[str, ...] = (),
    hidden: Hidden | None = None,
) -> Iterator[Trace]:
    """The trace of each context, in order, one at a time as they are asked for; arguments and errors as for `record`.

    A context alone runs on an empty standard input, a `Job` on its own.

    Inside bubblewrap every program has a sandbox of its own. Under limits alone they run one after
    another in one interpreter, which is replaced when a program ends it: for programs of our own.
    There the next program already runs while you look at a trace, so `contexts` is read one ahead.
    `together` has programs share an interpreter inside bubblewrap, too: 20 times as fast, for programs
    of one origin, as one may leave something behind for the next. From the folders `imports` the programs
    can import modules, besides those of the standard library.
    """
    if together or isolation is Isolation.LIMITS_ONLY:
        jobs = (_checked(context, limits) for context in contexts)
        yield from _record_in_turn(jobs, limits, partial(_Interpreter, limits, isolation, imports, hidden))
        return
    with Recorder(limits, isolation, imports, hidden) as recorder:
        for context in contexts:
            yield recorder.record(context)


class Recorder:
    """Records programs as somebody thinks of them; arguments and errors as for `record_many`. A context manager.

    Under limits alone they share an interpreter. For one thread at a time.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        isolation: Isolation = Isolation.BUBBLEWRAP,
        imports: tuple[str, ...] = (),
        hidden: Hidden | None = None,
    ):
        self._limits, self._isolation = limits, isolation
        self._start = partial(_Interpreter, limits, isolation, imports, hidden)
        self._child: _Interpreter | None = None

    def record(self, context: str | Job) -> Trace:
        """The trace of one program."""
        job = _checked(context, self._limits)
        run = None
        if self._child is not None:
            self._child.send(job)
            run = self._child.receive()
        if run is None:  # there is no interpreter, or the program before has ended it
            self.close()
            self._child = self._start()
            self._child.send(job)
            run = self._child.receive() or _CORRUPTED
        if self._isolation is not Isolation.LIMITS_ONLY:
            self.close()
        return _trace(job.context, *run, self._limits)

    def close(self) -> None:
        """Ends the interpreter."""
        if self._child is not None:
            self._child.__exit__()
            self._child = None

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _record_in_turn(jobs: Iterable[Job], limits: Limits, start: Callable[[], "_Interpreter"]) -> Iterator[Trace]:
    with ExitStack() as stack:
        child = stack.enter_context(start())
        before = None
        for job in chain(jobs, [None]):
            if before is not None and (run := child.receive()) is None:
                stack.close()
                child = stack.enter_context(start())
                child.send(before)
                run = child.receive() or _CORRUPTED
            if job is not None:
                child.send(job)
            if before is not None:
                yield _trace(before.context, *run, limits)
            before = job


def _checked(context: str | Job, limits: Limits) -> Job:
    job = Job(context) if isinstance(context, str) else context
    plain_text(job.context, "the context")
    for name, text in zip(("the context", "stdin"), job):
        if not text.isascii() and re.search("[\ud800-\udfff]", text):
            raise ValueError(f"{name} holds half a surrogate pair, which is no text; read the file as UTF-8")
    if (size := len(job.stdin.encode())) > limits.file_mb << 20:
        raise ValueError(f"stdin has {size} bytes, more than a file may have; raise file_mb={limits.file_mb} with it")
    return job


class _Interpreter:
    """A child interpreter that records one program after another. A context manager."""

    def __init__(self, limits: Limits, isolation: Isolation, imports: tuple[str, ...], hidden: Hidden | None):
        self._limits = limits
        bounds = asdict(hidden) if hidden else {}
        self._capacity = limits.max_trace_chars * (2 if hidden else 1) + _SLACK
        with ExitStack() as stack:
            files = {"journal": os.memfd_create("journal")}
            stack.callback(os.close, files["journal"])
            os.ftruncate(files["journal"], self._capacity)
            files["request"], request = os.pipe()
            done, files["done"] = os.pipe()
            self._journal, self._request, self._done = files["journal"], request, done
            stack.callback(os.close, request)
            stack.callback(os.close, done)
            settings = files | {"capacity": self._capacity} | caps_of(limits) | bounds
            argv = [sys.executable, "-s", str(_CHILD / "main.py")]
            argv += [f"{name}={value}" for name, value in settings.items()]
            argv += [f"imports={os.pathsep.join(imports)}"]
            readable = [*sandbox.python_paths(), str(_CHILD), *imports]
            try:
                process = sandbox.Process(argv, limits, isolation, readable=readable, pass_fds=tuple(files.values()))
                self._process = stack.enter_context(process)
            finally:
                os.close(files["request"])
                os.close(files["done"])
            self._start()
            self._stack = stack.pop_all()

    def _start(self) -> None:
        """Waits for the child's first word. No program is sent before: a child whose parent is gone gets none."""
        self._deadline = time.monotonic() + _START_SECONDS
        if self._wait() != 0:
            errors = self._process.errors() or f"it said nothing for {_START_SECONDS} seconds"
            raise sandbox.SandboxError(f"the child interpreter does not start: {errors}")

    def send(self, job: Job) -> None:
        """Has the child run a program, as soon as it is done with the one before."""
        context, stdin = (text.encode() for text in job)
        os.pwrite(self._journal, b"\0", 0)
        os.pwrite(self._journal, context + stdin, self._capacity)
        self._deadline = time.monotonic() + self._limits.wall_seconds
        with suppress(BrokenPipeError):  # the program before has ended the child: `receive` will see it
            os.write(self._request, len(context).to_bytes(8, "little") + len(stdin).to_bytes(8, "little"))

    def receive(self) -> tuple[list[str], tuple[str, str]] | None:
        """The records of the program sent last, and the verdict and detail that hold if they tell no end.

        None if there are none: a program before it has ended the child, or still holds it up.
        """
        status = self._wait()
        records = _read_journal(self._journal)
        if not records:
            return None
        return records, ("timeout", "") if status is None else death(status)

    def _wait(self) -> int | None:
        """Waits until the program is done or the child has ended; its exit status (0 if it lives), None on timeout."""
        poll = select.poll()
        poll.register(self._done, select.POLLIN)
        poll.register(self._process.exit_fd, select.POLLIN)
        # What is done already counts, however late it is asked for.
        while events := dict(poll.poll(1000 * min(max(0.0, self._deadline - time.monotonic()), _LONGEST_POLL))):
            if self._done in events:
                if os.read(self._done, 1):
                    return 0
                poll.unregister(self._done)  # the program closed it
            else:
                return self._process.kill()
        self._process.kill()
        return None

    def __enter__(self) -> "_Interpreter":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def caps_of(limits: Limits) -> dict[str, int]:
    """The limits that the child keeps itself."""
    names = ("cpu_seconds", "max_frames", "max_trace_chars", "max_value_chars", "max_depth")
    return {name: getattr(limits, name) for name in names}


def _read_journal(file: int) -> list[str]:
    """The records that count. Read, not mapped: a program may cut the file short under us."""
    chunks, at = [], 0
    while chunk := os.pread(file, _CHUNK, at):
        chunks.append(chunk)
        at += len(chunk)
        if b"\0" in chunk:
            break
    text, _, _ = b"".join(chunks).partition(b"\0")
    return text.decode("ascii", "replace").split("\n")[1:]


def _trace(context: str, records: list[str], ending: tuple[str, str], limits: Limits) -> Trace:
    """The trace that the records hold; it ended as `ending` says unless the last record knows better."""
    lines = dict(enumerate(source_lines(context), start=1))
    known: dict[str, Frame] = {}  # loops write the same record over and over
    python = rendering = stdout = ""
    verdict, detail = ending
    try:
        rest = read_frames(list(dict.fromkeys(records)), lines, EVENTS, Frame, known)
        for record, (kind, second, third, *hidden) in zip(rest, json.loads(f"[{','.join(rest)}]")):
            if kind.__class__ is int:
                known[record] = to_frame(EVENTS[kind], second, third, lines, *hidden)
            elif kind == "start":
                python = second
            elif kind == "render":
                rendering = second
            elif kind == "print":
                stdout = second
            elif kind == "end":
                verdict, detail, rendering = second, third, ""
            else:
                raise ValueError(f"no record is of the kind {kind!r}")
        "".join((python, rendering, stdout, verdict, detail))  # refuses what is no text
        frames = tuple(filter(None, map(known.get, records)))
        text = explain(verdict, detail, limits, rendering, (f.value for f in frames if f.event == "exception"))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        verdict, python, stdout, frames = "corrupted", "", "", ()  # nothing in it can be relied on
        text = explain(verdict, "", limits)
    return Trace(context, frames, verdict in COMPLETE, verdict, text, python, stdout)


def to_frame(
    event: Event, line: int, content: dict[str, str] | str, lines: dict[int, str], hidden: dict[str, str] | None = None
) -> Frame:
    """The frame that a record of the child's holds; `lines` are those of the code that ran, by number."""
    source = lines.get(line, "\n")  # code that the program compiled itself under our file name has other lines
    if event in ("call", "line"):
        "".join(content.values())  # refuses what is no text
        beside = hidden if hidden is None else tuple(hidden.items())
        return Frame(event, source, tuple(content.items()), None, line, beside)
    "".join((content,))
    return Frame(event, source, None, content, line)
