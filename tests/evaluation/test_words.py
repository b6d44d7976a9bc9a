"""Questions in words and the answers read out of texts, and how answers are judged."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.evaluation import words
from cwm_jax.evaluation.judge import gives, returns
from cwm_jax.sandbox import Isolation

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
)
dicts = st.dictionaries(st.text(max_size=3), scalars, max_size=3)
values = scalars | dicts | st.lists(scalars | dicts, max_size=3) | st.tuples(scalars, dicts)
SURROUNDED = ["{}\n[/ANSWER]", "[ANSWER]\n{}\n[/ANSWER]\n", "So:\n[ANSWER]```python\n{}\n```[/ANSWER]", "{}"]


def test_the_worked_examples_are_true():
    for code, given_, result in words._EXAMPLES:
        space: dict = {}
        exec(code, space)
        assert eval(f"f({given_})", space) == ast.literal_eval(result)


@settings(deadline=None, max_examples=40)
@given(values, values, st.sampled_from(SURROUNDED))
def test_a_stated_output_is_read(value, argument, surrounded):
    for stated in (f"assert f({argument!r}) == {value!r}", f"assert {value!r} == f({argument!r})", repr(value)):
        answer = words.value_in(surrounded.format(stated))
        assert returns(repr(value), answer, Isolation.LIMITS_ONLY).right
        assert ast.literal_eval(answer) == value


@settings(deadline=None, max_examples=40)
@given(st.lists(values, max_size=3), values, st.sampled_from(SURROUNDED))
def test_stated_arguments_are_read(arguments, value, surrounded):
    stated = ", ".join(map(repr, arguments))
    for answer in (f"assert f({stated}) == {value!r}", f"f({stated})"):
        read = words.arguments_in(surrounded.format(answer)) or ""
        assert ast.literal_eval(f"[{read}]") == arguments


@settings(deadline=None, max_examples=40)
@given(values, values)
def test_a_literal_is_right_if_it_is_equal(expected, answer):
    assert returns(repr(expected), repr(answer), Isolation.LIMITS_ONLY).right == (expected == answer)


@pytest.mark.parametrize(
    "expected, answer, right, reason",
    [
        ("'abab'", "'ab' * 2", True, ""),
        ("[0, 1]", "list(range(2))", True, ""),
        ("[0, 1]", "list(range(3))", False, "wrong value"),
        ("1", "1) or (1", False, "no Python value"),
        ("1", "f(1)", False, "does not evaluate: raised"),
        ("1", "<object object>", False, "no Python value"),
        ("1", "9**9**9", False, "does not evaluate: timeout"),
    ],
)
def test_other_expressions_are_run(expected, answer, right, reason):
    assert returns(expected, answer, Isolation.LIMITS_ONLY) == (right, reason)


CODE = "def f(a, *rest, sep='-'):\n    return sep.join([a, *rest])\n"


@pytest.mark.parametrize(
    "arguments, right, reason",
    [
        ("'a', 'b'", True, ""),
        ("'a', *['b'], **{'sep': '-'}", True, ""),
        ("'a'", False, "wrong value"),
        ("1, 2", False, "does not evaluate: raised"),
        ("1) + f(2", False, "no arguments"),
        ("1, ", False, "does not evaluate: raised"),
        ("(", False, "no arguments"),
    ],
)
def test_arguments_are_right_if_the_function_says_so(arguments, right, reason):
    assert gives(CODE, arguments, "'a-b'", Isolation.LIMITS_ONLY) == (right, reason)
