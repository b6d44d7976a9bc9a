"""Other ways to record full locals, run on the same programs in this process: no limits, nothing kept if it dies.

`plain` and `hunter` make the very trace that ours is. PySnooper and snoop print what changed, which takes the text of
every local at every event, too; they print to memory, uncoloured, PySnooper uncut, snoop's values cut short, as it
has no other way. viztracer is no peer: it keeps arguments and results of calls, and of lines only names given to it.
"""

import io
import linecache
import platform
import re
import sys
from collections.abc import Callable

import hunter
import pysnooper
import snoop

from cwm_jax.tracing import Trace
from cwm_jax.tracing.language import compress, source_lines
from cwm_jax.tracing.trace import Frame

FILE_NAME = "<context>"
DEEP = 10_000
PYSNOOPER_EVENT = re.compile(r"^[\d:. ]+(call|return) ", re.MULTILINE)
SNOOP_EVENT = re.compile(r"^ *(>>> Call|<<< Return)", re.MULTILINE)  # it repeats lines to which a call returns


class Builder:
    """Frames from what a tracing hook is handed: every local's `repr`, addresses out, `..` by comparing texts."""

    def __init__(self, context: str):
        self._context = context
        self._lines = source_lines(context)
        self._frames: list[Frame] = []
        self._last = self._baseline = None

    def state(self, event: str, scope: object, number: int, values: dict) -> None:
        """A call or line event; `scope` is the same object as long as the frame is."""
        state = {name: _text(value) for name, value in values.items()}
        same = event == "line" and scope is self._last
        shown = compress(state, self._baseline if same else None)
        self._frames.append(Frame(event, self._lines[number - 1], shown, line=number))
        self._last, self._baseline = scope, state

    def value(self, event: str, number: int, value: object) -> None:
        """A return or exception event."""
        self._frames.append(Frame(event, self._lines[number - 1], value=_text(value), line=number))
        self._last = None

    def trace(self) -> Trace:
        return Trace(self._context, tuple(self._frames), verdict="returned", python=platform.python_version())


def _text(value: object) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def define(context: str) -> Callable[[], object]:
    """The context's entry."""
    names = {"__name__": "__main__"}
    exec(compile(context, FILE_NAME, "exec"), names)
    return names["main"]


def plain(context: str) -> Trace:
    """What one writes in twenty lines over `sys.settrace`."""
    builder = Builder(context)

    def trace(frame, event, arg):
        if frame.f_code.co_filename != FILE_NAME:
            return None
        if event in ("call", "line"):
            builder.state(event, frame, frame.f_lineno, frame.f_locals)
        else:
            builder.value(event, frame.f_lineno, arg if event == "return" else arg[1])
        return trace

    main = define(context)
    sys.settrace(trace)
    try:
        main()
    finally:
        sys.settrace(None)
    return builder.trace()


def with_hunter(context: str) -> Trace:
    """hunter's own hook, filter and events, in C, and the frames made of them."""
    builder = Builder(context)

    def act(event) -> None:
        if event.kind in ("call", "line"):
            builder.state(event.kind, event.frame, event.lineno, event.locals)
        else:
            builder.value(event.kind, event.lineno, event.arg if event.kind == "return" else event.arg[1])

    main = define(context)
    with hunter.trace(filename=FILE_NAME, action=act):
        main()
    return builder.trace()


def with_pysnooper(context: str) -> int:
    """How many calls and returns it printed."""
    out, main = io.StringIO(), define(context)
    pysnooper.snoop(out.write, depth=DEEP, max_variable_length=None, color=False)(main)()
    return len(PYSNOOPER_EVENT.findall(out.getvalue()))


def with_snoop(context: str) -> int:
    """How many calls and returns it printed."""
    linecache.cache[FILE_NAME] = (len(context), None, context.splitlines(True), FILE_NAME)
    out, main = io.StringIO(), define(context)
    snoop.Config(out=out, color=False, columns=()).snoop(depth=DEEP)(main)()
    return len(SNOOP_EVENT.findall(out.getvalue()))
