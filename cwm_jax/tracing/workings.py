"""What a line is about to compute, written out: its expression with every local replaced by its value.

    if letter != c:       with letter = 'g', c = 'g'    →   'g' != 'g', then False
    if i % 3 == 0:        with i = 4                    →   4 % 3 == 0, then 1 == 0, then False
    total += n            with total = 7, n = 2         →   7 + 2

A tiny model that may write this down before it decides needs one simple look-up for each
token; deciding at once needs the whole chain of them in a single token. Made from the text of
the source and of the locals alone; nothing is run. After scratchpads (arXiv 2112.00114).
"""

import ast
import operator
import warnings
from collections.abc import Iterator
from functools import lru_cache

_LONGEST = 60  # characters; longer workings cost more than they help
_OPERATORS = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Mod: ("%", operator.mod),
    ast.FloorDiv: ("//", operator.floordiv),
}
_FUNCTIONS = {"len": len, "max": max, "min": min}
_COMPARISONS = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.In: ("in", lambda left, right: left in right),
    ast.NotIn: ("not in", lambda left, right: left not in right),
}
_OPAQUE = (ast.JoinedStr, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.NamedExpr)


class Workings:
    """The workings of every line of one context."""

    def __init__(self, context: str):
        self._lines = context.split("\n")
        self._shown: dict[int, ast.expr | ast.AugAssign] = {}
        for node in ast.walk(ast.parse(context)):
            shown = _to_show(node)
            if shown is not None and node.lineno == shown.end_lineno and self._lines[node.lineno - 1].isascii():
                self._shown.setdefault(node.lineno, shown)

    def of(self, line: int, state: dict[str, str]) -> Iterator[str]:
        """The steps of line `line` (1-based) when the locals are `state` (full values); none for most lines."""
        node = self._shown.get(line)
        if node is None:
            return
        if isinstance(node, ast.AugAssign):
            left, right = self._filled(node.target, state), self._filled(node.value, state)
            text = f"{left} {_OPERATORS[type(node.op)][0]} {right}"
        else:
            text = self._filled(node, state)
        if text == self._source(node) or len(text) > _LONGEST or "\n" in text:
            return
        yield text
        yield from _outcome(text)

    def _source(self, node: ast.AST) -> str:
        return self._lines[node.lineno - 1][node.col_offset : node.end_col_offset]

    def _filled(self, node: ast.expr, state: dict[str, str]) -> str:
        """The source of an expression with the locals in it replaced by their values."""
        line, start = self._lines[node.lineno - 1], node.col_offset
        text = line[start : node.end_col_offset]
        names = [child for child in ast.walk(node) if isinstance(child, ast.Name) and child.id in state]
        for name in sorted(names, key=lambda name: -name.col_offset):
            text = text[: name.col_offset - start] + state[name.id] + text[name.end_col_offset - start :]
        return text


def _to_show(node: ast.AST) -> ast.expr | ast.AugAssign | None:
    """What of a statement is worth writing out; None where its value will be seen at once anyway."""
    shown = None
    if isinstance(node, (ast.If, ast.While)):
        shown = node.test
    elif isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS:
        shown = node
    elif isinstance(node, (ast.Assign, ast.Return)):
        shown = node.value
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and len(node.value.args) == 1:
        shown = node.value.args[0]
    if shown is None or isinstance(shown, (ast.Name, ast.Constant, ast.List, ast.Dict, ast.Tuple)):
        return None
    return None if any(isinstance(child, _OPAQUE) for child in ast.walk(shown)) else shown


@lru_cache(maxsize=100_000)
def _outcome(text: str) -> tuple[str, ...]:
    """A comparison with both sides worked out, and its truth; nothing where that takes more than arithmetic."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's opinions on the code of others
            node = ast.parse(text, mode="eval").body
        if not isinstance(node, ast.Compare) or len(node.ops) != 1:
            return ()
        left, right = _value(node.left), _value(node.comparators[0])
        symbol, compare = _COMPARISONS[type(node.ops[0])]
        reduced, truth = f"{left!r} {symbol} {right!r}", str(bool(compare(left, right)))
    except (SyntaxError, ValueError, TypeError, KeyError, ArithmeticError):
        return ()
    return (truth,) if reduced == text else (reduced, truth)


def _value(node: ast.expr) -> object:
    """The value of literals, arithmetic on small whole numbers, and `len`, `max`, `min` of literals."""
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if type(left) is not int or type(right) is not int or max(abs(left), abs(right)) > 10_000:
            raise ValueError
        return _OPERATORS[type(node.op)][1](left, right)
    if isinstance(node, ast.Call):
        if node.keywords or not isinstance(node.func, ast.Name):
            raise ValueError
        return _FUNCTIONS[node.func.id](*map(_value, node.args))
    return ast.literal_eval(node)
