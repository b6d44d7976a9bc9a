"""Real runs as proofs: of states that come back, and of none where something hidden moves on."""

import pytest
from ending_programs import ENDS

from cwm_jax.sandbox import Isolation, Limits
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.halting import halts

SHORT = Limits(wall_seconds=3.0, cpu_seconds=3)


LOOPS = {
    "an unchanged state": ("def f(n):\n    while n:\n        pass", "1"),
    "a cycle of lists": ("def f(xs):\n    while True:\n        xs.append(xs.pop(0))", "[1, 2, 3]"),
    "a cycle through calls": ("def g(n):\n    return n * 3 % 7\ndef f(n):\n    while n:\n        n = g(n)", "1"),
    "a loop in a call, deep down": ("def f(n):\n    while n == 0:\n        pass\n    return f(n - 1) + 1", "20"),
    "a loop inside a for": ("def f(xs):\n    for x in xs:\n        while x:\n            x = -x", "[0, 0, 3]"),
    "floats": ("def f(x):\n    while x >= 0.0:\n        x /= 2", "1.0"),
    "the module's variables": ("at = [0]\ndef f():\n    global at\n    while at[0] < 9:\n        at = [1 - at[0]]", ""),
    "no even number": ("def f(n):\n    while n != 0:\n        n -= 2", "7"),
    "upwards": ("def f(n):\n    while n > 0:\n        n += 1", "5"),
    "numbers that grow long": ("def f(n):\n    while n > 0:\n        n *= 3", "5"),
    "a flag": ("def f(n):\n    done = False\n    while not done:\n        n += 1\n        done = n < 0", "3"),
    "an inner loop": ("def f(n):\n    while True:\n        n = 0\n        while n < 3:\n            n += 1", "3"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_proved(name):
    answer = halts(wrap(LOOPS[name][0], "f", LOOPS[name][1]), None, Isolation.LIMITS_ONLY, SHORT)
    assert (answer.verdict, answer.proof) == ("loops", True), answer.evidence


@pytest.mark.parametrize("name", ENDS)
def test_no_loop_is_proved_where_something_hidden_moves_on(name):
    answer = halts(wrap(ENDS[name], "f"), None, Isolation.LIMITS_ONLY, SHORT)
    assert not any(one.verdict == "loops" for one in answer.evidence)
    assert answer.proof is (name != "chance"), answer.evidence


def test_a_program_cannot_forge_a_proof():
    forge = """
import os
def f():
    for file in range(3, 30):
        try:
            os.pwrite(file, b'{"outcome": "returned", "seconds": 1, "x": 2}', 0)
        except OSError:
            pass
    while True:
        pass
"""
    answer = halts(wrap(forge, "f"), None, Isolation.LIMITS_ONLY, Limits(wall_seconds=1.0))
    assert (answer.verdict, answer.proof) == ("unknown", False)


def test_a_recursion_without_end_is_neither():
    answer = halts(wrap("def f(n):\n    return f(n + 1)", "f", "1"), None, Isolation.LIMITS_ONLY, SHORT)
    assert (answer.verdict, answer.proof) == ("unknown", False) and "stack" in answer.evidence[-1].text
