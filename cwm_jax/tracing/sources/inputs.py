"""Argument lists for functions that nobody has called yet: guessed types, drawn values, mutations.

What a parameter holds is guessed from its annotation, its default, and how the body uses it; values come from
`hypothesis`, whose draws lean towards the edges. All as Python text, for contexts are text.
"""

import ast
import math
from collections import Counter
from collections.abc import Iterator
from random import Random
from warnings import catch_warnings, simplefilter

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

_WORDS = ("strawberry", "hello world", "a,b,c", "x", "Abc", "12", "3.5", "key=value", "  padded ", "racecar", "a/b")
_INTS = st.one_of(st.integers(0, 9), st.integers(-5, 30), st.sampled_from((0, 1, -1, 2, 10, 100)))
_TEXT = st.one_of(st.sampled_from(_WORDS), st.text("abcdexyz ABC019._-,", max_size=10))
_FLOATS = st.sampled_from((0.0, 1.0, -1.5, 0.5, 2.25, 10.0, 99.9))
_ATOMS = st.one_of(_INTS, _TEXT)
KINDS: dict[str, st.SearchStrategy] = {
    "int": _INTS,
    "float": _FLOATS,
    "bool": st.booleans(),
    "str": _TEXT,
    "bytes": st.sampled_from((b"", b"abc", b"hello", b"\x00\x01", b"a b")),
    "list": st.one_of(st.lists(_INTS, max_size=6), st.lists(_TEXT, max_size=4)),
    "tuple": st.one_of(st.tuples(_INTS, _INTS), st.tuples(_TEXT, _INTS), st.lists(_INTS, max_size=4).map(tuple)),
    "set": st.sets(_INTS, max_size=5),
    "dict": st.dictionaries(_TEXT, _INTS, max_size=4),
    "None": st.none(),
    "any": st.one_of(_INTS, _TEXT, st.lists(_INTS, max_size=4)),
}
_ANNOTATIONS = {
    **{kind: kind for kind in KINDS},
    **dict.fromkeys(("List", "Sequence", "Iterable", "Collection", "MutableSequence", "Iterator"), "list"),
    **dict.fromkeys(("Dict", "Mapping", "MutableMapping"), "dict"),
    **{"Tuple": "tuple", "Set": "set", "FrozenSet": "set", "Text": "str", "AnyStr": "str", "complex": "float"},
    **{"object": "any", "Any": "any", "Hashable": "any"},
}
_METHODS = {kind: set(dir(value)) for kind, value in {"str": "", "list": [], "dict": {}, "set": set()}.items()}
_NAMES = {
    "int": ("n", "i", "j", "k", "num", "number", "count", "size", "width", "index", "limit", "start", "stop", "year"),
    "str": ("s", "text", "string", "word", "name", "line", "value", "path", "prefix", "suffix", "sep", "key", "msg"),
    "list": ("items", "lst", "seq", "values", "numbers", "nums", "data", "iterable", "lines", "words", "elements"),
    "dict": ("d", "mapping", "dct", "attrs", "kwargs", "options"),
}


def strategy_of(function: ast.FunctionDef | ast.AsyncFunctionDef, parameter: ast.arg, default: ast.expr | None):
    """What to draw for a parameter."""
    if (annotated := _annotated(parameter.annotation)) is not None:
        return annotated
    votes = _votes(function, parameter.arg)
    if isinstance(default, ast.Constant) and default.value is not None:
        votes[type(default.value).__name__] += 4
    known = [(kind, count) for kind, count in votes.most_common() if kind in KINDS]
    drawn = [KINDS[kind] for kind, count in known if count == known[0][1]]
    return st.one_of(drawn or [KINDS["any"]])


def _annotated(node: ast.expr | None) -> st.SearchStrategy | None:
    """What an annotation allows; None where it is missing or says nothing that is known here."""
    match node:
        case ast.Constant(value=None):
            return KINDS["None"]
        case ast.Constant(value=str(text)):
            try:
                return _annotated(ast.parse(text, mode="eval").body)
            except SyntaxError:
                return None
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return KINDS.get(_ANNOTATIONS.get(name, ""))
        case ast.BinOp(op=ast.BitOr()):
            return _either(node.left, node.right)
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return _generic(name, node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])
    return None


def _either(*choices: ast.expr) -> st.SearchStrategy | None:
    known = [strategy for strategy in map(_annotated, choices) if strategy is not None]
    return st.one_of(known) if known else None


