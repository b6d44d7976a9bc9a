"""What a narrator reads off the source: which code starts where, and the heads and bodies of conditions and loops."""

import ast
import warnings
from collections import defaultdict
from typing import Literal, NamedTuple

from cwm_jax.tracing.language import source_lines
from cwm_jax.tracing.narration.wording import quote

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = {
    ast.ListComp: "list comprehension",
    ast.SetComp: "set comprehension",
    ast.DictComp: "dict comprehension",
    ast.GeneratorExp: "generator expression",
}
_PAUSES = (ast.Yield, ast.YieldFrom, ast.Await, ast.AsyncFor, ast.AsyncWith)
_SCOPES = (*_FUNCTIONS, ast.Lambda, ast.ClassDef, *_COMPREHENSIONS)
_SILENT = (ast.Global, ast.Nonlocal)  # statements that no event stops at


class Code(NamedTuple):
    """A piece of code with frames of its own.

    Attributes:
      name: as a sentence calls it.
      kind: `inline` stands within the lines of other code: a lambda, a comprehension, or what cannot be told.
      first: the line at which it is first called.
      last: its last line.
      pauses: whether it may hand something back and go on later.
    """

    name: str
    kind: Literal["function", "class", "inline"]
    first: int
    last: int
    pauses: bool = False


class Block(NamedTuple):
    """An `if`, `while` or `for`.

    Attributes:
      kind: which of them.
      head: its first line; the head ends where the body begins.
      body: first line of the body; `head` where both share one.
      end: last line of the body.
      names: what its condition reads, or its `for` binds.
      sure: whether the next event shows that the body was not entered.
    """

    kind: Literal["if", "while", "for"]
    head: int
    body: int
    end: int
    names: tuple[str, ...]
    sure: bool

    def in_head(self, line: int) -> bool:
        return self.head <= line < max(self.body, self.head + 1)

    def in_body(self, line: int) -> bool:
        return self.body <= line <= self.end


class Syntax:
    """The source of a context.

    Attributes:
      blocks: the block to whose head a line belongs.
      yields: the lines that begin with a whole statement `yield …` or `x = yield …`.
    """

    def __init__(self, context: str):
        """Parses `context`.

        Raises:
          ValueError: it does not parse.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's opinions on the code of others
                tree = ast.parse(text := "".join(source_lines(context)).removeprefix("\ufeff"))
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError(f"the context does not parse with this Python: {error}") from None
        self._lines = text.split("\n")
        self.blocks: dict[int, Block] = {}
        self.yields: set[int] = set()
        self._starts: dict[int, set[Code]] = defaultdict(set)
        self._comprehensions: dict[int, set[Code]] = defaultdict(set)
        self._functions: list[Code] = []
        self._pauses: set[int] = set()
        waiting: list[tuple[ast.AST, str]] = [(tree, "")]
        while waiting:
            node, prefix = waiting.pop()
            self._read(node, prefix)
            if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                prefix = f"{prefix}{node.name}."
            waiting += [(child, prefix) for child in ast.iter_child_nodes(node)]

    def called(self, line: int, local: dict[str, str]) -> Code:
        """The code that a call frame at `line` with these locals enters, for the first time or to go on."""
        if ".0" in local:
            found = self._comprehensions[line]
            default = Code(f"the comprehension on line {line}", "inline", line, line, True)
        else:
            inside = [code for code in self._functions if code.first <= line <= code.last]
            around = max(inside, key=lambda code: code.first, default=None)
            found = self._starts[line] or {around} - {None}
            if line in self._pauses and around:
                found = found | {around}
            default = Code(f"the code on line {line}", "inline", line, line, True)
        return next(iter(found)) if len(found) == 1 else default

    def _read(self, node: ast.AST, prefix: str) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                pauses = isinstance(node, ast.AsyncFunctionDef) or _pauses(node.body)
                code = Code(quote(prefix + node.name), "function", _first(node), node.end_lineno, pauses)
                self._starts[code.first].add(code)
                self._functions.append(code)
            case ast.ClassDef():
                name = f"the body of class {quote(prefix + node.name)}"
                self._starts[_first(node)].add(Code(name, "class", _first(node), node.end_lineno))
            case ast.Lambda():
                name = f"the lambda on line {node.lineno}"
                self._starts[node.lineno].add(Code(name, "inline", node.lineno, node.end_lineno, _pauses([node.body])))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                lazy = isinstance(node, ast.GeneratorExp) or _pauses(list(ast.iter_child_nodes(node)))
                name = f"the {_COMPREHENSIONS[type(node)]} on line {node.lineno}"
                self._comprehensions[node.lineno].add(Code(name, "inline", node.lineno, node.end_lineno, lazy))
            case ast.If() | ast.While() | ast.For() | ast.AsyncFor():
                self._read_block(node)
            case ast.Expr(value=ast.Yield()) | ast.Assign(value=ast.Yield()):
                line = self._lines[node.lineno - 1]
                if node.lineno == node.end_lineno and not line[: node.col_offset].strip():
                    self.yields.add(node.lineno)
        if isinstance(node, _PAUSES):
            self._pauses |= set(range(node.lineno, node.end_lineno + 1))

    def _read_block(self, node: ast.If | ast.While | ast.For | ast.AsyncFor) -> None:
        kind = "if" if isinstance(node, ast.If) else "while" if isinstance(node, ast.While) else "for"
        subject, read = (node.target, node.iter) if kind == "for" else (node.test, node.test)
        names = {part.id: None for part in ast.walk(subject) if isinstance(part, ast.Name)}
        body = min(map(_first, node.body))
        if body <= read.end_lineno:
            body = node.lineno
        silent = all(isinstance(part, _SILENT) or _only_annotates(part) for part in node.body)
        sure = not (silent or body == node.lineno or isinstance(node, ast.AsyncFor) or _pauses([read]))
        block = Block(kind, node.lineno, body, node.body[-1].end_lineno, tuple(names), sure)
        self.blocks.update(dict.fromkeys(range(block.head, max(body, block.head + 1)), block))


def _first(node: ast.stmt) -> int:
    """The line at which a statement begins, its decorators included."""
    return min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", []))])


def _only_annotates(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and node.value is None


def _pauses(nodes: list[ast.AST]) -> bool:
    """Whether these nodes, without the code of scopes inside, may pause."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, _PAUSES) or (isinstance(node, ast.comprehension) and node.is_async):
            return True
        if not isinstance(node, _SCOPES):
            waiting += ast.iter_child_nodes(node)
    return False
