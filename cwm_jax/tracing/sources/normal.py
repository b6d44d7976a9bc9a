"""The normal form of a program: its syntax tree without what the reader of a trace could rename or leave out."""

import ast
import re
from collections.abc import Iterable, Sequence

from cwm_jax.tracing.source import FUNCTIONS, walk_scope
from cwm_jax.tracing.trace import START_MARKER_PATTERN

_BLOCKS = (*FUNCTIONS, ast.ClassDef, ast.Module)
# Where each kind of node writes down a name that it binds, as plain text. Names that are nodes are `ast.Name`.
_BINDINGS = {
    ast.FunctionDef: "name", ast.AsyncFunctionDef: "name", ast.ClassDef: "name", ast.arg: "arg",
    ast.ExceptHandler: "name", ast.MatchAs: "name", ast.MatchStar: "name", ast.MatchMapping: "rest",
}  # fmt: skip


def parse_unmarked(code: str) -> ast.Module:
    """The tree of `code` without a marked function that does nothing but make one call.

    Such a wrapper only names an input (CWM's `main`). A marked function with a body of its own stays.

    Raises:
      SyntaxError, ValueError, RecursionError: what `ast.parse` raises for text that is no program.
    """
    lines, tree = re.split("\r\n|\r|\n", code), ast.parse(code)
    tree.body = [node for node in tree.body if not (_only_calls(node) and _marked(node, lines))]
    return tree


def bare(tree: ast.Module) -> ast.Module:
    """`tree` itself, changed: docstrings and the annotations of signatures are gone; neither changes what is done."""
    return _Bare().visit(tree)


def normalise(tree: ast.Module) -> ast.Module:
    """`tree` itself, changed: names that its own code binds are numbered, docstrings and signatures' annotations gone.

    Two programs with one normal form differ in names, layout and comments alone. To be safe in that direction,
    every name that is also looked up by its spelling keeps it: attributes, names bound in a class, keywords of calls.
    """
    nodes = list(ast.walk(bare(tree)))
    own = set(own_names(nodes))
    numbers: dict[str, str] = {}

    def numbered(name: str) -> str:  # no identifier, so no free name can be mistaken for it
        return numbers.setdefault(name, f"#{len(numbers)}") if name in own else name

    for node in nodes:
        if isinstance(node, ast.Name):
            node.id = numbered(node.id)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            node.names = [numbered(name) for name in node.names]
        elif isinstance(node, ast.alias) and _local_name(node):
            node.asname = numbered(_local_name(node))
        elif (field := _BINDINGS.get(type(node))) and getattr(node, field):
            setattr(node, field, numbered(getattr(node, field)))
    return tree


def own_names(nodes: Sequence[ast.AST]) -> list[str]:
    """The names that code binds and that are looked up in no other way, each once: others may stand in their place."""
    kept = _spelled(nodes)
    return [name for name in dict.fromkeys(_bound(nodes)) if name not in kept]


def is_numbered(name: object) -> bool:
    """Whether `normalise` put this in a name's place."""
    return isinstance(name, str) and name.startswith("#") and name[1:].isdigit()


class _Bare(ast.NodeTransformer):
    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node, _BLOCKS) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, FUNCTIONS):
            node.returns = node.type_comment = None
        if isinstance(node, ast.arg):
            node.annotation = node.type_comment = None
        return node


def _bound(nodes: Iterable[ast.AST]) -> Iterable[str]:
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.alias) and _local_name(node):
            yield _local_name(node)
        elif (field := _BINDINGS.get(type(node))) and getattr(node, field):
            yield getattr(node, field)


def _spelled(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that code reaches by spelling: keywords of calls, and all that a class body binds."""
    keywords = {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    return keywords.union(*(_bound(walk_scope(node.body)) for node in classes))


def _local_name(alias: ast.alias) -> str:
    """What an import binds here, where that can be renamed; empty for `import a.b` and `*`."""
    return alias.asname or (alias.name if alias.name.isidentifier() else "")


def _only_calls(node: ast.stmt) -> bool:
    if not isinstance(node, FUNCTIONS) or len(node.body) != 1 or ast.unparse(node.args):
        return False
    value = getattr(node.body[0], "value", None)
    return isinstance(value.value if isinstance(value, ast.Await) else value, ast.Call)


def _marked(node: ast.stmt, lines: list[str]) -> bool:
    return START_MARKER_PATTERN.search(lines[node.lineno - 1]) is not None