def _generic(name: str, parts: list[ast.expr]) -> st.SearchStrategy | None:
    if name in ("Optional", "Union"):
        return _either(*parts, *([ast.Constant(None)] if name == "Optional" else []))
    kind = _ANNOTATIONS.get(name)
    allowed = [_annotated(part) for part in parts if not (isinstance(part, ast.Constant) and part.value is ...)]
    inner = [_ATOMS if strategy is None else strategy for strategy in allowed]
    if kind == "list":
        return st.lists(inner[0], max_size=6)
    if kind == "set":
        return st.sets(inner[0].filter(_is_hashable), max_size=5)
    if kind == "dict" and len(inner) == 2:
        return st.dictionaries(inner[0].filter(_is_hashable), inner[1], max_size=4)
    if kind == "tuple":
        return st.tuples(*inner) if len(inner) == len(parts) else st.lists(inner[0], max_size=4).map(tuple)
    return KINDS.get(kind or "")


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _votes(function: ast.AST, name: str) -> Counter:
    """How often the body uses `name` as each kind of value is used."""
    votes: Counter = Counter({kind: 1 for kind, names in _NAMES.items() if name in names})

    def is_it(node: ast.AST | None) -> bool:
        return isinstance(node, ast.Name) and node.id == name

    for node in ast.walk(function):
        match node:
            case ast.Attribute(value=value, attr=attribute) if is_it(value):
                votes.update({kind: 3 for kind, methods in _METHODS.items() if attribute in methods})
            case ast.For(iter=iterable) | ast.comprehension(iter=iterable) if is_it(iterable):
                votes.update({"list": 2, "str": 1})
            case ast.Subscript(value=value, slice=place) if is_it(value):
                text = isinstance(place, ast.Constant) and isinstance(place.value, str)
                votes.update({"dict": 3} if text else {"list": 2, "str": 1})
            case ast.Subscript(slice=place) if is_it(place):
                votes["int"] += 2
            case ast.Call(func=ast.Name(id=called), args=[first, *_]) if is_it(first):
                votes.update(_CALLED.get(called, {}))
            case ast.Call(func=ast.Name(id="isinstance"), args=[first, ast.Name(id=kind)]) if is_it(first):
                votes[kind] += 3
            case ast.UnaryOp(op=ast.USub(), operand=operand) if is_it(operand):
                votes["int"] += 2
            case ast.BinOp(left=left, right=right) if is_it(left) or is_it(right):
                _vote_other(votes, right if is_it(left) else left)
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                if is_it(right) and isinstance(operator, (ast.In, ast.NotIn)):
                    votes.update({"list": 1, "str": 1, "dict": 1})
                elif is_it(left) or is_it(right):
                    _vote_other(votes, right if is_it(left) else left)
    return votes


_CALLED = {
    **{key: {"int": 3} for key in ("range", "chr", "abs", "divmod", "bin", "hex", "pow")},
    **{key: {"list": 2, "str": 1} for key in ("len", "sorted", "enumerate", "reversed", "iter", "list", "set")},
    **{key: {"list": 2} for key in ("sum", "max", "min", "any", "all", "map", "zip")},
    **{"ord": {"str": 2}, "int": {"str": 1, "int": 1}, "float": {"str": 1, "float": 1}},
}


def _vote_other(votes: Counter, other: ast.expr) -> None:
    if isinstance(other, ast.Constant) and type(other.value) in (int, float, str, bytes):
        votes[type(other.value).__name__] += 2
    elif isinstance(other, (ast.Name, ast.BinOp)):
        votes["int"] += 1


def drawn(strategies: dict[str, st.SearchStrategy], most: int, number: int) -> list[dict[str, str]]:
    """Up to `most` different sets of arguments, by name, as Python text; the same for the same `number`."""
    found: dict[tuple, dict[str, str]] = {}

    @seed(number)
    @settings(
        max_examples=2 * most, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.fixed_dictionaries(strategies))
    def collect(values: dict) -> None:
        texts = {name: repr(value) for name, value in values.items()}
        if len(found) < most:
            found[tuple(texts.values())] = texts

    try:
        with catch_warnings():
            simplefilter("ignore")
            collect()
    except HypothesisException:
        pass  # what was found counts
    return list(found.values())


def mutated(argument: str, rng: Random) -> str:
    """The text of a value near the one that `argument` spells; itself where that is no literal."""
    try:
        return repr(_near(ast.literal_eval(argument), rng))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return argument


def _near(value, rng: Random):
    match value:
        case bool():
            return not value
        case int():
            return rng.choice((value + 1, value - 1, -value, value * 2, 0))
        case float():
            return rng.choice((value + 0.5, -value, 0.0, float(math.floor(value)) if math.isfinite(value) else 0.0))
        case str() | bytes():
            at = rng.randrange(len(value) + 1)
            cut, other = value[:at] + value[at + 1 :], value.upper() if rng.random() < 0.5 else value.lower()
            return rng.choice((cut, value + value[:at], other, value[::-1], value[:at]))
        case list() | tuple() | set() | frozenset():
            items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else list(value)
            return type(value)(_near_items(items, rng))
        case dict():
            items = list(value.items())
            if not items or rng.random() < 0.3:
                return dict(items[1:])
            at = rng.randrange(len(items))
            items[at] = (items[at][0], _near(items[at][1], rng))
            return dict(items)
    return value


def _near_items(items: list, rng: Random) -> list:
    if not items:
        return [0]
    at = rng.randrange(len(items))
    choice = rng.randrange(4)
    if choice == 0:
        return items[:at] + items[at + 1 :]
    if choice == 1:
        return [*items, items[at]]
    if choice == 2:
        return items[::-1]
    return [*items[:at], _near(items[at], rng), *items[at + 1 :]]


def in_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Argument lists of the calls that the doctests of a function make, where they hold literals only."""
    lines = (line.strip() for line in (ast.get_docstring(function) or "").splitlines())
    for line in lines:
        if not line.startswith(">>> "):
            continue
        try:
            tree = ast.parse(line[4:])
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name == function.name:
                    named = [keyword for keyword in node.keywords if keyword.arg]
                    values = [*node.args, *(keyword.value for keyword in named)]
                    if len(named) == len(node.keywords) and all(map(_is_literal, values)):
                        yield ", ".join(map(ast.unparse, [*node.args, *named]))


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
