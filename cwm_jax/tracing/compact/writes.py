"""Which locals a statement writes, read off its syntax tree."""

import ast
from collections.abc import Iterator


class Writes:
    """The locals that each line of a context writes."""

    def __init__(self, tree: ast.Module):
        self._names: dict[int, set[str]] = {}
        self._loops: dict[int, tuple[set[str], int, int]] = {}  # for line -> targets, first and last line of the body
        for node in ast.walk(tree):
            if isinstance(node, ast.For):
                self._loops[node.lineno] = (set(_stored(node.target)), node.body[0].lineno, node.body[-1].end_lineno)
            elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.NamedExpr)):
                self._names.setdefault(node.lineno, set()).update(_stored(node))

    def between(self, line: int, after: int) -> set[str]:
        """The locals that are written when a call goes from one line to another."""
        if line in self._loops:
            targets, first, last = self._loops[line]
            return targets if first <= after <= last else set()
        return self._names.get(line, set())


def _stored(node: ast.AST) -> Iterator[str]:
    """Names that a statement binds or whose object it changes (`x = `, `x[0] = `, `x.append()`)."""
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        elif isinstance(child, (ast.Subscript, ast.Attribute)) and isinstance(child.ctx, ast.Store):
            yield from _base(child)
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and isinstance(node, ast.Expr):
            yield from _base(child.func)


def _base(node: ast.expr) -> Iterator[str]:
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id
