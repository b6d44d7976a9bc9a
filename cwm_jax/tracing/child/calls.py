"""A pytest plugin that records what tests call: on the standard library and pytest alone, in the project's environment.

Recorded are the functions of the project's own package during the call phase of each test that passes; tests, the
standard library and other packages are not. A *recording* is one call of a function, with the calls of the package
that it makes: in full down to `depth` levels, below that only their call, their exceptions and their return. There
are at most `per_function` recordings of a function, each with arguments that print differently.

The journal has one JSON array a line: `["python", version]`; `["file", number, path, text]`; `["code", number, file,
qualified name, first line]`; `["test", name]`, then what the test did: `[event, call, line, locals or value, …]` with
events as in `tracer.py` and locals by the rules of the trace language, `…` being `parent, frame, code, depth, root`
for a call and how it was left for a return; and `["lost", call, reason]` for calls whose recording broke off. `call`
numbers one stay in a frame: a generator has one for each time that it goes on, all with one number as its `frame`.
"""

import json
import os
import platform
import sys
import sysconfig
import time
from collections import Counter
from inspect import CO_OPTIMIZED
from pathlib import Path

import pytest
from tracer import CALL, EXCEPTION, LINE, RETURN, Snapshots, how_left, opmap
from values import Renderer, to_json

BRIEF = -1  # the depth of a call of which only call, exceptions and return are kept
FOLDERS = ("src", "lib", "")  # of a project: where its package may lie
TEST_FOLDERS = {"test", "tests", "testing", "docs"}


def pytest_addoption(parser) -> None:
    parser.addoption("--calls-journal", type=int, help="file descriptor to write to")
    parser.addoption("--calls-caps", type=json.loads, help="bounds by name")


def pytest_configure(config) -> None:
    calls = Calls(config.getoption("--calls-journal"), config.getoption("--calls-caps"), Package(Path.cwd()))
    os.register_at_fork(after_in_child=calls.stop)  # what a forked copy does is its own affair
    config.pluginmanager.register(calls)


class Package:
    """Tells the code of a project's package from all other: by the files that the project's folder holds.

    The package may be imported from that folder, or as it was installed.
    """

    def __init__(self, project: Path):
        folders = [project / folder for folder in FOLDERS]
        self._places = [*folders, Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))]
        self._paths = {path.relative_to(folder) for folder in folders for path in folder.rglob("*.py")}

    def path(self, file: str) -> str | None:
        """The file's path in the package, such as `inflection/__init__.py`; None if it is no part of it."""
        place = next((place for place in self._places if Path(file).is_relative_to(place)), None)
        path = Path(file).relative_to(place) if place else None
        return path.as_posix() if path in self._paths and not is_test(path) else None


def is_test(path: Path) -> bool:
    named = path.stem in ("conftest", "setup", "test", "tests") or path.stem.startswith("test_")
    return named or path.stem.endswith("_test") or not TEST_FOLDERS.isdisjoint(path.parts)


class Frame:
    """A frame of the package that is recorded; as its `f_trace`, the trace function of its events.

    Attributes:
      test: number of the test in which it was entered.
      number: of the frame.
      root: whether it has a recording of its own.
      call: number of the stay in it.
      depth: levels of calls below it that are recorded in full, or `BRIEF`.
      raised: whether its last event was an exception.
    """

    __slots__ = ("call", "calls", "depth", "number", "raised", "root", "test")

    def __init__(self, calls: "Calls", test: int, number: int, root: bool):
        self.calls, self.test, self.number, self.root = calls, test, number, root
        self.raised = False

    def __call__(self, frame, event: str, arg: object):
        self.calls.on_event(self, frame, event, arg)
        return self


class Broken(Exception):
    """The recordings under way cannot go on."""


