"""Slices of a module: one definition and what it needs to run, as text."""

import ast
import builtins
import re
import symtable
import sys
from collections.abc import Iterable
from typing import NamedTuple

from cwm_jax.tracing.source import bound_names, first_line, walk_scope
from cwm_jax.tracing.trace import START_MARKER_PATTERN

_FUTURE = "__future__"  # as if it were a name that `from __future__` binds: it holds for the whole module


class Unfit(ValueError):
    """A definition cannot stand by itself; the message is a reason that can be counted."""


def check_plain(code: str) -> None:
    """Raises `Unfit` for source that could be mistaken for a part of a trace."""
    if START_MARKER_PATTERN.search(code) or "<|" in code:
        raise Unfit("source that looks like a trace")


class _Statement(NamedTuple):
    """A statement of the module's top level: its first line and its text, names that it binds, and that it needs."""

    first: int
    text: str
    binds: frozenset[str]
    needs: frozenset[str]
    imports: tuple[ast.Import | ast.ImportFrom, ...]


class Module:
    """The top level of a source file.

    Args:
      text: the source.
      package: the dotted name of the package that it is in; empty if none.

    Raises:
      Unfit: it does not parse.
    """

    def __init__(self, text: str, package: str = ""):
        self._package = package
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        try:
            self.tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            raise Unfit("syntax error on this Python") from None
        lines = text.split("\n")
        self._statements = [
            _statement(first_line(node), "\n".join(lines[first_line(node) - 1 : node.end_lineno]), node)
            for node in self.tree.body
            if not _is_text(node)
        ]
        self._binders: dict[str, list[int]] = {}
        for index, statement in enumerate(self._statements):
            for name in statement.binds:
                self._binders.setdefault(name, []).append(index)

    def slice(self, name: str) -> str:
        """The definition of `name` and every top-level statement that it reaches, in their order, text untouched but
        for relative imports, which become absolute.

        Raises:
          Unfit: it needs a module that is neither of the standard library nor of its own package, or a name that
            nothing binds.
        """
        reached = self._reached([*self._binders.get(_FUTURE, []), *self._binders[name]])
        for statement in reached:
            for node in statement.imports:
                self._check_import(node)
            if any(needed not in self._binders and needed not in _BUILTINS for needed in statement.needs):
                raise Unfit("a name that the module does not bind")
        return "\n\n".join(map(self._absolute, reached))

    def excerpt(self, lines: Iterable[int]) -> dict[int, str]:
        """The top-level statements that hold these lines and those that they reach by name, line by line.

        Unlike a slice it may need other modules, and names that nothing here binds. `from __future__` stays out.

        Raises:
          Unfit: one of the lines lies outside of all statements.
        """
        reached = self._reached(map(self._place, lines))
        kept = [statement for statement in reached if _FUTURE not in statement.binds]
        return {at: line for one in kept for at, line in enumerate(one.text.split("\n"), one.first)}

    def future(self) -> list[str]:
        """The text of its `from __future__` imports."""
        return [self._statements[index].text for index in self._binders.get(_FUTURE, [])]

    def _check_import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            raise Unfit("a star import")
        modules = [self._source(node)] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        own = {self._package.partition(".")[0]} - {""}
        for module in modules:
            if module.partition(".")[0] not in sys.stdlib_module_names | own:
                raise Unfit("a module that is neither its package's nor the standard library's")

    def _source(self, node: ast.ImportFrom) -> str:
        """The absolute name of what it imports from."""
        if not node.level:
            return node.module or ""
        parents = self._package.split(".")
        if not self._package or node.level > len(parents):
            raise Unfit("an import from outside of its package")
        return ".".join(parents[: len(parents) - node.level + 1] + [node.module] * bool(node.module))

    def _absolute(self, statement: "_Statement") -> str:
        text = statement.text
        for node in statement.imports:
            if isinstance(node, ast.ImportFrom) and node.level:
                dots = rf"from\s*{'[.]' * node.level}\s*{re.escape(node.module or '')}\s+import\b"
                text = re.sub(dots, f"from {self._source(node)} import", text, count=1)
        return text

    def _place(self, line: int) -> int:
        """Index of the statement that holds a line."""
        for index, statement in enumerate(self._statements):
            if statement.first <= line <= statement.first + statement.text.count("\n"):
                return index
        raise Unfit("a line outside of all statements")

    def _reached(self, start: Iterable[int]) -> list[_Statement]:
        """The statements with these indices and all that they reach by name, in their order."""
        wanted, pending = set(), list(start)
        while pending:
            index = pending.pop()
            if index not in wanted:
                wanted.add(index)
                for needed in self._statements[index].needs:
                    pending += self._binders.get(needed, [])
        return [self._statements[index] for index in sorted(wanted)]


_BUILTINS = {
    *dir(builtins),
    *("__name__", "__file__", "__doc__", "__debug__", "__class__", "__spec__", "__package__", "__loader__"),
}


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _statement(first: int, text: str, node: ast.stmt) -> _Statement:
    imports = tuple(part for part in walk_scope([node]) if isinstance(part, (ast.Import, ast.ImportFrom)))
    binds = bound_names([node]) | {_FUTURE for part in imports if getattr(part, "module", "") == _FUTURE}
    return _Statement(first, text, frozenset(binds), frozenset(_needed(text, node)), imports)


def _needed(text: str, node: ast.stmt) -> set[str]:
    """Names that the statement looks up in the module, now or when its functions run."""
    if isinstance(node, ast.ImportFrom) and node.module == _FUTURE:
        return set()
    pending, names = [symtable.symtable(text, "module", "exec")], set()
    while pending:
        table = pending.pop()
        pending += table.get_children()
        top = table.get_type() == "module"
        names |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (top or symbol.is_global() or symbol.is_declared_global())
        }
    return names
