"""Turns of a loop as formulas that allow at least what the code does: for proofs that it is left.

What has no formula may do anything to the variables that it assigns. Every step of the program is among the paths, but
for those that raise, which leave the loop.
"""

import ast

import z3

from cwm_jax.worldmodel.halting.linear import Strict, Unsupported, assigned_names


class Loose(Strict):
    """Formulas that allow at least what the code does.

    What `env` lacks may be anything; whatever is assigned to `numbers` is a whole number.
    """

    def __init__(self, numbers: set[str]):
        super().__init__()
        self._numbers = numbers

    def _inner(self, loop, conditions, env):
        if loop.orelse:
            raise Unsupported("`else` of a loop")
        changed = assigned_names([loop])
        free = {name: self._any_int(name) if name in changed else value for name, value in env.items()}
        leaves = any(isinstance(node, (ast.Return, ast.Raise)) for node in ast.walk(loop))
        if leaves:
            yield "return", conditions, free
        yield "end", conditions, free

    def _assigned(self, node, env):
        try:
            return super()._assigned(node, env)
        except Unsupported:
            changed = assigned_names([node])
            kept = {name: value for name, value in env.items() if name not in changed}
            return kept | {name: self._any_int(name) for name in changed & self._numbers}

    def value(self, node, env):
        if isinstance(node, ast.Name) and node.id in self._numbers and node.id not in env:
            return self._any_int(node.id)
        return super().value(node, env)

    def number(self, node, env):
        try:
            return super().number(node, env)
        except Unsupported:
            if whole(node, self._numbers):
                return self._any_int("value")
            raise

    def truth(self, node, env):
        if isinstance(node, ast.BoolOp):
            return super().truth(node, env)
        try:
            return super().truth(node, env)
        except Unsupported:
            self._fresh += 1
            return z3.Bool(f"condition!{self._fresh}")


_WHOLE_CALLS = {"len", "ord", "int"}
_FIRST_OF_WHOLE = {"min", "max"}


def whole(node: ast.expr, numbers: set[str]) -> bool:
    """Whether an expression is a whole number whenever these variables are and it has a value at all."""
    match node:
        case ast.Constant(value):
            return type(value) is int
        case ast.Name(name):
            return name in numbers
        case ast.UnaryOp(ast.USub() | ast.UAdd() | ast.Invert(), one):
            return whole(one, numbers)
        case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult() | ast.FloorDiv() | ast.Mod(), right):
            return whole(left, numbers) and whole(right, numbers)
        case ast.BinOp(ast.Constant(base), ast.Pow(), ast.Constant(power)):
            return type(base) is type(power) is int and power >= 0
        case ast.IfExp(_, left, right):
            return whole(left, numbers) and whole(right, numbers)
        case ast.Call(ast.Name(name), [_], []) if name in _WHOLE_CALLS:
            return True
        case ast.Call(ast.Name(name), [*arguments], []) if name in _FIRST_OF_WHOLE and len(arguments) > 1:
            return all(whole(one, numbers) for one in arguments)
        case ast.Call(ast.Name("abs"), [one], []):
            return whole(one, numbers)
    return False
