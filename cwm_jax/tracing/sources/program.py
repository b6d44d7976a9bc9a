"""`Program`: a function to run and the inputs to run it on, and the forms of it that identify it."""

import ast
import hashlib
import re
from dataclasses import dataclass

from cwm_jax.tracing.trace import START_MARKER_PATTERN
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
    """Hash of the normalised AST: names and layout do not count, constants and structure do.

    Two programs with one fingerprint are the same program; splits keep them on one side. The
    function that carries the start marker only names an input, so it does not count.
    """
    lines = code.split("\n")
    tree = ast.parse(code)
    tree.body = [node for node in tree.body if not START_MARKER_PATTERN.search(lines[node.lineno - 1])]
    names: dict[str, str] = {}

    def canonical(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}")

    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    bound = defined | {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in bound:
            node.id = canonical(node.id)
        elif isinstance(node, ast.arg):
            node.arg = canonical(node.arg)
        elif isinstance(node, ast.FunctionDef):
            node.name = canonical(node.name)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
