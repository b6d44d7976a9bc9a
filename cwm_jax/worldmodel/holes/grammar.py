"""Candidates for holes: expressions of what is in scope, the short ones first.

    value := name | constant | f(value) | value operator value | value[value] | function(value, …)

Names are those that the function has bound before the hole, constants those of the program and its examples. Each
expression has a kind, as far as examples and assignments tell (`int`, `str`, `list`, …, or `any`), so that little is
proposed that could only raise. Our choice throughout: CWM's authors show holes in a talk and publish no grammar.
"""

import ast
import heapq
import math
from collections.abc import Iterator
from itertools import islice, product
from typing import Protocol

from cwm_jax.tracing.source import walk_scope
from cwm_jax.worldmodel.holes.shape import Shape

Expression = tuple[str, str]  # text, kind
_ANY = "any"
_ITEMS = {"ints": "int", "strs": "str", "list": _ANY}  # kinds of lists, and of what they hold
_KINDS = {int: "int", bool: "bool", str: "str", list: "list", tuple: "list", dict: "dict", float: "int"}
_UNARY = {  # operand's kind -> texts and kinds made of it; of a list `same` is its own kind, `item` that of its items
    "int": (("-{}", "int"), ("abs({})", "int"), ("str({})", "str")),
    "list": (("len({})", "int"), ("{}[0]", "item"), ("{}[-1]", "item"), ("{}[1:]", "same"), ("{}[::-1]", "same"),
             ("sum({})", "int"), ("max({})", "item"), ("min({})", "item"), ("sorted({})", "same")),
    "str": (("len({})", "int"), ("{}[0]", "str"), ("{}[-1]", "str"), ("{}[1:]", "str"), ("{}[::-1]", "str"),
            ("{}.upper()", "str"), ("{}.lower()", "str"), ("{}.split()", "strs"), ("int({})", "int")),
    "dict": (("len({})", "int"), ("list({})", "list")),
    "bool": (("not {}", "bool"),),
}  # fmt: skip
_BINARY = (  # text, kinds of both operands, kind, whether their order matters
    ("{} + {}", "int", "int", "int", False), ("{} - {}", "int", "int", "int", True),
    ("{} * {}", "int", "int", "int", False), ("{} // {}", "int", "int", "int", True),
    ("{} % {}", "int", "int", "int", True), ("{} + {}", "str", "str", "str", True),
    ("{} + {}", "list", "list", "same", True), ("{} < {}", "int", "int", "bool", True),
    ("{} <= {}", "int", "int", "bool", True), ("{} == {}", "int", "int", "bool", False),
    ("{} != {}", "int", "int", "bool", False), ("{} == {}", "str", "str", "bool", False),
    ("{} in {}", _ANY, "list", "bool", True), ("{} in {}", "str", "str", "bool", True),
    ("{} in {}", _ANY, "dict", "bool", True), ("{}[{}]", "list", "int", "item", True),
    ("{}[{}]", "str", "int", "str", True), ("{}[{}]", "dict", _ANY, _ANY, True),
    ("max({}, {})", "int", "int", "int", False), ("min({}, {})", "int", "int", "int", False),
    ("{} % {} == 0", "int", "int", "bool", True), ("({} + {}) // 2", "int", "int", "int", False),
    ("{} and {}", "bool", "bool", "bool", True), ("{} or {}", "bool", "bool", "bool", True),
)  # fmt: skip
_DIVISIONS = ("{} // {}", "{} % {}", "{} % {} == 0")
_LARGEST = 5  # names, constants and operators of a candidate
_MOST_OF_HOLE = 20_000


class Proposer(Protocol):
    """Proposes what could stand in the holes of a program; a model that writes code can be one."""

    def propose(self, shape: Shape) -> Iterator[tuple[str, ...]]:
        """An expression for each hole, over and over, the best first."""


class Enumeration:
    """Proposes all expressions of the grammar, in the order of their size."""

    def propose(self, shape: Shape) -> Iterator[tuple[str, ...]]:
        """For several holes, by the product of the places, from 1, that their expressions have in the order of each.

        That is as if each place of a hole were as likely as its inverse: rather one odd expression than two less odd.
        """
        streams = [_Lazy(_Scope(shape, hole).expressions()) for hole in shape.holes]
        start = (0,) * len(streams)
        queue, seen = [(1, start)], {start}
        while queue:
            _, places = heapq.heappop(queue)
            chosen = [stream.at(place) for stream, place in zip(streams, places)]
            if None in chosen:
                continue
            yield tuple(chosen)
            for index in range(len(streams)):
                after = (*places[:index], places[index] + 1, *places[index + 1 :])
                if after not in seen:
                    seen.add(after)
                    heapq.heappush(queue, (math.prod(place + 1 for place in after), after))


class _Lazy:
    """A sequence that is made as far as it is looked at."""

    def __init__(self, items: Iterator[str]):
        self._items, self._made = items, []

    def at(self, place: int) -> str | None:
        """The item there; None behind the last."""
        self._made += islice(self._items, max(0, place + 1 - len(self._made)))
        return self._made[place] if place < len(self._made) else None


