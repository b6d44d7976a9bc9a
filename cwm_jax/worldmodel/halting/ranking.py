"""Proofs that a program ends whatever it computes: every loop is over something finite, or counts down to a bound.

For a `while` loop z3 confirms a ranking: numbers, the first of which that changes in a turn falls and was not negative.
Their names must be known to hold whole numbers (`whole_numbers`). A `for` loop is over a range or over something that
nothing inside it can make longer. No function calls itself, however indirectly. So there is nothing that could go on.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations

import z3

from cwm_jax.tracing.source import walk_scope
from cwm_jax.worldmodel.halting.fragment import REMOVING, own_functions
from cwm_jax.worldmodel.halting.linear import Path, Unsupported
from cwm_jax.worldmodel.halting.loose import Loose, whole

_MILLISECONDS = 1000  # of one question
_MOST_NAMES = 5  # whose differences are tried; our choice
_GROWING = {"append", "extend", "insert"}
_FRESH_METHODS = {"split", "rsplit", "splitlines", "copy", "partition", "rpartition"}
_LAZY = {"enumerate", "reversed", "zip"}
_COMPREHENSIONS = (ast.ListComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Ranking:
    """Why a `while` loop ends.

    Attributes:
      line: of the loop.
      falls: in every turn the first of these that changes falls, from a value that is not negative.
    """

    line: int
    falls: tuple[str, ...]


def always_ends(tree: ast.Module) -> list[Ranking] | None:
    """The rankings of all `while` loops of a program of the fragment that surely ends; None if that is not certain."""
    if any(isinstance(node, (ast.NamedExpr, ast.Global)) for node in ast.walk(tree)) or _recursive(tree):
        return None
    numbers = whole_numbers(tree)
    grows = set(own_functions(tree)) if any(_changes_length(node, set()) for node in ast.walk(tree)) else set()
    rankings = []
    for scope, body in _scopes(tree).items():
        for node in walk_scope(body):
            if isinstance(node, ast.While):
                if (found := ranked(node, numbers[scope])) is None:
                    return None
                rankings.append(found)
            elif isinstance(node, ast.For):
                if not _finite(node.iter, node.body, numbers[scope], grows):
                    return None
            elif isinstance(node, _COMPREHENSIONS):
                if not all(_finite(one.iter, [node], numbers[scope], grows) for one in node.generators):
                    return None
            elif isinstance(node, ast.Call) and _feeds_itself(node, grows):
                return None
    return sorted(rankings, key=lambda one: one.line)


def _scopes(tree: ast.Module) -> dict[str, list[ast.stmt]]:
    """The statements of the module (named by an empty text) and of each function."""
    functions = own_functions(tree)
    module = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    return {"": module, **{name: node.body for name, node in functions.items()}}


def _recursive(tree: ast.Module) -> bool:
    functions = own_functions(tree)
    calls = {
        name: {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} & set(functions)
        for name, node in functions.items()
    }
    for _ in functions:
        calls = {name: called.union(*(calls[one] for one in called)) for name, called in calls.items()}
    return any(name in called for name, called in calls.items())


def _feeds_itself(call: ast.Call, grows: set[str]) -> bool:
    """Such as `xs.extend(x for x in xs)`, which never ends, or `max(xs, key=g)` where g makes xs longer."""
    growing = isinstance(call.func, ast.Attribute) and call.func.attr in ("extend", "update")
    plain = (ast.Name, ast.List, ast.Tuple, ast.Constant, ast.Subscript, ast.BinOp, ast.ListComp)
    keys = [one.value.id for one in call.keywords if isinstance(one.value, ast.Name)]
    return (growing and not all(isinstance(one, plain) for one in call.args)) or not grows.isdisjoint(keys)


def _finite(source: ast.expr, body: Iterable[ast.AST], numbers: set[str], grows: set[str]) -> bool:
    """Whether a loop over `source` ends if each turn of it does; `grows` are functions that may make lists longer."""
    match source:
        case ast.Call(ast.Name("range" | "sorted" | "list" | "tuple" | "str")):
            return True
        case ast.Call(ast.Name(name), arguments) if name in _LAZY:
            return all(_finite(one, body, numbers, grows) for one in arguments)
        case ast.Call(ast.Attribute(_, name)) if name in _FRESH_METHODS:
            return True
        case ast.Subscript(_, ast.Slice()) | ast.Constant() | ast.List() | ast.Tuple() | ast.ListComp() | ast.BinOp():
            return True
    nodes = [node for part in body for node in ast.walk(part)]
    return not any(
        _changes_length(node, numbers) or (isinstance(node, ast.Name) and node.id in grows) for node in nodes
    )


def _changes_length(node: ast.AST, numbers: set[str]) -> bool:
    """Whether this may change how many items a list or dict has."""
    if isinstance(node, ast.Attribute):
        return node.attr in _GROWING | REMOVING | {"setdefault", "update"}
    if isinstance(node, ast.AugAssign):
        return not (isinstance(node.target, ast.Name) and node.target.id in numbers)
    return isinstance(node, ast.Subscript) and (
        isinstance(node.ctx, ast.Del) or (isinstance(node.ctx, ast.Store) and isinstance(node.slice, ast.Slice))
    )


def ranked(loop: ast.While, numbers: set[str]) -> Ranking | None:
    """A ranking of the loop from any values of these variables, all whole numbers; None if none is found."""
    used = {node.id for node in ast.walk(loop) if isinstance(node, ast.Name)} & numbers
    env = {name: z3.Int(name) for name in sorted(used)}
    loose = Loose(numbers)
    try:
        guard = loose.truth(loop.test, env)
        turns = [path for path in loose.turns(loop, env) if path.again]
    except Unsupported:
        return None
    falls = []
    for measure in _measures(loop, env, loose):
        steps = [(path, _after(measure, path, env)) for path in turns]
        if not all(_holds(guard, path, after <= measure) for path, after in steps):
            continue
        rest = [path for path, after in steps if not _holds(guard, path, z3.And(measure >= 0, after <= measure - 1))]
        if len(rest) < len(turns):
            falls.append(f"{z3.simplify(measure)}".replace("\n", " "))
            turns = rest
        if not turns:
            return Ranking(loop.lineno, tuple(falls))
    return None if turns else Ranking(loop.lineno, ())


def _measures(loop: ast.While, env: dict, loose: Loose) -> Iterator[z3.ArithRef]:
    """Numbers that may fall: what the conditions compare, variables, their differences and sums."""
    for node in ast.walk(loop):
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            try:
                left, right = loose.number(node.left, env), loose.number(node.comparators[0], env)
            except Unsupported:
                continue
            known = set(map(str, env))
            if all(_names(side) <= known for side in (left, right)):
                yield from (left - right, right - left)
    yield from env.values()
    for first, second in permutations(list(env.values())[:_MOST_NAMES], 2):
        yield first - second
        yield first + second


def _names(expression: z3.ExprRef) -> set[str]:
    if z3.is_const(expression) and expression.decl().kind() == z3.Z3_OP_UNINTERPRETED:
        return {f"{expression}"}
    return set().union(*map(_names, expression.children()))


def _after(measure: z3.ArithRef, path: Path, env: dict) -> z3.ArithRef:
    ends = {name: path.env.get(name, z3.Int(f"{name}!any")) for name in env}
    return z3.substitute(measure, *((env[name], end) for name, end in ends.items()))


def _holds(guard: z3.BoolRef, path: Path, statement: z3.BoolRef) -> bool:
    solver = z3.Solver()
    solver.set("timeout", _MILLISECONDS)
    solver.add(guard, *path.conditions, z3.Not(statement))
    return solver.check() == z3.unsat


def whole_numbers(tree: ast.Module) -> dict[str, set[str]]:
    """By function (the module's code by an empty text) the variables that hold nothing but whole numbers.

    At first all are taken to; then those go that are given anything else while the others do, until none goes.
    """
    functions, scopes = own_functions(tree), _scopes(tree)
    parameters = {name: _parameters(node) for name, node in functions.items()}
    numbers = {name: {target for target, _ in _given(body)} for name, body in scopes.items()}
    for name, names in parameters.items():
        numbers[name] |= set(names)
    calls = [(scope, node) for scope, body in scopes.items() for node in walk_scope(body) if isinstance(node, ast.Call)]
    own = {scope: set(names) for scope, names in numbers.items()}
    while True:
        known = {scope: names | (numbers[""] - own[scope]) for scope, names in numbers.items()}
        doubtful = {
            scope: {name for name, value in _given(body) if not _whole(value, known[scope])}
            for scope, body in scopes.items()
        }
        for scope, call in calls:
            for function, name in _doubtful(call, known[scope], functions, parameters):
                doubtful[function].add(name)
        for name, node in functions.items():
            for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                doubtful[name] |= set() if whole(default, set()) else set(parameters[name])
        if not any(doubtful[scope] & numbers[scope] for scope in numbers):
            return known
        numbers = {scope: names - doubtful[scope] for scope, names in numbers.items()}


def _parameters(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    return [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def _whole(value: ast.expr | None, numbers: set[str]) -> bool:
    return value is not None and whole(value, numbers)


def _given(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr | None]]:
    """Each variable with each value that it is given; None for one that is no whole number for certain."""
    surely = ast.Constant(0)
    for node in walk_scope(body):
        match node:
            case ast.Assign(targets, value):
                for target in targets:
                    yield from _pairs(target, value)
            case ast.AnnAssign(ast.Name(name), _, value) if value is not None:
                yield name, value
            case ast.AugAssign(ast.Name(name), operator, value):
                yield name, ast.BinOp(ast.Name(name, ast.Load()), operator, value)
            case ast.comprehension(target):  # a variable of its own, which leaves a module's of that name what it is
                yield from _pairs(target, None)
            case ast.For(target, source):
                match target, source:
                    case ast.Name(name), ast.Call(ast.Name("range")):
                        yield name, surely
                    case ast.Tuple([ast.Name(name), rest]), ast.Call(ast.Name("enumerate"), [_]):
                        yield name, surely
                        yield from _pairs(rest, None)
                    case _:
                        yield from _pairs(target, None)


def _pairs(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[str, ast.expr | None]]:
    match target, value:
        case ast.Name(name), _:
            yield name, value
        case ast.Tuple(targets), ast.Tuple(values) if len(targets) == len(values):
            for one, other in zip(targets, values):
                yield from _pairs(one, None if isinstance(other, ast.Starred) else other)
        case ((ast.Tuple(targets) | ast.List(targets)), _):
            for one in targets:
                yield from _pairs(one.value if isinstance(one, ast.Starred) else one, None)


def _doubtful(call: ast.Call, numbers: set[str], functions: dict, parameters: dict) -> Iterator[tuple[str, str]]:
    """The parameters that this call gives something else than a whole number, with their functions."""
    for keyword in call.keywords:
        if isinstance(keyword.value, ast.Name) and keyword.value.id in functions:  # called with anything
            yield from ((keyword.value.id, name) for name in parameters[keyword.value.id])
    if not isinstance(call.func, ast.Name) or call.func.id not in functions:
        return
    name = call.func.id
    if any(isinstance(one, ast.Starred) for one in call.args):
        yield from ((name, one) for one in parameters[name])
    for parameter, value in zip(parameters[name], call.args):
        if not whole(value, numbers):
            yield name, parameter
    for keyword in call.keywords:
        if not whole(keyword.value, numbers):
            yield name, keyword.arg
