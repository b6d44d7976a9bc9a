"""Which line a frame stands at: CWM's text copies source lines and gives no numbers.

A line that stands once in the program is told by its text. Of several that read alike, control tells: the line is one
that may come next, or at least one of the function that is open. Where both ways of a condition begin alike, nothing
that was written tells them apart, and the first is taken.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from types import CodeType

from cwm_jax.tracing.flow import Flow
from cwm_jax.tracing.language import marked_line, source_lines
from cwm_jax.tracing.trace import Frame

_DEFINES = re.compile(r"\s*(def|async|class|@)")


class LineNumbers:
    """Finds the number of the line of each frame of one trace; frames are given in their order."""

    def __init__(self, context: str):
        self._numbers: dict[str, list[int]] = {}
        for number, line in enumerate(source_lines(context), start=1):
            self._numbers.setdefault(line, []).append(number)
        self._entry = marked_line(context)
        self._open: list[int] = []  # the line that each open call is at
        self._inline: list[bool] = []  # of each whether it is of a comprehension or a lambda
        try:
            codes = code_lines(context)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._flow = Flow(ast.parse("".join(source_lines(context)).removeprefix("\ufeff")))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            codes, self._flow = [], Flow(ast.Module([], []))  # then the text alone tells
        self._first = {code.co_firstlineno for code, _ in codes}
        self._inside = [lines for _, lines in codes]

    def __call__(self, frame: Frame) -> int | None:
        """The number of its line, its own if it has one; None where the program has no such line."""
        at = self._open[-1] if self._open else self._entry
        found = frame.line
        if found is None:
            lines = self._numbers.get(frame.source, ())
            found = min(lines, key=lambda line: self._unlikely(frame, at, line), default=None)
        if frame.event == "call" or not self._open:
            self._open.append(at if found is None else found)
            self._inline.append(not _DEFINES.match(frame.source))
        elif found is not None:
            self._open[-1] = found
        if frame.event == "return":
            self._open.pop()
            self._inline.pop()
        return found

    def _unlikely(self, frame: Frame, at: int, line: int) -> tuple:
        """What speaks against a line, what weighs most first."""
        if frame.event == "call":
            called = line in self._flow.calls.get(at, ()) or (not self._open and line == self._entry)
            return line not in self._first, not called, line != at, abs(line - at)
        if frame.event != "line" or self._inline[-1]:  # it leaves, or breaks off, or is all on the line that it is at
            return line != at, not self._together(at, line), abs(line - at)
        ways = [step.line for step in self._flow.steps.get(at, ())]
        place = ways.index(line) if line in ways else len(ways)
        return place, not self._together(at, line), line <= at, abs(line - at)

    def _together(self, line: int, other: int) -> bool:
        """Whether two lines are of one function."""
        return any(line in lines and other in lines for lines in self._inside)


def code_lines(context: str) -> list[tuple[CodeType, frozenset[int]]]:
    """Every function of a program with the lines at which a run may stop in it, outer ones first.

    The module itself is not traced.

    Raises:
      SyntaxError, ValueError, RecursionError, MemoryError: it does not compile.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's opinions on the code of others
        module = compile(context.removeprefix("\ufeff"), "<context>", "exec", dont_inherit=True)
    return [(code, frozenset(line for _, _, line in code.co_lines() if line)) for code in _within(module)]


def _within(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _within(constant)
