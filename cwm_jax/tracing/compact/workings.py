"""What a line is about to compute, written out step by step.

    if letter != c:       with letter = 'g', c = 'g'    →   letter:'g' != c:'g', then False
    if i % 3 == 0:        with i = 4                    →   i:4 % 3 == 0, then 1 == 0, then False
    total += n            with total = 17, n = 5        →   total:17 + n:5, then 12 (the last digits), then 22
    if len(xs) < 2:       with xs = [7]                 →   xs<|0|>7<|1|>, then 1 < 2, then True
    for c in word:        with word = 'ab'              →   word<|0|>'a'<|1|>'b'<|2|>, then <|0|>; later <|1|>, <|2|>

A tiny model that may write this down before it decides needs one simple look-up for each
token; deciding at once needs the whole chain of them in a single token. A value is looked up
behind its name (the `:` is the symbol that also stands between a local and its value), so the
look-up is the simplest that attention knows: what came after this the last time? Made from the
text of the source and of the locals alone; nothing is run. After scratchpads (arXiv 2112.00114).
"""

import ast
import operator
import re
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice

from cwm_jax.tracing.compact.symbols import EQUALS, IS_CONTROL, NAME_END, PASSES, plain

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
_UNKNOWN = (SyntaxError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError, MemoryError)
_BARE_FIELD = re.compile(r"(?<!\{)\{(\w+)(?=[:}])")  # a name in the braces of an f-string
_OPAQUE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.NamedExpr)


