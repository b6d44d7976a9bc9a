"""Where control goes after each line of a context, read off its syntax tree; nothing is run.

    1  for c in s:          → 2, or 5 once the loop is over
    2      if c == 'r':     → 3 if true, else back to 1
    3          n += 1       → back to 1
    5  return n             → the function ends

Exceptions, `with` on its way out, and what follows a `finally` that a `return` passes through take other ways than
those given here, and a statement over several lines goes back and forth between them.
"""

import ast
from collections.abc import Sequence
from typing import NamedTuple

from cwm_jax.tracing.source import FUNCTIONS, first_line


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

    def __init__(self, tree: ast.Module):
        self.loops: dict[int, ast.For | ast.AsyncFor | ast.While] = {}
        self.calls: dict[int, list[int]] = {}
        self._ways: dict[int, list[Step]] = {}
        self._functions = {node.name: first_line(node) for node in tree.body if isinstance(node, FUNCTIONS)}
        self._block(tree.body, END, _Jumps(END, END, END))
        # A statement that shares its line with the one before is reached within the line.
        self.steps = {
            line: tuple(dict.fromkeys(way for way in ways if way.line != line or way.again))
            for line, ways in self._ways.items()
        }

    def again(self, before: int, line: int) -> bool:
        """Whether going from line `before` to `line` of one call is another pass of the loop at `line`."""
        loop = self.loops.get(line)
        return loop is not None and loop.body[0].lineno <= before <= loop.body[-1].end_lineno

    def _block(self, body: Sequence[ast.stmt], after: Step, jumps: "_Jumps") -> None:
        """Notes the ways within a block; `after` is where control goes at its end."""
        body = _running(body)
        for index, node in enumerate(body):
            self._statement(node, _first(body[index + 1 :], after), jumps)

    def _statement(self, node: ast.stmt, then: Step, jumps: "_Jumps") -> None:
        line = first_line(node)
        ways: tuple[Step, ...] = (then,)
        match node:
            case ast.If():
                ways = (_first(node.body, then), _first(node.orelse, then))
                self._block(node.body, then, jumps)
                self._block(node.orelse, then, jumps)
            case ast.For() | ast.AsyncFor() | ast.While():
                self.loops[line] = node
                back = Step(line, again=True)
                ways = (_first(node.body, back), _first(node.orelse, then))
                self._block(node.body, back, jumps._replace(on_break=then, on_continue=back))
                self._block(node.orelse, then, jumps)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                body = _without_docstring(node)
                ways = (_first(body, END),) if node.name in self._functions else (then, _first(body, END))
                self._block(body, END, _Jumps(END, END, END))
            case ast.Try() | ast.TryStar():
                end = _first(node.finalbody, then)
                inside = _Jumps(end, end, end) if node.finalbody else jumps
                ways = (_first(node.body, end),)
                self._block(node.body, _first(node.orelse, end), inside)
                for handler in node.handlers:
                    self._note(handler.lineno, (_first(handler.body, end),))
                    self._block(handler.body, end, inside)
                self._block(node.orelse, end, inside)
                self._block(node.finalbody, then, jumps)
            case ast.With() | ast.AsyncWith():
                ways = (_first(node.body, then),)
                self._block(node.body, then, jumps)
            case ast.Match():
                heads = [Step(case.pattern.lineno) for case in node.cases]
                ways = (heads[0],)
                for case, otherwise in zip(node.cases, [*heads[1:], then]):
                    self._note(case.pattern.lineno, (_first(case.body, then), otherwise))
                    self._block(case.body, then, jumps)
            case ast.Return():
                ways = (jumps.on_return,)
            case ast.Raise():
                ways = ()
            case ast.Break():
                ways = (jumps.on_break,)
            case ast.Continue():
                ways = (jumps.on_continue,)
        self._note(line, ways)
        called = [name for name in _calls(node) if name in self._functions]
        if called:
            self.calls.setdefault(line, []).extend(self._functions[name] for name in called)

    def _note(self, line: int, ways: tuple[Step, ...]) -> None:
        self._ways.setdefault(line, []).extend(ways)


class _Jumps(NamedTuple):
    """Where jumps out of a block go."""

    on_return: Step
    on_break: Step
    on_continue: Step


def _calls(node: ast.stmt) -> list[str]:
    """Names that a statement calls, arguments before the function that takes them; not those of its blocks."""
    match node:
        case ast.If() | ast.While():
            parts = [node.test]
        case ast.For() | ast.AsyncFor():
            parts = [node.iter]
        case ast.With() | ast.AsyncWith():
            parts = [item.context_expr for item in node.items]
        case ast.Match():
            parts = [node.subject]
        case _ if hasattr(node, "body"):
            parts = []
        case _:
            parts = [node]
    found = []
    while parts:
        part = parts.pop()
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
            found.append(part)
        if not isinstance(part, ast.Lambda):
            parts.extend(ast.iter_child_nodes(part))
    return [call.func.id for call in sorted(found, key=lambda call: (call.end_lineno, call.end_col_offset))]


def _first(body: Sequence[ast.stmt], otherwise: Step) -> Step:
    body = _running(body)
    return Step(first_line(body[0])) if body else otherwise


def _running(body: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    """The statements that do something when they are reached."""
    return [
        node
        for node in body
        if not isinstance(node, (ast.Global, ast.Nonlocal)) and not (isinstance(node, ast.AnnAssign) and not node.value)
    ]


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Sequence[ast.stmt]:
    documented = not isinstance(node, ast.ClassDef) and len(node.body) > 1 and ast.get_docstring(node) is not None
    return node.body[1:] if documented else node.body
