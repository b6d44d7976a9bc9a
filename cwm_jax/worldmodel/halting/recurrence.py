"""Proofs that a loop is never left: an invariant that holds where a real run was, and that every turn keeps.

The run reached the loop with certain numbers. Of many simple statements that are true of these, those are kept that
every turn keeps true (Houdini's method: what a turn can break is dropped until nothing breaks), and if together they
rule out every way to leave the loop, it turns for ever. All that counts is asked of z3 once more at the end, of what
was found alone. Memory is taken to be without bounds, as in every statement on halting.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import z3

from cwm_jax.worldmodel.halting.linear import Path, Strict, Unsupported

_MOST_VARIABLES = 8  # our choice: candidates grow with the square
_MILLISECONDS = 2000  # of one question


@dataclass(frozen=True)
class Recurrence:
    """A loop that is never left.

    Attributes:
      line: of the loop.
      reached: numbers with which a real run was there.
      invariant: what holds then, after every turn, and rules out every end.
    """

    line: int
    reached: dict[str, int | bool]
    invariant: tuple[str, ...]


def loops_of(tree: ast.AST) -> list[ast.While | ast.For]:
    """All loops, outer ones first, in the order of the text; their places are the numbers that a watch gives them."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.While, ast.For)):
            found.append(node)
        found += loops_of(node)
    return found


def never_left(loop: ast.While, reached: dict[str, int | bool]) -> Recurrence | None:
    """A proof that the loop, once at the beginning of a turn with these numbers, is never left; None if none is found.

    Args:
      loop: a `while` of a program of the fragment.
      reached: its numbers and truth values there. Other variables may be anything; if they matter there is no proof.
    """
    names = {node.id for node in ast.walk(loop) if isinstance(node, ast.Name)}
    point = {name: value for name, value in reached.items() if name in names}
    if len(point) > _MOST_VARIABLES:
        return None
    env = {name: z3.Bool(name) if isinstance(value, bool) else z3.Int(name) for name, value in point.items()}
    strict = Strict()
    try:
        paths = strict.turns(loop, env)
        guard = strict.truth(loop.test, env)
    except Unsupported:
        return None
    if any(path.again and path.env[name].sort() != env[name].sort() for path in paths for name in env):
        return None
    candidates = [one for one in _candidates(env, point, loop, [guard, *strict.atoms]) if _true_at(one, env, point)]
    invariant = _kept(candidates, paths, env)
    if invariant is None or not _proves(invariant, paths, env, point):
        return None
    return Recurrence(loop.lineno, point, tuple(f"{one}" for one in _needed(invariant, paths, env, point)))


def _candidates(env: dict, point: dict, loop: ast.While, atoms: list[z3.BoolRef]) -> Iterator[z3.BoolRef]:
    """Statements to try, all over the variables at the beginning of a turn."""
    for atom in atoms:
        if set(map(str, _variables(atom))) <= set(env):
            yield from (atom, z3.Not(atom))
    constants = {node.value for node in ast.walk(loop) if isinstance(node, ast.Constant) and type(node.value) is int}
    bounds = {bound + by for bound in constants | {0} for by in (-1, 0, 1)}
    numbers = {name: variable for name, variable in env.items() if z3.is_int(variable)}
    for name, variable in env.items():
        yield variable == z3.BoolVal(point[name]) if z3.is_bool(variable) else variable == point[name]
    for name, variable in numbers.items():
        for bound in sorted(bounds | {point[name]}):
            yield from (variable >= bound, variable <= bound)
        for modulus in sorted({2, 3} | {one for one in constants if 1 < one < 1000}):
            yield variable % modulus == point[name] % modulus
    for (first, a), (second, b) in combinations(numbers.items(), 2):
        for combined, value in ((a - b, point[first] - point[second]), (a + b, point[first] + point[second])):
            for bound in sorted({value, 0, 1, -1}):
                yield from (combined >= bound, combined <= bound)
            yield combined == value


def _variables(expression: z3.ExprRef) -> list[z3.ExprRef]:
    if z3.is_const(expression) and expression.decl().kind() == z3.Z3_OP_UNINTERPRETED:
        return [expression]
    return [found for child in expression.children() for found in _variables(child)]


def _true_at(statement: z3.BoolRef, env: dict, point: dict) -> bool:
    values = [(env[name], z3.BoolVal(v) if isinstance(v, bool) else z3.IntVal(v)) for name, v in point.items()]
    return z3.is_true(z3.simplify(z3.substitute(statement, *values)))


def _after(statement: z3.BoolRef, path: Path, env: dict) -> z3.BoolRef:
    """A statement on the end of a turn, over the variables at its beginning."""
    return z3.substitute(statement, *((variable, path.env[name]) for name, variable in env.items()))


def _kept(candidates: list[z3.BoolRef], paths: list[Path], env: dict) -> list[z3.BoolRef] | None:
    """Those candidates that, holding together, hold after every turn; None where z3 does not know."""
    kept, changed = list(candidates), True
    while changed:
        changed = False
        for path in (path for path in paths if path.again):
            solver = _solver()
            solver.add(*kept, *path.conditions, z3.Or(*(z3.Not(_after(one, path, env)) for one in kept)))
            answer = solver.check()
            if answer == z3.unknown:
                return None
            if answer == z3.sat:
                model = solver.model()
                kept = [one for one in kept if z3.is_true(model.eval(_after(one, path, env), model_completion=True))]
                changed = True
    return kept


def _proves(invariant: list[z3.BoolRef], paths: list[Path], env: dict, point: dict) -> bool:
    """Whether the invariant holds at the point, every turn keeps it, and it rules out every end."""
    if not all(_true_at(one, env, point) for one in invariant):
        return False
    for path in paths:
        solver = _solver()
        solver.add(*invariant, *path.conditions)
        if path.again:
            solver.add(z3.Or(*(z3.Not(_after(one, path, env)) for one in invariant)))
        if solver.check() != z3.unsat:
            return False
    return True


def _needed(invariant: list[z3.BoolRef], paths: list[Path], env: dict, point: dict) -> list[z3.BoolRef]:
    """A part of the invariant that is enough, for people to read."""
    for one in list(invariant):
        fewer = [other for other in invariant if other is not one]
        if _proves(fewer, paths, env, point):
            invariant = fewer
    return invariant


def _solver() -> z3.Solver:
    solver = z3.Solver()
    solver.set("timeout", _MILLISECONDS)
    return solver
