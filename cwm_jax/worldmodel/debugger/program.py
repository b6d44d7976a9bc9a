"""The program that is debugged: its file, its lines, the functions they belong to."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType

from cwm_jax.tracing.language import source_lines
from cwm_jax.tracing.lines import code_lines
from cwm_jax.tracing.trace import START_MARKER_PATTERN
from cwm_jax.tracing.wrap import context_of


@dataclass(frozen=True)
class Program:
    """A context, and the file that it was made of.

    Attributes:
      context: source with a marked entry; frames number its lines.
      path: the file; "" where there is none.
      shift: how many lines stand in the context before the first of the file.
      length: lines of the file; those behind it were added to call a function.
    """

    context: str
    path: str = ""
    shift: int = 0
    length: int = 0

    @classmethod
    def of(cls, target: str, arguments: str | None = None) -> "Program":
        """The program of `FILE` or `FILE:FUNC`; raises what `context_of` and `of_context` raise."""
        context = context_of(target, arguments)
        path = target if Path(target).exists() else target.rpartition(":")[0]
        text = Path(path).read_bytes().decode()
        return cls.of_context(context, path, int(text != context), len(source_lines(text.rstrip("\n"))))

    @classmethod
    def of_context(cls, context: str, path: str = "", shift: int = 0, length: int | None = None) -> "Program":
        """A program that may stand in no file.

        Raises:
          ValueError: it does not parse, or marks no function.
        """
        program = cls(context, path, shift, len(source_lines(context)) if length is None else length)
        if not START_MARKER_PATTERN.search(context):
            raise ValueError("the program has no start marker; write '# << START_OF_TRACE' after a def line")
        try:
            program._codes  # noqa: B018
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"the program does not parse: {error}") from None
        return program

    @cached_property
    def lines(self) -> list[str]:
        """The physical lines of the context as frames show them; the first is number 1."""
        return source_lines(self.context)

    @property
    def last(self) -> int:
        """The number of the last line of the context that is not empty."""
        return len("".join(self.lines).rstrip().split("\n"))

    def shown(self, line: int) -> int | None:
        """The line of the file that a line of the context is; None for one that was added."""
        number = line - self.shift
        return number if 1 <= number <= self.length else None

    def line(self, shown: int) -> int:
        """The line of the context that a line of the file is."""
        return shown + self.shift

    def place(self, line: int) -> str:
        """A line for people: its number in the file, or what stands there in place of one."""
        number = self.shown(line)
        return "start" if number is None else str(number)

    def stops(self, line: int) -> bool:
        """Whether a run may stop at a line of the context: code stands there."""
        return any(line in lines for _, lines in self._codes)

    def next_stop(self, line: int) -> int | None:
        """The first line from `line` on at which a run may stop."""
        return min((number for _, lines in self._codes for number in lines if number >= line), default=None)

    def function_line(self, name: str) -> int | None:
        """The line of the call of a function, by its name or qualified name."""
        found = (code.co_firstlineno for code, _ in self._codes if name in (code.co_name, code.co_qualname))
        return next(found, None)

    def function(self, line: int, names: tuple[str, ...]) -> CodeType | None:
        """The code of the scope that is entered at a line of the context with these locals."""
        inside = [code for code, lines in self._codes if line == code.co_firstlineno or line in lines]
        for found in ([code for code in inside if code.co_firstlineno == line], inside):
            fitting = [code for code in found if set(names) <= _variables(code)]
            if fitting:
                return fitting[-1]
        return inside[-1] if inside else None

    def lines_of(self, code: CodeType) -> frozenset[int]:
        """The lines at which a run may stop within a function."""
        return next(lines for known, lines in self._codes if known is code)

    @cached_property
    def _codes(self) -> list[tuple[CodeType, frozenset[int]]]:
        return code_lines(self.context)


def _variables(code: CodeType) -> set[str]:
    return {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
