"""`Trace`: what one run of a program did, in the terms of CWM's trace language.

Everything reads and writes traces through these two types. A frame holds what
the text holds, so `parse(render(t)) == t`; what the text cannot carry (line
numbers, the verdict, which Python ran) rides along outside the comparison.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Event = Literal["call", "line", "return", "exception"]
EVENTS: tuple[Event, ...] = ("call", "line", "return", "exception")

START_MARKER = "  # << START_OF_TRACE"
START_MARKER_PATTERN = re.compile(r"[ \t]*# << START_OF_TRACE[ \t]*$", re.MULTILINE)
UNCHANGED = ".."


@dataclass(frozen=True)
class Frame:
    """One event of a run.

    Attributes:
      event: what happened.
      source: the physical source line, indentation and newline kept, start marker removed.
      locals: `(name, repr)` pairs in `f_locals` order for call and line frames, with
        `".."` for a value that equals the preceding frame's; None otherwise.
      value: `repr` of the returned value or of the exception; None for call and line frames.
      line: 1-based line number in the context; None where it is not known.
      hidden: what locals do not show, as `(name, text)` pairs (see `hidden.py`); None where that was not recorded.
        No part of CWM's text.
    """

    event: Event
    source: str
    locals: tuple[tuple[str, str], ...] | None = None
    value: str | None = None
    line: int | None = field(default=None, compare=False)
    hidden: tuple[tuple[str, str], ...] | None = field(default=None, compare=False)

    def __init__(self, event, source, locals=None, value=None, line=None, hidden=None):
        fields = self.__dict__  # half the time of the `__init__` that a frozen dataclass gets; there are millions
        fields["event"] = event
        fields["source"] = source
        fields["locals"] = locals
        fields["value"] = value
        fields["line"] = line
        fields["hidden"] = hidden

    def values(self) -> Iterator[str]:
        """The texts of its values, hidden ones included; not of those that are unchanged."""
        yield from (text for _, text in (*(self.locals or ()), *(self.hidden or ())) if text != UNCHANGED)
        if self.value is not None:
            yield self.value


@dataclass(frozen=True)
class Trace:
    """A run of the marked entry of `context`.

    Attributes:
      context: the source text that stands between `<|trace_context_start|>` and the frames.
      frames: what happened, in order.
      complete: whether the entry scope was left, that is whether the text ends in `<|end_of_text|>`.
      verdict: `returned`, `raised`, or the cap or fault that ended the run; `""` for a parsed trace.
      reason: one sentence for people; empty when `returned`.
      python: version of the interpreter that ran the program, such as `3.11.7`; `""` if unknown.
      stdout: the start, at most 64 KiB, of what the program had printed when the trace ended; `""` if its
        interpreter died. No part of the text: CWM's format has no frame for output.
    """

    context: str
    frames: tuple[Frame, ...]
    complete: bool = True
    verdict: str = field(default="", compare=False)
    reason: str = field(default="", compare=False)
    python: str = field(default="", compare=False)
    stdout: str = field(default="", compare=False)

    def values(self) -> Iterator[str]:
        """Those of all frames."""
        return (text for frame in self.frames for text in frame.values())


def frame_as_json(frame: Frame) -> dict[str, object]:
    """`event`, `line` and `source`, and `locals` and what there is of `hidden` (call, line) or `value` (the others)."""
    content = {"value": frame.value} if frame.locals is None else {"locals": dict(frame.locals)}
    if frame.hidden is not None:
        content["hidden"] = dict(frame.hidden)
    return {"event": frame.event, "line": frame.line, "source": frame.source, **content}