class Calls:
    """Records calls into the journal.

    Args:
      file: descriptor of the journal.
      caps: `depth`, `per_function`; `frames`, `chars` and `seconds` of one test; `value_chars` of one value;
        `journal_chars` of all.
      package: tells what to record.
    """

    def __init__(self, file: int, caps: dict, package: Package):
        self._file, self._caps, self._package = file, caps, package
        self._room = caps["journal_chars"]
        self._files: dict[str, int | None] = {}
        self._codes: dict = {}  # code -> its number, None for what is not the package's
        self._recordings = Counter()  # by the code's number
        self._seen: set[tuple[int, str]] = set()  # functions with the arguments that they were recorded with
        self._render = Renderer(caps["value_chars"], self, self._too_long)
        self._snapshots = Snapshots(self._render)
        self._test = self._numbers = 0
        self._open: list[Frame] = []
        self._lines: list[str] | None = None  # of the journal, for this test; None: nothing is recorded
        self._write(["python", platform.python_version()])

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        self._test += 1
        self._open, self._lines, self._capped = [], [], False
        self._frames, self._chars = self._caps["frames"], self._caps["chars"]
        self._deadline = time.monotonic() + self._caps["seconds"]
        trace = self.on_call
        sys.settrace(trace)
        outcome = yield
        kept = (self._capped or sys.gettrace() is trace) and outcome.excinfo is None
        sys.settrace(None)
        lines, self._lines = self._lines, None
        if kept and lines:
            self._write(["test", item.nodeid], *lines)

    def stop(self) -> None:
        sys.settrace(None)
        self._open, self._lines, self._room = [], None, 0

    def note(self, record: str) -> None:
        """The renderer says what it does; here nobody asks."""

    def drop_note(self) -> None:
        pass

    def _write(self, first: list, *lines: str) -> None:
        data = "\n".join([json.dumps(first), *lines, ""]).encode()
        self._room -= len(data)
        if self._room >= 0:
            os.write(self._file, data)

    def on_call(self, frame, event: str, arg: object):
        """What `sys.settrace` is given: decides whether a frame that is entered is recorded."""
        try:
            code = self._codes[frame.f_code]
        except KeyError:
            code = self._codes[frame.f_code] = self._number(frame.f_code)
        if code is None or self._lines is None:
            return None
        try:
            return self._enter(frame, code)
        except Broken as reason:
            self._lose(str(reason))
            return None

    def on_event(self, known: Frame, frame, event: str, arg: object) -> None:
        if not self._open or self._open[-1] is not known:
            return  # its recording broke off
        try:
            if event == "line":
                known.raised = False
                if known.depth != BRIEF:
                    self._add(LINE, known, frame, self._snapshots.take(frame))
            elif event == "exception":
                self._snapshots.forget()
                known.raised = True
                self._add(EXCEPTION, known, frame, to_json(self._render(arg[1], frame.f_code.co_name)))
            elif event == "return":
                self._snapshots.forget()
                value = to_json(self._render(arg, frame.f_code.co_name))
                self._add(RETURN, known, frame, value, f',"{how_left(frame, known.raised)}"')
                self._open.pop()
        except Broken as reason:
            self._lose(str(reason))

    def _enter(self, frame, code: int) -> Frame | None:
        if frame.f_code.co_name == "<module>":
            raise Broken("a module of the package is imported")
        parent = self._open[-1] if self._open else None
        depth = parent.depth - 1 if parent and parent.depth != BRIEF else None
        self._snapshots.forget()
        known = frame.f_trace  # what goes on after a pause has been here before
        if type(known) is not Frame or known.test != self._test:
            if depth is None and self._recordings[code] >= self._caps["per_function"]:
                return None
            self._numbers += 1
            known = Frame(self, self._test, self._numbers, root=False)
            known.root = self._is_new(frame, code)
        if depth is None and not known.root:
            return None
        known.depth = max(BRIEF if depth is None else depth, self._caps["depth"] if known.root else BRIEF)
        known.raised = False
        self._numbers += 1
        known.call = self._numbers
        self._open.append(known)
        about = f",{0 if depth is None else parent.call},{known.number},{code},{known.depth},{int(known.root)}"
        self._add(CALL, known, frame, self._snapshots.take(frame), about)
        return known

    def _is_new(self, frame, code: int) -> bool:
        """Whether to begin a recording: a function with a `def` line, at its start, with arguments not seen before."""
        if self._recordings[code] >= self._caps["per_function"] or not _is_def(frame.f_code) or not _starts(frame):
            return False
        key = code, self._snapshots.take(frame)
        self._snapshots.forget()
        if key in self._seen:
            return False
        self._seen.add(key)
        self._recordings[code] += 1
        return True

    def _add(self, event: int, known: Frame, frame, payload: str, more: str = "") -> None:
        self._frames -= 1
        self._chars -= len(payload)
        if self._frames < 0 or self._chars < 0 or time.monotonic() > self._deadline:
            self._capped = True
            sys.settrace(None)
            raise Broken("the test reaches a cap")
        self._lines.append(f"[{event},{known.call},{frame.f_lineno or 0},{payload}{more}]")

    def _lose(self, reason: str) -> None:
        """Gives up the recordings under way."""
        self._lines += [json.dumps(["lost", known.call, reason]) for known in self._open]
        for known in self._open:
            known.root = False
        self._open = []
        self._snapshots.forget()

    def _too_long(self, verdict: str, detail: str) -> None:
        raise Broken("a value is too long")

    def _number(self, code) -> int | None:
        """Writes down a code of the package; its number, or None if it is not the package's."""
        if code.co_filename not in self._files:
            self._files[code.co_filename] = self._file_number(code.co_filename)
        file = self._files[code.co_filename]
        if file is None:
            return None
        number = len(self._codes)
        self._write(["code", number, file, code.co_qualname, code.co_firstlineno])
        return number

    def _file_number(self, name: str) -> int | None:
        path = self._package.path(name)
        if path is None:
            return None
        try:
            with open(name, encoding="utf-8", newline="") as file:
                text = file.read()
        except (OSError, ValueError):
            return None
        number = len(self._files)
        self._write(["file", number, path, text])
        return number


def _is_def(code) -> bool:
    return code.co_flags & CO_OPTIMIZED and not code.co_name.startswith("<")


def _starts(frame) -> bool:
    """Whether a call begins, rather than goes on after a pause (of which there may be none here to remember)."""
    code = frame.f_code.co_code
    return code[frame.f_lasti] == opmap["RESUME"] and code[frame.f_lasti + 1] & 3 == 0