class Workings:
    """The workings of every line of one context, loops excepted."""

    def __init__(self, tree: ast.Module, lines: list[str]):
        self._lines = lines
        self._shown: dict[int, ast.expr | ast.AugAssign] = {}
        self._inside: dict[int, ast.Subscript | None] = {}  # lines whose value ends up inside a container
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            shown = _to_show(node)
            if shown is None or node.lineno != shown.end_lineno or not self._lines[node.lineno - 1].isascii():
                continue
            if node.lineno in self._shown:
                continue
            if _hands_over(shown, functions):
                shown = ast.Tuple(shown.args)  # the arguments one by one, which the call that follows names anew
            self._shown[node.lineno] = shown
            if isinstance(node, ast.Expr):
                self._inside[node.lineno] = None
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
                self._inside[node.lineno] = node.targets[0]

    def of(self, line: int, state: dict[str, str]) -> list[str]:
        """The steps of line `line` (1-based) when the locals are `state` (full values); none for most lines."""
        node = self._shown.get(line)
        if node is None:
            return []
        if isinstance(node, ast.Name):
            return _looked_up(node.id, state) or [node.id]
        if isinstance(node, ast.Tuple):
            return _parts(node, state)
        steps: list[list[str]] = []
        if place := self._inside.get(line):
            member = ast.Compare(place.slice, [ast.In()], [place.value])
            steps += [[*self._filled(place.slice, state), f" in {self._source(place.value)}"], _sought(member, state)]
            steps.append(_entry(place, state))
        counted = self._counted(node, state)
        steps += [counted] if counted else [self._filled(node, state)]
        if isinstance(node, ast.JoinedStr):
            steps.append(_shown_whole(node, state))
        sought = _sought(node, state)
        steps += [sought] if sought else [self._reduced(node, state, bool(counted)), [_last_digits(node, state)]]
        if line in self._inside or (isinstance(node, ast.Compare) and not sought):
            steps.append([self._outcome(node, state)])  # before a container is copied
        return _joined(steps, "" if line in self._inside else self._source(node))

    def loop(self, iterable: ast.expr, state: dict[str, str]) -> list[str]:
        """What a `for` over an expression yields, counted off, the local that it is made of or its bounds before."""
        if (found := elements(iterable, state)) is None:
            return []
        before: list[str] = []
        if isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "range":
            if iterable.lineno == iterable.end_lineno and self._lines[iterable.lineno - 1].isascii():
                values = ", ".join(self._outcome(bound, state) for bound in iterable.args)
                before = _joined([self._filled(iterable, state), [f"range({values})"]], self._source(iterable))
        else:
            names = [child.id for child in ast.walk(iterable) if isinstance(child, ast.Name) and child.id in state]
            before = names[:1]
        return [*before, *count_off(found)]

    def _source(self, node: ast.AST) -> str:
        return self._lines[node.lineno - 1][node.col_offset : node.end_col_offset]

    def _filled(self, node: ast.expr | ast.AugAssign, state: dict[str, str]) -> list[str]:
        """The source of an expression, each local in it followed by its value; containers are named only."""
        if isinstance(node, ast.AugAssign):
            left, right = self._filled(node.target, state), self._filled(node.value, state)
            right = ["(", *right, ")"] if isinstance(node.value, ast.BinOp) else right
            return [*left, f" {_OPERATORS[type(node.op)][0]} ", *right]
        line, start = self._lines[node.lineno - 1], node.col_offset
        text = line[start : node.end_col_offset]
        if _formats(node):  # places within f-strings are not reliable on 3.11
            spans = [field.span(1) for field in _BARE_FIELD.finditer(text)]
        else:
            names = [child for child in ast.walk(node) if isinstance(child, ast.Name)]
            spans = sorted((name.col_offset - start, name.end_col_offset - start) for name in names)
        pieces, done = [], 0
        for first, end in spans:
            if (value := state.get(text[first:end])) and _is_scalar(value):
                pieces += [text[done:first], text[first:end], NAME_END, value]
                done = end
        return [piece for piece in (*pieces, text[done:]) if piece]

    def _counted(self, node: ast.AST, state: dict[str, str]) -> list[str]:
        """The elements of the first local whose `len` or part an expression takes, or that it joins, counted off."""
        for child in ast.walk(node):
            before: list[str] = []
            match child:
                case (
                    ast.Call(func=ast.Name("len"), args=[ast.Name() as measured])
                    | ast.Subscript(value=ast.Name() as measured, slice=ast.Slice())
                ):
                    pass
                case ast.Call(
                    func=ast.Attribute(value=ast.Constant() as glue, attr="join"), args=[ast.Name() as measured]
                ):
                    before = [self._source(glue), " "]
                case _:
                    continue
            found = elements(measured, state)
            return [] if found is None else [*before, measured.id, *count_off(found)]
        return []

    def _reduced(self, node: ast.expr | ast.AugAssign, state: dict[str, str], named: bool) -> list[str]:
        """The two sides of an operator, each worked out as far as it goes; locals by name where `named`."""
        match node:
            case ast.Compare(left=left, ops=[operation], comparators=[right]):
                symbol = _COMPARISONS[type(operation)][0] if type(operation) in _COMPARISONS else ""
            case (
                ast.BinOp(left=left, op=operation, right=right) | ast.AugAssign(target=left, op=operation, value=right)
            ):
                symbol = _OPERATORS[type(operation)][0] if type(operation) in _OPERATORS else ""
            case _:
                return []
        if not symbol:
            return []
        return [*self._side(left, state, named), f" {symbol} ", *self._side(right, state, named)]

    def _side(self, node: ast.expr, state: dict[str, str], named: bool) -> list[str]:
        value = self._outcome(node, state)
        if not value or not _is_scalar(value):
            return self._filled(node, state)
        return [node.id, NAME_END, value] if named and isinstance(node, ast.Name) else [value]

    def _outcome(self, node: ast.expr | ast.AugAssign, state: dict[str, str]) -> str:
        """The value of an expression where it is known without running anything, else nothing."""
        try:
            return repr(_value(node, state))
        except _UNKNOWN:
            return ""


