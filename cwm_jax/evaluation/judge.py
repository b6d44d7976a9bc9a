"""Whether an assertion holds: answers are compared by value, never as texts, and run in the sandbox for it."""

import ast
from typing import NamedTuple

from cwm_jax.evaluation.metrics import parsed
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Limits, record
from cwm_jax.tracing.wrap import wrap_call

_LIMITS = Limits(  # 3 s as in the reproduction of CWM paper Table 8; what is recorded of it should not end it before
    wall_seconds=3.0, cpu_seconds=3, max_frames=1_000_000, max_trace_chars=64_000_000
)


class Verdict(NamedTuple):
    """Whether an answer is right; `reason` says in a word or two why it is not, and is empty if it is."""

    right: bool
    reason: str = ""


def returns(expected: str, answer: str, isolation: Isolation) -> Verdict:
    """Whether the expression `answer` has the value of the literal `expected`; one that is no literal is run.

    The program under test is not there to be called.
    """
    try:
        tree = parsed(answer.strip(), "eval")
        value = ast.unparse(tree)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return Verdict(False, "no Python value")
    try:
        return _verdict(ast.literal_eval(expected) == ast.literal_eval(tree))
    except (ValueError, TypeError, MemoryError, RecursionError):
        return _holds("", f"({expected}) == ({value})", isolation)


def gives(code: str, arguments: str, output: str, isolation: Isolation) -> Verdict:
    """Whether the function `f` of `code`, called with `arguments`, returns `output`."""
    try:
        call = parsed(f"f({arguments})", "eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            raise SyntaxError("more than a call")
        expression = f"{ast.unparse(call)} == ({output})"
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return Verdict(False, "no arguments")
    return _holds(code, expression, isolation)


def _holds(code: str, expression: str, isolation: Isolation) -> Verdict:
    try:
        run = record(wrap_call(code, expression), _LIMITS, isolation)
    except ValueError as error:  # it holds what the recorder cannot take: a control token, half a surrogate pair
        return Verdict(False, str(error))
    if run.verdict != "returned":
        return Verdict(False, f"does not evaluate: {run.verdict}")
    return _verdict(run.frames[-1].value == "True")


def _verdict(right: bool) -> Verdict:
    return Verdict(right, "" if right else "wrong value")
