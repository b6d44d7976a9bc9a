"""What a predicted trace says of halting: a return, a full state that comes back, or neither.

The visible state is the line that runs and all locals of every open frame. Two frames of the trace with one state tell
of a program that goes round in circles, unless what is not visible moved on between them: a `for` loop around the line
that took its next item. Those are told by their headers, which run in between, and do not count. It is a prediction
all the same: what objects share, what iterators hold and what a model makes up show in no local.
"""

import ast
from dataclasses import dataclass, field

from cwm_jax.tracing import Trace, resolve
from cwm_jax.tracing.language import source_lines

_OF_COMPREHENSION = ".0"


@dataclass(frozen=True)
class Prediction:
    """What a predicted trace says.

    Attributes:
      verdict: `terminates`, `loops` or `unknown`.
      text: why, one sentence.
      frames: indices of the frames that show it.
      state: the locals that come back.
    """

    verdict: str
    text: str
    frames: tuple[int, ...] = ()
    state: dict[str, str] = field(default_factory=dict)


def read_off(trace: Trace, varies: str = "") -> Prediction:
    """The prediction that a trace amounts to; `varies` says what a state that comes back would depend on besides."""
    last = len(trace.frames) - 1
    if trace.complete and last >= 0 and trace.frames[last].event == "return":
        how = "raises" if last and trace.frames[last - 1].event == "exception" else "returns"
        return Prediction("terminates", f"the predicted trace {how} after {last + 1} frames", (last,))
    found = repeated_state(trace)
    if found is None:
        why = f": {trace.reason}" if trace.reason else ""
        return Prediction("unknown", f"no state comes back in {len(trace.frames)} predicted frames{why}")
    first, again = found
    state, line = resolve(trace)[again], trace.frames[again].source.strip()
    text = f"the predicted trace comes back to one state, at frames {first} and {again}: `{line}`"
    if varies:
        return Prediction("unknown", f"{text}; but what comes next depends on more, {varies}", found, state)
    return Prediction("loops", text, found, state)


def repeated_state(trace: Trace) -> tuple[int, int] | None:
    """The first two frames that show one state of all open frames, with nothing invisible known to have moved on."""
    headers = _headers(trace.context)
    open_frames: list[tuple] = []
    passed: dict[tuple[int, str], int] = {}  # depth and header of a loop -> how often it ran
    seen: dict[tuple, int] = {}
    for index, (frame, state) in enumerate(zip(trace.frames, resolve(trace))):
        if frame.event == "call":
            open_frames.append(())
        if frame.locals is not None and open_frames:
            source, depth = frame.source, len(open_frames)
            if frame.event == "line" and source in headers.lines:
                passed[depth, source] = passed.get((depth, source), 0) + 1
            turns = tuple(passed.get((depth, header), 0) for header in headers.around.get(source, ()))
            comprehension = index if _OF_COMPREHENSION in state else None
            open_frames[-1] = (frame.event, source, turns, comprehension, tuple(sorted(state.items())))
            if (before := seen.setdefault(tuple(open_frames), index)) != index:
                return before, index
        elif frame.event == "return" and open_frames:
            open_frames.pop()
    return None


@dataclass(frozen=True)
class _Headers:
    """The `for` loops of a program by the text of their lines, as not all predicted frames have line numbers.

    Attributes:
      lines: the lines that are headers.
      around: by line the headers of the loops that it is in, a header in its own. Lines with one text share them all.
    """

    lines: frozenset[str]
    around: dict[str, tuple[str, ...]]


def _headers(context: str) -> _Headers:
    try:
        tree = ast.parse(context.removeprefix("\ufeff"))
    except (SyntaxError, ValueError):
        return _Headers(frozenset(), {})
    lines = dict(enumerate(source_lines(context), start=1))
    headers: set[str] = set()
    around: dict[str, set[str]] = {}
    for loop in ast.walk(tree):
        if isinstance(loop, (ast.For, ast.AsyncFor)):
            header = lines[loop.lineno]
            headers.add(header)
            for number in range(loop.lineno, loop.body[-1].end_lineno + 1):
                around.setdefault(lines[number], set()).add(header)
    return _Headers(frozenset(headers), {line: tuple(sorted(found)) for line, found in around.items()})