def _parts(node: ast.Tuple, state: dict[str, str]) -> list[str]:
    """The names and constants in a tuple one by one: copied before brackets within brackets are to be closed."""
    parts: list[list[str]] = []
    for part in node.elts:
        match part:
            case ast.Name(name):
                parts.append(_looked_up(name, state))
            case ast.Constant(value) if _is_short(repr(value)):
                parts.append([repr(value)])
    if len(parts) < len(node.elts) or not all(parts) or all(len(part) == 1 for part in parts):
        return []
    return [piece for part in parts for piece in (EQUALS, *part)][1:]


def _looked_up(name: str, state: dict[str, str]) -> list[str]:
    """A local and its value; nothing where there is none, or it is long."""
    value = state.get(name, "")
    return [name, NAME_END, value] if value and _is_short(value) else []


def _joined(steps: list[list[str]], source: str) -> list[str]:
    """Steps one after another, without those that say nothing new: `source` is what the line itself says."""
    said, pieces = {source}, []
    for step in steps:
        plain_text = _without_names(step)
        if not plain_text or plain_text in said or not all(map(_is_short, step)):
            continue
        said.add(plain_text)
        pieces += [EQUALS, *step] if pieces and step[0] not in ("True", "False") else step
    return pieces


def _without_names(step: list[str]) -> str:
    """A step as text, of locals the values alone."""
    return "".join(piece for piece, after in zip(step, [*step[1:], ""]) if NAME_END not in (piece, after))


def _last_digits(node: ast.AST, state: dict[str, str]) -> str:
    """What the last digits of a sum or difference come to, where there are more: so the carry is known in time."""
    match node:
        case ast.BinOp(left=left, op=operation, right=right) | ast.AugAssign(target=left, op=operation, value=right):
            pass
        case _:
            return ""
    try:
        one, other = _value(left, state), _value(right, state)
    except _UNKNOWN:
        return ""
    if type(one) is not int or type(other) is not int or min(one, other) < 0 or max(one, other) < 10:
        return ""
    if isinstance(operation, ast.Add):
        return repr(one % 10 + other % 10)
    return repr(one % 10 - other % 10) if isinstance(operation, ast.Sub) and one >= other else ""


def count_off(found: Sequence[str]) -> list[str]:
    """Elements, each after its number, and how many there are."""
    return [piece for number, text in zip(PASSES, found) for piece in (number, *plain(text))] + [PASSES[len(found)]]


def _shown_whole(node: ast.JoinedStr, state: dict[str, str]) -> list[str]:
    """The container that an f-string shows: its quotes decide those of the result."""
    fields = [value.value for value in node.values if isinstance(value, ast.FormattedValue)]
    names = [field.id for field in fields if isinstance(field, ast.Name)]
    containers = [name for name in names if not _is_scalar(state.get(name, "'"))]
    return _looked_up(containers[0], state) if len(containers) == 1 else []


def _formats(node: ast.AST) -> bool:
    return any(isinstance(child, ast.JoinedStr) for child in ast.walk(node))


def _is_scalar(value: str) -> bool:
    return value[:1] not in ("[", "{", "(", "<")


def _is_short(piece: str) -> bool:
    """Whether a piece of a step may be shown: it is no mistakable symbol, and costs less than it helps."""
    return len(piece) <= _LONGEST and "\n" not in piece and (piece not in IS_CONTROL or piece in (NAME_END, *PASSES))


def _sought(node: ast.AST, state: dict[str, str]) -> list[str]:
    """The elements that `in` looks at, counted off up to the one it finds, and whether it does."""
    match node:
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as operation], comparators=[container]):
            try:
                value, found = repr(_value(left, state)), elements(container, state)
            except _UNKNOWN:
                return []
            if found is None or (value[:1] in "'\"" and len(value) != 3):
                return []  # a string of several letters is no element of a string
            there = value in found
            looked_at = found[: found.index(value) + 1] if there else found
            return [*count_off(looked_at)[: -1 if there else None], str(there == isinstance(operation, ast.In))]
    return []


def _entry(place: ast.Subscript, state: dict[str, str]) -> list[str]:
    """The entry of a dict that a line replaces, if there is one."""
    try:
        table, key = _value(place.value, state), _value(place.slice, state)
        return [f"{key!r}: {table[key]!r}"] if isinstance(table, dict) and key in table else []
    except (*_UNKNOWN, TypeError):  # a key that cannot be hashed
        return []


