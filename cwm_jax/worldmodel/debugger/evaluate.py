"""Expressions over a predicted state, of which only the `repr` of each local is known. Nothing of the program runs."""

import ast
import warnings

from simpleeval import EvalWithCompoundTypes, InvalidExpression

_FUNCTIONS = {
    function.__name__: function
    for function in (abs, all, any, bool, dict, float, int, len, list, max, min, round, set, sorted, str, sum, tuple)
}
_FAULTS = (InvalidExpression, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, SyntaxError)


class CannotEvaluate(ValueError):
    """The expression has no value here; the message says why."""


def evaluate(expression: str, state: dict[str, str]) -> object:
    """The value of a Python expression.

    Args:
      expression: operators, subscripts, comprehensions, methods of strings and containers, and calls of `len`, `sum`,
        `min`, `max`, `sorted`, `abs`, `any`, `all`, `round` and the built-in types.
      state: by name the `repr` of each local; those that are literals have a value.

    Raises:
      CannotEvaluate: it uses a local that is no literal or is not there, does more than that, or fails.
    """

    def local(node: ast.Name) -> object:
        if node.id not in state:
            known = ", ".join(state) or "none"
            raise CannotEvaluate(f"there is no local {node.id!r} here; the locals are: {known}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.literal_eval(state[node.id])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise CannotEvaluate(f"{node.id} is {state[node.id]}, and of that only this text is known") from None

    expression = check(expression)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = EvalWithCompoundTypes(functions=_FUNCTIONS, names=local).eval(expression)
            repr(value)  # refuses what is too long to be shown
            return value
    except CannotEvaluate as error:
        raise CannotEvaluate(f"cannot evaluate {expression!r}: {error}") from None
    except (*_FAULTS, TypeError, ValueError) as error:
        raise CannotEvaluate(f"cannot evaluate {expression!r}: {error or type(error).__name__}") from None


def check(expression: str) -> str:
    """The expression, once it is known to be one.

    Raises:
      CannotEvaluate: it is no Python expression.
    """
    try:
        ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CannotEvaluate(f"{expression!r} is no expression: {getattr(error, 'msg', error)}") from None
    return expression.strip()