class _Scope:
    """What a hole can be made of."""

    def __init__(self, shape: Shape, hole: str):
        self._tree = shape.tree
        self._functions = {node.name: node for node in shape.tree.body if isinstance(node, ast.FunctionDef)}
        self._calls = [ast.parse(check.call, mode="eval").body for check in shape.checks]
        self._checks = shape.checks
        self._hole = next(n for n in ast.walk(shape.tree) if isinstance(n, ast.Name) and n.id == hole)
        around = [f for f in self._functions.values() if f.lineno <= self._hole.lineno <= f.end_lineno]
        self._function = around[0] if around else None
        self._names = self._names_in_scope(set(shape.holes))
        self._wanted = self._wanted_kind()

    def expressions(self) -> Iterator[str]:
        """The texts, shortest first, without those of a kind that the place does not take."""
        levels: list[list[Expression]] = [[], self._atoms()]
        seen: set[str] = set()
        for size in range(1, _LARGEST + 1):
            if size == len(levels):
                levels.append(list(islice(self._made(levels, size), _MOST_OF_HOLE)))
            fitting = [text for text, kind in levels[size] if _fits(kind, self._wanted)]
            for text in fitting:
                if text not in seen:
                    seen.add(text)
                    yield text

    def _atoms(self) -> list[Expression]:
        constants: dict[str, str] = {}
        trees = [self._function or self._tree, *self._calls]
        for node in (node for tree in trees for node in ast.walk(tree)):
            if isinstance(node, ast.Constant) and type(node.value) in (int, bool, str) and len(repr(node.value)) < 20:
                constants[repr(node.value)] = _KINDS[type(node.value)]
        constants |= {"0": "int", "1": "int", "2": "int"}
        extra = {"''": "str", "[]": "list", "True": "bool", "False": "bool"}
        return [*self._names.items(), *sorted(constants.items(), key=lambda one: len(one[0])), *extra.items()]

    def _made(self, levels: list[list[Expression]], size: int) -> Iterator[Expression]:
        for text, kind in levels[size - 1]:
            if (size == 2 and text not in self._names) or text.startswith(("-", "abs", "not", "str")):
                continue
            for key, forms in _UNARY.items():
                if (size == 2 and kind == _ANY) or _fits(kind, key, strictly=True):
                    yield from ((form.format(_bracketed(text)), _made_of(made, kind)) for form, made in forms)
        for left_size in range(1, size - 1):
            for (left, one), (right, other) in product(levels[left_size], levels[size - 1 - left_size]):
                if left == right or (size == 3 and left not in self._names and right not in self._names):
                    continue
                a, b = _bracketed(left), _bracketed(right)
                for form, first, second, made, ordered in _BINARY:
                    if right == "0" and form in _DIVISIONS:
                        continue
                    if _fits(one, first) and _fits(other, second) and (ordered or left_size > 1 or left > right):
                        yield form.format(a, b), _made_of(made, one)
        yield from self._own_calls(levels, size)

    def _own_calls(self, levels: list[list[Expression]], size: int) -> Iterator[Expression]:
        for name, function in self._functions.items():
            recursion = function is self._function
            if (count := len(function.args.args)) == size - 1 - recursion:
                for arguments in islice(product(levels[1], repeat=count), 1000):
                    yield f"{name}({', '.join(text for text, _ in arguments)})", _ANY

    def _names_in_scope(self, holes: set[str]) -> dict[str, str]:
        """The variables that may be bound at the hole, with their kinds."""
        if self._function is None:
            return {}
        names = dict.fromkeys((one.arg for one in self._function.args.args), _ANY)
        for call in self._calls:
            for node in ast.walk(call):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == self._function.name
                ):
                    given = {name: _kind(value, {}) for name, value in zip(names, node.args)}
                    names |= {name: kind for name, kind in given.items() if kind not in (_ANY, "list")}
                    names |= {name: kind for name, kind in given.items() if names[name] == _ANY}
        for node in sorted(walk_scope(self._function.body), key=lambda one: getattr(one, "lineno", 0)):
            inside = getattr(node, "lineno", 0) <= self._hole.lineno and not _contains(node, self._hole)
            match node:
                case ast.Assign([ast.Name(name)], value) if inside:
                    names[name] = _kind(value, names) if names.get(name, _ANY) == _ANY else names[name]
                case ast.Assign([ast.Tuple(targets)], ast.Tuple(values)) if inside:
                    pairs = zip(targets, values)
                    names |= {one.id: _kind(value, names) for one, value in pairs if isinstance(one, ast.Name)}
                case ast.For(target, source) | ast.comprehension(target, source):
                    if isinstance(node, ast.comprehension) or any(_contains(one, self._hole) for one in node.body):
                        item = _item_kind(source, names)
                        parts = target.elts if isinstance(target, ast.Tuple) else [target]
                        names |= {one.id: item for one in parts if isinstance(one, ast.Name)}
                case ast.AugAssign(ast.Name(name)):
                    names.setdefault(name, _ANY)
        return {name: kind for name, kind in names.items() if name not in holes}

    def _wanted_kind(self) -> str:
        """The kind that the place of the hole takes."""
        for node in ast.walk(self._function or self._tree):
            match node:
                case ast.If(test=value) | ast.While(test=value) | ast.IfExp(test=value) if value is self._hole:
                    return "bool"
                case ast.comprehension(ifs=tests) if any(test is self._hole for test in tests):
                    return "bool"
                case ast.BoolOp(values=values) if any(value is self._hole for value in values):
                    return "bool"
                case ast.Call(ast.Name("range" | "abs" | "chr"), arguments) if self._hole in arguments:
                    return "int"
                case ast.AugAssign(ast.Name(name), _, value) if value is self._hole:
                    return self._names.get(name, _ANY)
                case ast.Assign([ast.Name(name)], value) if value is self._hole:
                    return self._kind_by_use(name) if self._names.get(name, _ANY) == _ANY else self._names[name]
                case ast.Subscript(slice=value) if value is self._hole:
                    return "int"
                case ast.Return(value) if value is self._hole:
                    return self._kind_returned()
        return _ANY

    def _kind_by_use(self, name: str) -> str:
        """The kind of a variable that only the hole gives a value, by what is done with it."""
        for node in ast.walk(self._function or self._tree):
            match node:
                case ast.Subscript(slice=ast.Name(used)) if used == name:
                    return "int"
                case ast.BinOp(ast.Name(used), _, ast.Constant(int())) if used == name:
                    return "int"
                case ast.Call(ast.Name("range"), [*_, ast.Name(used)]) if used == name:
                    return "int"
        return _ANY

    def _kind_returned(self) -> str:
        """The kind of what the examples expect of the function."""
        name = self._function.name if self._function else ""
        kinds = {
            _kind_of_text(check.expected)
            for call, check in zip(self._calls, self._checks)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name
        }
        return kinds.pop() if len(kinds) == 1 else _ANY


