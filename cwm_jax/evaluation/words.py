"""CRUXEval's questions in words, and the answers read out of texts. The wording is ours; CWM's is not released."""

import ast
import re
import textwrap

from cwm_jax.evaluation.metrics import parsed

OPEN, CLOSE = "[ANSWER]", "[/ANSWER]"
REASONING = (
    "You are a careful programmer who runs code in the head. Think before you answer; write your thoughts first:\n\n"
    "<think>\nthoughts\n</think>\nanswer"
)
_OUTPUT = (
    "Each problem shows a Python function and an assertion whose right side is `??`. Write the assertion again with "
    "the literal that makes it hold, between [ANSWER] and [/ANSWER]. No calls and no operators in place of `??`."
)
_INPUT = (
    "Each problem shows a Python function and an assertion whose arguments are `??`. Write the assertion again with "
    "arguments that make it hold, between [ANSWER] and [/ANSWER]. If several do, any of them is right."
)
_EXAMPLES = (
    ("def f(word, n):\n    return word[n:] + word[:n].upper()", "'garden', 2", "'rdenGA'"),
    ("def f(pairs):\n    return {k: v for v, k in pairs if v > 1}", "[(1, 'a'), (4, 'b')]", "{'b': 4}"),
)


def output_problem(code: str, arguments: str) -> str:
    """What the function returns, asked with two worked examples; the text goes on with the answer."""
    shots = [_problem(one, f"f({given}) == ??", f"f({given}) == {result}") for one, given, result in _EXAMPLES]
    return "\n\n".join([_OUTPUT, *shots, _problem(code, f"f({arguments}) == ??")])


def input_problem(code: str, output: str) -> str:
    """Which arguments give `output`, asked with two worked examples; the text goes on with the answer."""
    shots = [_problem(one, f"f(??) == {result}", f"f({given}) == {result}") for one, given, result in _EXAMPLES]
    return "\n\n".join([_INPUT, *shots, _problem(code, f"f(??) == {output}")])


def _problem(code: str, asked: str, answered: str | None = None) -> str:
    text = f"[PYTHON]\n{code.strip()}\nassert {asked}\n[/PYTHON]\n{OPEN}\n"
    return text if answered is None else f"{text}assert {answered}\n{CLOSE}"


def value_in(text: str) -> str | None:
    """The value that an answer states: the side of its assertion that is no call of `f`, or the answer itself."""
    answer = _answer(text)
    sides = _sides(answer)
    if sides is None:
        return answer or None
    left, right = sides
    return ast.unparse(left if _call(right) else right)


def arguments_in(text: str) -> str | None:
    """The arguments that an answer states: those of the call of `f` in its assertion, or the answer itself."""
    answer = _answer(text)
    sides = _sides(answer)
    call = next(filter(None, map(_call, sides or (_parsed(answer),))), None)
    if call is None:
        return answer or None
    return ", ".join(ast.unparse(argument) for argument in (*call.args, *call.keywords))


def _answer(text: str) -> str:
    """What stands between the last tags, one of which may be missing, without a code fence."""
    inside = text.rpartition(OPEN)[2].partition(CLOSE)[0]
    fenced = re.search(r"```(?:python)?\n(.*?)```", inside, re.DOTALL)
    return textwrap.dedent(fenced[1] if fenced else inside).strip()


def _sides(answer: str) -> tuple[ast.expr, ast.expr] | None:
    """Both sides of `assert a == b`, or of `a == b`."""
    test = _parsed(re.sub(r"^assert\s", "", answer))
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        return test.left, test.comparators[0]
    return None


def _parsed(expression: str) -> ast.expr | None:
    try:
        return parsed(expression, "eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _call(node: ast.expr | None) -> ast.Call | None:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "f"
    return node if is_call else None
