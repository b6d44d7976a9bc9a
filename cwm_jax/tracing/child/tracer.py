"""The function for `sys.settrace`: every frame of the context's code, as CPython reports it.

CPython's own events are kept as they come: an exception that leaves a scope is followed by
that scope's return frame with the value `None`, and a generator returns at each `yield` and
is called again when it goes on.
"""

import sys
import types
from _json import encode_basestring_ascii as to_json
from opcode import opmap

from values import ATOMS

FILE_NAME = "<context>"
FRAME_CHARS = 56  # no frame has more characters than this beside its line and its values
CALL, LINE, RETURN, EXCEPTION = range(4)
CONSTANTS = ATOMS | {str, bytes}  # unchanged as long as they are the same object
RETURN_CODES = {opmap[name] for name in ("RETURN_VALUE", "RETURN_CONST") if name in opmap}
PAUSE_CODES = {opmap["YIELD_VALUE"], opmap["RESUME"]}  # where a yield stands: 3.13 is one instruction further


def make_tracer(entry: types.CodeType, lines: list, caps: dict, render, run, snapshots=None):
    """The trace function that records from the first call of `entry` until it is left.

    Args:
      entry: code of the marked function.
      lines: the physical lines of the context.
      caps: the limits by name.
      render: turns a value into its text.
      run: keeps each frame's record, JSON text of `[event, line, locals or value]`, in `journal`; `enter()` is
        called when the entry is entered, `leave(verdict, error)` when it is left, and `finish(verdict,
        detail)` ends this process.
      snapshots: a `Snapshots`, or what else takes them.
    """
    max_frames, max_depth = caps["max_frames"], caps["max_depth"]
    cost = {number: len(line) + FRAME_CHARS for number, line in enumerate(lines, start=1)}
    room = caps["max_trace_chars"] - sum(map(len, lines)) - FRAME_CHARS
    frames = depth = exception_at = 0
    entered = error = None  # the entry's frame, the type of the last exception
    snapshots = snapshots or Snapshots(render)
    take, forget = snapshots.take, snapshots.forget
    add, finish = run.journal.add, run.finish

    def emit(event: int, frame: types.FrameType, payload: str) -> None:
        nonlocal frames, room
        number = frame.f_lineno or 0
        frames += 1
        room -= len(payload) + cost.get(number, FRAME_CHARS)
        if frames > max_frames:
            finish("frame_limit")
        if room < 0:
            finish("trace_limit")
        add(f"[{event},{number},{payload}{snapshots.beside}]")

    def on_call(frame: types.FrameType, event: str, arg: object):
        nonlocal depth, entered
        if entered is None:
            if frame.f_code is not entry:
                return None
            entered = frame
            run.enter()
        elif frame.f_code.co_filename != FILE_NAME:
            return None
        depth += 1
        if depth > max_depth:
            finish("depth_limit")
        try:
            forget()
            emit(CALL, frame, take(frame))
        except BaseException as fault:
            give_up(fault)
        return on_event

    def on_event(frame: types.FrameType, event: str, arg: object):
        nonlocal depth, exception_at, error
        try:
            if event == "line":
                emit(LINE, frame, take(frame))
            elif event == "return":
                forget()
                depth -= 1
                emit(RETURN, frame, to_json(render(arg, frame.f_code.co_name, "the return value of")))
                if frame is entered and (verdict := how_left(frame, exception_at == frames - 1)):
                    run.leave(verdict, error)
                    return None
            elif event == "exception":
                forget()
                emit(EXCEPTION, frame, to_json(render(arg[1], frame.f_code.co_name, "the exception in")))
                exception_at, error = frames, arg[0]
        except BaseException as fault:
            give_up(fault)
        return on_event

    def give_up(fault: BaseException) -> None:
        finish(*verdict_of(fault))

    return on_call


def verdict_of(fault: BaseException) -> tuple[str, str]:
    """Verdict and detail of a run whose recording failed."""
    known = {MemoryError: "memory_limit", RecursionError: "depth_limit"}
    return known.get(type(fault), "interrupted"), type(fault).__name__


def how_left(frame: types.FrameType, raised_here: bool) -> str:
    """`returned`, `raised`, or empty for a generator or coroutine that only pauses; asked at its return event.

    `raised_here` says that its event before was an exception, as where generator.throw() finds no handler.
    """
    opcode = frame.f_code.co_code[frame.f_lasti]
    if opcode in RETURN_CODES:
        return "returned"
    return "raised" if raised_here or opcode not in PAUSE_CODES else ""


class Snapshots:
    """The locals of a frame as JSON, `".."` for what is unchanged since the snapshot before.

    The same rule as `compress` in the trace language, with the work spared where a
    variable still holds the same immutable object.

    Attributes:
      beside: what else the record of the next frame holds, as JSON from its comma on; no part of CWM's text.
    """

    beside = ""

    def __init__(self, render):
        self._render = render
        self._last = None  # the frame of the last snapshot
        self._items = None  # how to read its f_locals
        self._seen = {}  # its locals: name -> the value if that is a constant, and its text
        self._keys, self._dots = {}, {}  # name -> the pieces `"name": ` and `"name": ".."`

    def forget(self) -> None:
        """The next snapshot prints everything in full."""
        self._last = None
        self._seen = {}

    def take(self, frame: types.FrameType) -> str:
        values = frame.f_locals
        if frame is not self._last:
            self.forget()
            self._last, self._items = frame, items_of(type(values))
        seen, dots = self._seen, self._dots
        pieces = []
        for name, value in self._items(values):
            old = seen.get(name)
            if old is not None:
                if old[0] is value:
                    pieces.append(dots[name])
                    continue
            elif name not in dots:
                if type(name) is not str:
                    continue  # no variable but a key put into locals() by force
                self._keys[name], dots[name] = f"{to_json(name)}: ", f'{to_json(name)}: ".."'
            text = self._render(value, name)
            unchanged = old is not None and old[1] == text
            pieces.append(dots[name] if unchanged else self._keys[name] + to_json(text))
            seen[name] = (value if type(value) in CONSTANTS else seen, text)
        if len(seen) != len(pieces):  # a local was deleted
            for name in seen.keys() - dict(self._items(values)).keys():
                del seen[name]
        return "{" + ", ".join(pieces) + "}"


def items_of(kind: type):
    """The function that lists the variables in an `f_locals` of this type, past any method of the program's own.

    A class body whose metaclass prepared something else than a dict shows no locals.
    """
    if issubclass(kind, dict):
        return dict.items
    return kind.items if kind is _FUNCTION_LOCALS else lambda values: ()


_FUNCTION_LOCALS = (lambda: type(sys._getframe().f_locals))()  # since 3.13 a proxy