def _fits(kind: str, wanted: str, strictly: bool = False) -> bool:
    """Whether an expression of this kind can stand where one of the kind `wanted` has to."""
    if wanted == "list" and kind in _ITEMS:
        return True
    return kind == wanted or (not strictly and (wanted == _ANY or kind == _ANY))


def _made_of(made: str, operand: str) -> str:
    if made == "same":
        return operand if operand in _ITEMS else "list"
    return _ITEMS.get(operand, _ANY) if made == "item" else made


def _bracketed(text: str) -> str:
    """In brackets, unless nothing can pull the text apart."""
    return text if isinstance(ast.parse(text, mode="eval").body, _CLOSED) else f"({text})"


_CLOSED = (ast.Name, ast.Constant, ast.Call, ast.Subscript, ast.List)


def _contains(node: ast.AST, wanted: ast.AST) -> bool:
    return any(child is wanted for child in ast.walk(node))


def _kind_of_text(text: str) -> str:
    try:
        return _kind(ast.parse(text, mode="eval").body, {})
    except SyntaxError:
        return _ANY


def _kind(node: ast.expr, names: dict[str, str]) -> str:
    """The kind of an expression, as far as its text tells."""
    match node:
        case ast.Constant(value):
            return _KINDS.get(type(value), _ANY)
        case ast.Name(name):
            return names.get(name, _ANY)
        case ast.List(items) | ast.Tuple(items) if items:
            kinds = {_kind(item, names) for item in items}
            return {"int": "ints", "str": "strs"}.get(kinds.pop(), "list") if len(kinds) == 1 else "list"
        case ast.Call(ast.Name("range")):
            return "ints"
        case ast.List() | ast.Tuple() | ast.ListComp() | ast.Call(ast.Name("sorted" | "list")):
            return "list"
        case ast.Dict() | ast.DictComp() | ast.Call(ast.Name("dict")):
            return "dict"
        case ast.Call(ast.Name("len" | "int" | "sum" | "abs" | "ord")):
            return "int"
        case ast.JoinedStr() | ast.Call(ast.Name("str" | "chr")):
            return "str"
        case ast.UnaryOp(ast.USub()):
            return _kind(node.operand, names)
        case ast.Compare() | ast.UnaryOp(ast.Not()):
            return "bool"
        case ast.BinOp(left, _, right):
            kinds = {_kind(left, names), _kind(right, names)} - {_ANY}
            return kinds.pop() if len(kinds) == 1 else _ANY
        case ast.Subscript(value, part):
            kind = _kind(value, names)
            return kind if isinstance(part, ast.Slice) or kind == "str" else _ITEMS.get(kind, _ANY)
    return _ANY


def _item_kind(source: ast.expr, names: dict[str, str]) -> str:
    """The kind of what iterating yields."""
    kind = _kind(source, names)
    return "str" if kind == "str" else _ITEMS.get(kind, _ANY)
