"""Turns of a loop as formulas over whole numbers: what the z3 prover is asked about.

A turn begins where the guard has held and ends where it holds again, or where the loop is left. Each way through the
body is one `Path`. Numbers are Python's, without bounds; `//` and `%` by a positive constant are z3's own. What has no
formula, such as a call or a list, is refused: every step that the program can take is one of the paths, and none
raises. That is what a proof that a loop is never left needs; for proofs that it is left see `loose.py`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

import z3

_MOST_PATHS = 64  # through one body; our choice
_MOST_POWER = 64  # of a constant, such as 10 ** 9
_COMPARISONS = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
}

Env = dict[str, z3.ExprRef]


class Unsupported(Exception):
    """The construct has no formula."""


@dataclass(frozen=True)
class Path:
    """One way through the body of a loop.

    Attributes:
      conditions: what holds on it, over the variables at its beginning.
      env: the variables at its end; those that are missing may be anything.
      again: whether the next turn follows; else the loop is left.
    """

    conditions: tuple[z3.BoolRef, ...]
    env: Env
    again: bool


class Strict:
    """Formulas for exactly what the code does.

    Attributes:
      atoms: the conditions that were met, over the variables at the beginning of the turn.
    """

    def __init__(self):
        self._fresh = 0
        self.atoms: list[z3.BoolRef] = []

    def turns(self, loop: ast.While | ast.For, env: Env) -> list[Path]:
        """The ways through one turn of a loop from these variables.

        Raises:
          Unsupported: the loop holds what has no formula, or more than 64 ways through it.
        """
        paths = []
        for how, conditions, after in self._block(loop.body, (), dict(env)):
            if how not in ("end", "continue"):
                paths.append(Path(conditions, after, False))
            elif isinstance(loop, ast.For):
                paths.append(Path(conditions, after, True))
            else:
                guard = self.truth(loop.test, after)
                paths.append(Path((*conditions, guard), after, True))
                paths.append(Path((*conditions, z3.Not(guard)), after, False))
            if len(paths) > 2 * _MOST_PATHS:
                raise Unsupported("a loop with more than 64 ways through it")
        return paths

    def _block(self, body: list[ast.stmt], conditions: tuple, env: Env) -> Iterator[tuple[str, tuple, Env]]:
        """How the statements are left (`end`, `continue`, `break`, `return`), under what conditions, with what."""
        if not body:
            yield "end", conditions, env
            return
        for how, met, after in self._statement(body[0], conditions, env):
            if how == "end":
                yield from self._block(body[1:], met, after)
            else:
                yield how, met, after

    def _statement(self, node: ast.stmt, conditions: tuple, env: Env) -> Iterator[tuple[str, tuple, Env]]:
        match node:
            case ast.Pass() | ast.Expr(ast.Constant()):
                yield "end", conditions, env
            case ast.Break():
                yield "break", conditions, env
            case ast.Continue():
                yield "continue", conditions, env
            case ast.Return() | ast.Raise():
                yield "return", conditions, env
            case ast.If(test, body, orelse):
                holds = self.truth(test, env)
                self.atoms.append(holds)
                yield from self._block(body, (*conditions, holds), dict(env))
                yield from self._block(orelse, (*conditions, z3.Not(holds)), dict(env))
            case ast.Assert(test):
                holds = self.truth(test, env)
                yield "end", (*conditions, holds), env
                yield "return", (*conditions, z3.Not(holds)), env
            case ast.While() | ast.For():
                yield from self._inner(node, conditions, env)
            case _:
                yield "end", conditions, self._assigned(node, env)

    def _inner(self, loop: ast.While | ast.For, conditions: tuple, env: Env) -> Iterator[tuple[str, tuple, Env]]:
        """A loop inside the loop: however often it turns, it changes no more than what it assigns."""
        if loop.orelse:
            raise Unsupported("`else` of a loop")
        if isinstance(loop, ast.For):
            self._finite(loop, env)
        changed = assigned_names([loop])
        head = {name: self._any_like(name, value) if name in changed else value for name, value in env.items()}
        inside = dict(head)
        if isinstance(loop, ast.For):
            inside[loop.target.id] = self._any_int(loop.target.id)
        entered = conditions
        if isinstance(loop, ast.While):
            entered = (*conditions, self.truth(loop.test, inside))
        for count, (how, met, after) in enumerate(self._block(loop.body, entered, inside)):
            if count == _MOST_PATHS:
                raise Unsupported("a loop with more than 64 ways through it")
            if how == "return":
                yield how, met, after
            for name, value in env.items():
                if name in changed and (name not in after or after[name].sort() != value.sort()):
                    raise Unsupported(f"{name!r} changes its type")
        yield "end", conditions, head

    def _finite(self, loop: ast.For, env: Env) -> None:
        match loop:
            case ast.For(ast.Name(), ast.Call(ast.Name("range"), [*bounds], [])) if 0 < len(bounds) < 3:
                for bound in bounds:
                    self.number(bound, env)
            case _:
                raise Unsupported(f"`for` over {ast.unparse(loop.iter)[:40]!r}")

    def _assigned(self, node: ast.stmt, env: Env) -> Env:
        match node:
            case ast.Assign([ast.Name(name)], value):
                return {**env, name: self.value(value, env)}
            case ast.Assign([ast.Tuple(targets)], ast.Tuple(values)) if len(targets) == len(values):
                if all(isinstance(target, ast.Name) for target in targets):
                    return {**env, **{t.id: self.value(value, env) for t, value in zip(targets, values)}}
            case ast.AugAssign(ast.Name(name) as target, operator, value):
                load = ast.Name(name, ast.Load())
                return {**env, target.id: self.number(ast.BinOp(load, operator, value), env)}
            case ast.Expr(ast.Call(ast.Name("print"), arguments, [])):
                for argument in arguments:  # the text of a number of more than 4,300 digits raises
                    if not isinstance(argument, ast.Constant) and not z3.is_bool(self.value(argument, env)):
                        raise Unsupported(f"`{ast.unparse(node)[:40]}`")
                return env
        raise Unsupported(f"`{ast.unparse(node)[:40]}`")

    def value(self, node: ast.expr, env: Env) -> z3.ExprRef:
        """A number or a truth value."""
        match node:
            case ast.Name(name):
                if name not in env:
                    raise Unsupported(f"the variable {name!r}")
                return env[name]
            case ast.Constant(bool(value)):
                return z3.BoolVal(value)
            case ast.Compare() | ast.UnaryOp(ast.Not()):
                return self.truth(node, env)
        return self.number(node, env)

    def number(self, node: ast.expr, env: Env) -> z3.ArithRef:
        match node:
            case ast.Constant(int(value)) if not isinstance(value, bool):
                return z3.IntVal(value)
            case ast.Name():
                if z3.is_int(found := self.value(node, env)):
                    return found
            case ast.UnaryOp(ast.USub(), one):
                return -self.number(one, env)
            case ast.BinOp(left, (ast.Add() | ast.Sub() | ast.Mult()) as operator, right):
                a, b = self.number(left, env), self.number(right, env)
                return a + b if isinstance(operator, ast.Add) else a - b if isinstance(operator, ast.Sub) else a * b
            case ast.BinOp(left, (ast.FloorDiv() | ast.Mod()) as operator, ast.Constant(int(by))) if by > 0:
                a = self.number(left, env)
                return a / z3.IntVal(int(by)) if isinstance(operator, ast.FloorDiv) else a % z3.IntVal(int(by))
            case ast.BinOp(ast.Constant(int(base)), ast.Pow(), ast.Constant(int(power))) if 0 <= power <= _MOST_POWER:
                return z3.IntVal(int(base) ** int(power))
            case ast.Call(ast.Name("abs"), [one], []):
                a = self.number(one, env)
                return z3.If(a >= 0, a, -a)
            case ast.Call(ast.Name(("min" | "max") as name), [left, right], []):
                a, b = self.number(left, env), self.number(right, env)
                return z3.If(a <= b if name == "min" else a >= b, a, b)
        raise Unsupported(f"`{ast.unparse(node)[:40]}`")

    def truth(self, node: ast.expr, env: Env) -> z3.BoolRef:
        match node:
            case ast.Constant(value) if isinstance(value, int):
                return z3.BoolVal(bool(value))
            case ast.BoolOp(operator, values):
                parts = [self.truth(value, env) for value in values]
                return z3.And(*parts) if isinstance(operator, ast.And) else z3.Or(*parts)
            case ast.UnaryOp(ast.Not(), one):
                return z3.Not(self.truth(one, env))
            case ast.Compare(left, operators, others):
                items = [self.value(item, env) for item in (left, *others)]
                known = _COMPARISONS if z3.is_int(items[0]) else (ast.Eq, ast.NotEq)
                if len({item.sort() for item in items}) == 1 and all(type(one) in known for one in operators):
                    pairs = zip(operators, items, items[1:])
                    return z3.And(*(_COMPARISONS[type(one)](a, b) for one, a, b in pairs))
                raise Unsupported(f"`{ast.unparse(node)[:40]}`")
        found = self.value(node, env)
        return found if z3.is_bool(found) else found != 0

    def _any_int(self, name: str) -> z3.ArithRef:
        self._fresh += 1
        return z3.Int(f"{name}!{self._fresh}")

    def _any_like(self, name: str, value: z3.ExprRef) -> z3.ExprRef:
        self._fresh += 1
        return z3.Const(f"{name}!{self._fresh}", value.sort())


def assigned_names(body: list[ast.stmt]) -> set[str]:
    """The variables that statements may assign or delete."""
    return {
        node.id
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
