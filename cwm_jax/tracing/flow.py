"""Where control goes after each line of a context, read off its syntax tree; nothing is run.

    1  for c in s:          → 2, or 5 once the loop is over
    2      if c == 'r':     → 3 if true, else back to 1
    3          n += 1       → back to 1
    5  return n             → the function ends

Exceptions, and `with` on its way out, take other ways than those given here.
"""

import ast
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Step(NamedTuple):
    """A way that control may go.

    Attributes:
      line: 1-based number of the next line; 0 where the function ends.
      again: whether it is the head of a loop that another pass goes back to.
    """

    line: int
    again: bool = False


END = Step(0)


class Flow:
    """The flow of control in one context.

    Attributes:
      steps: for each line the ways from it: one, or for conditions and loops two, the one taken if true first.
      loops: for the head of each loop, its statement.
      calls: for each line the lines of the functions of the context that it calls, in the order of the calls.
    """

    def __init__(self, context: str):
        self.loops: dict[int, ast.For | ast.AsyncFor | ast.While] = {}
        self.calls: dict[int, list[int]] = {}
        self._ways: dict[int, list[Step]] = {}
        body = ast.parse(context).body
        self._functions = {node.name: node.lineno for node in body if isinstance(node, ast.FunctionDef)}
        self._block(body, END, END, END)
        # A statement that shares its line with the one before is reached within the line.
        self.steps = {
            line: tuple(dict.fromkeys(way for way in ways if way.line != line or way.again))
            for line, ways in self._ways.items()
        }

    def again(self, before: int, line: int) -> bool:
        """Whether going from line `before` to `line` of one call is another pass of the loop at `line`."""
        loop = self.loops.get(line)
        return loop is not None and loop.body[0].lineno <= before <= loop.body[-1].end_lineno

    def _block(self, body: Sequence[ast.stmt], after: Step, on_break: Step, on_continue: Step) -> None:
        """Notes the ways within a block; `after` is where control goes at its end."""
        body = _running(body)
        for index, node in enumerate(body):
            then = _first(body[index + 1 :], after)
            self._statement(node, then, on_break, on_continue)

    def _statement(self, node: ast.stmt, then: Step, on_break: Step, on_continue: Step) -> None:
        ways: tuple[Step, ...] = (then,)
        match node:
            case ast.If():
                ways = (_first(node.body, then), _first(node.orelse, then))
                self._block(node.body, then, on_break, on_continue)
                self._block(node.orelse, then, on_break, on_continue)
            case ast.For() | ast.AsyncFor() | ast.While():
                self.loops[node.lineno] = node
                back = Step(node.lineno, again=True)
                ways = (_first(node.body, back), _first(node.orelse, then))
                self._block(node.body, back, then, back)
                self._block(node.orelse, then, on_break, on_continue)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                ways = (_first(_without_docstring(node), END),)
                self._block(_without_docstring(node), END, END, END)
            case ast.ClassDef():
                self._block(node.body, END, END, END)
            case ast.Try() | ast.TryStar():
                end = _first(node.finalbody, then)
                ways = (_first(node.body, then),)
                self._block(node.body, _first(node.orelse, end), on_break, on_continue)
                for handler in node.handlers:
                    self._ways.setdefault(handler.lineno, []).append(_first(handler.body, end))
                    self._block(handler.body, end, on_break, on_continue)
                self._block(node.orelse, end, on_break, on_continue)
                self._block(node.finalbody, then, on_break, on_continue)
            case ast.With() | ast.AsyncWith():
                ways = (_first(node.body, then),)
                self._block(node.body, then, on_break, on_continue)
            case ast.Match():
                ways = ()
                for case in node.cases:
                    self._block(case.body, then, on_break, on_continue)
            case ast.Return():
                ways = (END,)
            case ast.Raise():
                ways = ()
            case ast.Break():
                ways = (on_break,)
            case ast.Continue():
                ways = (on_continue,)
        self._ways.setdefault(node.lineno, []).extend(ways)
        for called in _calls(node):
            if called in self._functions:
                self.calls.setdefault(node.lineno, []).append(self._functions[called])


def _calls(node: ast.AST) -> Iterator[str]:
    """Names that a statement calls, arguments before the function that takes them; not those of its blocks."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.expr, ast.keyword)):
            yield from _calls(child)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        yield node.func.id


def _first(body: Sequence[ast.stmt], otherwise: Step) -> Step:
    body = _running(body)
    return Step(body[0].lineno) if body else otherwise


def _running(body: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    """The statements that do something when they are reached."""
    return [node for node in body if not isinstance(node, (ast.Global, ast.Nonlocal))]


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Sequence[ast.stmt]:
    return node.body[1:] if len(node.body) > 1 and ast.get_docstring(node) is not None else node.body
