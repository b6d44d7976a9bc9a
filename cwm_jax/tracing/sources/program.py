"""`Program`: a function to run and the inputs to run it on, and the forms of it that identify it."""

import ast
import hashlib
import re
from dataclasses import dataclass

from cwm_jax.tracing.sources.normal import normalise, parse_unmarked
from cwm_jax.tracing.wrap import wrap


@dataclass(frozen=True)
class Program:
    """One program of a source.

    Attributes:
      family: the source that made it, such as `strawberry`.
      code: its functions, without a trailing newline; the last one is the entry.
      entry: name of the function that `main` calls.
      inputs: argument lists as Python text, one for each run, such as `"'banana', 'a'"`.
    """

    family: str
    code: str
    entry: str
    inputs: tuple[str, ...]

    def contexts(self) -> list[str]:
        """One trace context for each input: the code and a marked `main` that calls it (CWM's CRUXEval wrapper)."""
        return [wrap(self.code, self.entry, arguments) for arguments in self.inputs]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.code)


def double_quoted(text: str) -> str:
    """Code with its strings in double quotes, as many people write them; those that hold a quote stay."""
    return re.sub(r"""'([^'"\\\n]*)'""", r'"\1"', text)


def fingerprint(code: str) -> str:
    """Hash of the normal form: names, layout and docstrings do not count, constants and structure do.

    Two programs with one fingerprint are the same program; splits keep them on one side. A marked
    function that does nothing but make one call only names an input, so it does not count.

    Raises:
      SyntaxError, ValueError, RecursionError: what `ast.parse` raises for text that is no program.
    """
    return hashlib.sha256(ast.dump(normalise(parse_unmarked(code))).encode()).hexdigest()[:16]
