"""The normal form: what may be renamed or left out, and what may not."""

import ast
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.tracing.sources.normal import normalise, parse_unmarked
from cwm_jax.tracing.sources.program import fingerprint
from cwm_jax.tracing.wrap import wrap

LIBRARY = Path(sysconfig.get_path("stdlib"))
PROGRAM = """
import {module} as {alias}
class {cls}({base}):
    {field} = 1
    async def method(self, {arg}):
        async with {arg} as {local}:
            await {local}.{field}
def {function}({arg}, *{rest}, key={arg_default}):
    global {state}
    {state} = {alias}.sqrt({arg})
    try:
        {function}({arg}, key=2)
    except ValueError as {error}:
        match {error}:
            case [{head}, *{tail}]:
                return [{head} for {head} in {tail}]
    return {cls}().method(*{rest})
"""
RENAMED = ("alias", "cls", "arg", "local", "function", "rest", "state", "error", "head", "tail")
FIXED = {"module": "math", "base": "list", "field": "weight", "arg_default": "3"}
names = st.lists(
    st.from_regex(r"[a-z]{1,6}_[a-z]", fullmatch=True), min_size=len(RENAMED), max_size=len(RENAMED), unique=True
)


def program(chosen, **changes):
    return PROGRAM.format(**dict(zip(RENAMED, chosen)), **(FIXED | changes))


@settings(deadline=None)
@given(names, names)
def test_names_of_its_own_do_not_count(one, other):
    assert fingerprint(program(one)) == fingerprint(program(other))


@settings(deadline=None)
@given(names, st.sampled_from([("module", "cmath"), ("base", "dict"), ("field", "height"), ("arg_default", "4")]))
def test_everything_else_counts(chosen, change):
    assert fingerprint(program(chosen)) != fingerprint(program(chosen, **dict([change])))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(key, a): return sorted(a, key=key)", "def f(foo, a): return sorted(a, foo=foo)"),
        ("class A:\n def go(self): return self.go", "class A:\n def run(self): return self.go"),
        ("def f(a): return a", "def f(a): return v1"),
        ("def f(a, b): return a", "def f(a, b): return b"),
        ("from os import path", "from os import sep"),
        ("def f(): yield 1", "async def f(): yield 1"),
        ("def f():  # << START_OF_TRACE\n    x = 1\n    return x", "def f():  # << START_OF_TRACE\n    return 2"),
    ],
)
def test_different_programs_stay_different(one, other):
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(a):\n    'Doc.'\n    return a  # why", "def f(x: int) -> int:\n    return (x)"),
        ("import numpy as np\nnp.ones(1)", "import numpy\nnumpy.ones(1)"),
        ("def f(n):\n    'Doc.'", "def f(n): pass"),
        ("def g(a): return a", wrap("def f(b): return b", "f", "1")),
        ("def g(a): return a", wrap("def f(b): return b", "f", "1").replace("\n", "\r")),
    ],
)
def test_layout_docstrings_and_wrappers_do_not_count(one, other):
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize("name", ["heapq", "dataclasses", "asyncio/tasks", "enum", "contextlib"])
def test_normal_forms_of_real_modules_survive_a_round_through_other_layout(name):
    code = (LIBRARY / f"{name}.py").read_text()
    assert fingerprint(ast.unparse(ast.parse(code))) == fingerprint(code)
    once = normalise(parse_unmarked(code))
    assert ast.dump(normalise(parse_unmarked(code))) == ast.dump(once)
