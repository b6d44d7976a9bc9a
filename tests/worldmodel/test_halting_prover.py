"""The prover, against running a few thousand turns."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from cwm_jax.worldmodel.halting.ranking import always_ends
from cwm_jax.worldmodel.halting.recurrence import loops_of, never_left

TERMS = some.sampled_from(["a", "b", "1", "2", "3", "-1", "a + 1", "a - b", "b - 2", "a // 2", "a % 3", "2 * a", "-b"])
TESTS = some.builds("{} {} {}".format, TERMS, some.sampled_from(["<", "<=", "!=", "==", ">"]), TERMS)
LINES = some.builds("{} {} {}".format, some.sampled_from("ab"), some.sampled_from(["=", "+=", "-="]), TERMS)


@some.composite
def loops(draw):
    """The source of a loop over the numbers a and b."""
    body = draw(some.lists(LINES, min_size=1, max_size=2))
    if draw(some.booleans()):
        body += [
            f"if {draw(TESTS)}:",
            "    " + draw(LINES | some.sampled_from(["break", "continue"])),
            "else:",
            "    " + draw(LINES),
        ]
    if draw(some.booleans()):
        body += [f"for i in range({draw(some.integers(0, 3))}):", "    " + draw(LINES)]
    return f"while {draw(TESTS)}:\n" + "\n".join("    " + line for line in body)


def turns(loop, a, b, most):
    """How often the loop turns from these numbers, or None if more often."""
    source = loop.replace(":\n", ":\n    turns.append(0)\n    if len(turns) > most: raise TimeoutError\n", 1)
    seen = []
    try:
        exec(source, {"a": a, "b": b, "turns": seen, "most": most})
    except TimeoutError:
        return None
    return len(seen)


NUMBERS = some.integers(-6, 12)


@settings(max_examples=40, deadline=None)
@given(loops(), NUMBERS, NUMBERS)
def test_what_the_prover_says_is_what_running_shows(loop, a, b):
    took = turns(loop, a, b, 3000)
    node, *_ = loops_of(tree := ast.parse(loop))
    variables = {"a": a, "b": b}
    if eval(compile(ast.Expression(node.test), "", "eval"), dict(variables)) and never_left(node, variables):
        assert took is None
    tree.body[:0] = ast.parse(f"a = {a}\nb = {b}").body
    if always_ends(ast.fix_missing_locations(tree)) is not None:
        assert took is not None


def test_the_prover_needs_whole_numbers():
    assert always_ends(ast.parse("x = 8\nwhile x > 0:\n    x -= 1")) is not None
    assert always_ends(ast.parse("x = 1e17\nwhile x > 0:\n    x -= 1")) is None
    assert always_ends(ast.parse("def f(x):\n    while x > 0:\n        x -= 1\nf(8)\nf(1e17)")) is None


@pytest.mark.parametrize(
    "code",
    [
        "xs = [1]\nfor x in xs:\n    xs.append(x)",
        "xs = [1]\nfor x in xs:\n    xs *= 2",
        "xs = [1]\nfor x in xs:\n    xs[1:] = [x, x]",
        "xs = [1]\nys = [xs.append(x) for x in xs]",
        "xs = [1]\nxs.extend(x for x in xs)",
        "xs = [1]\nfor i, x in enumerate(xs):\n    xs.append(x)",
        "xs = [1]\ndef g():\n    xs.append(1)\nfor x in xs:\n    g()",
        "xs = [1]\ndef g(x):\n    xs.append(x)\n    return x\nmax(xs, key=g)",
        "def f(n):\n    return f(n)\nf(1)",
        "n = 3\nwhile (n := n + 1) > 0:\n    n -= 1",
    ],
)
def test_what_grows_as_it_is_iterated_is_not_proved_to_end(code):
    assert always_ends(ast.parse(code)) is None