def _hands_over(node: ast.AST | None, functions: set[str]) -> bool:
    """Whether an expression is a call of one of `functions` with nothing to work out."""
    match node:
        case ast.Call(func=ast.Name(name), args=arguments, keywords=[]) if name in functions:
            return all(isinstance(argument, (ast.Name, ast.Constant)) for argument in arguments)
    return False


def elements(iterable: ast.expr, state: dict[str, str]) -> list[str] | None:
    """What iterating over an expression yields, as text, when the locals are `state`.

    What `enumerate` numbers stands without its numbers. None where this takes more than literals, names,
    `range`, `enumerate` and views of dicts, or `PASSES` are too few.
    """
    try:
        found = list(islice(_iterated(iterable, state), len(PASSES)))
    except _UNKNOWN:
        return None
    return found if len(found) < len(PASSES) else None


def _iterated(node: ast.expr, state: dict[str, str]) -> Iterable[str]:
    match node:
        case ast.Call(func=ast.Attribute(value=table, attr="keys" | "values" | "items" as view), args=[], keywords=[]):
            return map(repr, getattr(_value(table, state), view)())
        case ast.Call(func=ast.Name("enumerate"), args=[numbered], keywords=[]):
            return _iterated(numbered, state)
        case ast.Call(func=ast.Name("range"), args=bounds, keywords=[]):
            return map(repr, range(*(_value(bound, state) for bound in bounds))[: len(PASSES)])
    return map(repr, _value(node, state))


def _to_show(node: ast.AST) -> ast.expr | ast.AugAssign | None:
    """What of a statement is worth writing out; None where its value will be seen at once anyway."""
    shown = None
    if isinstance(node, (ast.If, ast.While)):
        shown = node.test
    elif isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS:
        shown = node
    elif isinstance(node, (ast.Assign, ast.Return)):
        shown = node.value
        if isinstance(shown, ast.Name) or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)):
            return shown
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and len(node.value.args) == 1:
        shown = node.value.args[0]
        if isinstance(shown, ast.Name):
            return shown
    if shown is None or isinstance(shown, (ast.Name, ast.Constant)):
        return None
    if isinstance(node, ast.Return) and isinstance(shown, ast.Tuple):
        return shown
    if isinstance(shown, (ast.List, ast.Dict, ast.Tuple)) and not _formats(shown):
        return None
    return None if any(isinstance(child, _OPAQUE) for child in ast.walk(shown)) else shown


def _value(node: ast.expr, state: dict[str, str]) -> object:
    """The value of literals, locals, arithmetic on small whole numbers, comparisons, `len`, `max`, `min`, `dict.get`.

    Raises:
      one of `_UNKNOWN`: the expression takes more than that.
    """
    if isinstance(node, ast.Name):
        return _literal(state[node.id])
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, state), _value(node.right, state)
        if type(left) is not int or type(right) is not int or max(abs(left), abs(right)) > 10_000:
            raise ValueError
        return _OPERATORS[type(node.op)][1](left, right)
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _COMPARISONS[type(node.ops[0])][1](_value(node.left, state), _value(node.comparators[0], state))
    match node:
        case ast.Call(func=ast.Name(name), args=arguments, keywords=[]):
            return _FUNCTIONS[name](*(_value(argument, state) for argument in arguments))
        case ast.Call(func=ast.Attribute(value=text, attr="upper"), args=[], keywords=[]):
            return _value(text, state).upper()
        case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[key, default], keywords=[]):
            found = _value(table, state)
            if not isinstance(found, dict):
                raise ValueError
            return found.get(_value(key, state), _value(default, state))
    return ast.literal_eval(node)


@lru_cache(maxsize=100_000)
def _literal(text: str) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's opinions on the code of others
        return ast.literal_eval(text)
