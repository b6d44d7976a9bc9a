"""The recorder on programs that mean well: the exact format, every kind of frame, every kind of value."""

import ast
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.tracing import Isolation, Limits, Trace, parse, record, record_many, render, resolve
from cwm_jax.tracing.language import compress, source_lines
from cwm_jax.tracing.wrap import wrap

DATA = Path(__file__).parents[1] / "data"
TRUSTED = Isolation.LIMITS_ONLY
VECTORS = [json.loads(line) for line in (DATA / "trace_vectors.jsonl").read_text().splitlines()]
CRUXEVAL = [json.loads(line) for line in (DATA / "cruxeval.jsonl").read_text().splitlines()]
COMPREHENSION_FRAMES = pytest.mark.skipif(sys.version_info >= (3, 12), reason="3.12 gives comprehensions no frame")


def run(source: str, limits: Limits = Limits()) -> Trace:  # noqa: B008
    trace = record(source, limits, TRUSTED)
    assert parse(render(trace)) == trace
    assert_compressed(trace)
    return trace


def assert_compressed(trace: Trace) -> None:
    """`..` stands exactly where the rule of the trace language puts it: the child keeps that rule by itself."""
    states = resolve(trace)
    before = None
    for frame, state in zip(trace.frames, states):
        if frame.locals is None:
            before = None
            continue
        baseline = before if frame.event == "line" else None
        assert frame.locals == compress(state, baseline)
        before = state


def events(trace: Trace) -> str:
    """Such as `c1 l2 r2`: first letter of the event, and its line."""
    return " ".join(f"{frame.event[0]}{frame.line}" for frame in trace.frames)


@COMPREHENSION_FRAMES
@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_reference_traces_byte_for_byte(vector, isolation):
    trace = record(vector["context"], isolation=isolation)
    expected = f"<|begin_of_text|><|trace_context_start|>{vector['context']}<|frame_sep|>{vector['trace']}"
    assert render(trace) == expected
    assert parse(expected) == trace
    assert (trace.verdict, trace.complete, trace.reason) == ("returned", True, "")
    assert trace.python.startswith("3.")


def test_all_cruxeval_programs_record_return_what_is_stated_and_round_trip():
    contexts = [wrap(row["code"], "f", row["input"]) for row in CRUXEVAL]
    traces = list(record_many(contexts, isolation=TRUSTED))
    assert len(traces) == 800
    for row, trace in zip(CRUXEVAL, traces):
        assert trace.verdict == "returned", (row["id"], trace.reason)
        assert trace.frames[-1].value == repr(ast.literal_eval(row["output"])), row["id"]
        assert parse(render(trace)) == trace
        assert_compressed(trace)
    assert traces[7] == record(contexts[7]), "inside the sandbox it is the same trace"


@COMPREHENSION_FRAMES
def test_statistics_of_cruxeval_are_those_of_the_reference_tracer():
    contexts = [wrap(row["code"], "f", row["input"]) for row in CRUXEVAL]
    counts = sorted(len(trace.frames) for trace in record_many(contexts, isolation=TRUSTED))
    assert (round(sum(counts) / 800, 1), counts[-1]) == (16.7, 630)


CASES = {
    "exception caught": (
        "def main():  # << START_OF_TRACE\n    n = 0\n    try:\n        1 / n\n"
        "    except ZeroDivisionError as e:\n        return n\n",
        "c1 l2 l3 l4 e4 l5 l6 r6",
        "returned", "0",
    ),
    "exception that leaves two scopes": (
        "def f():\n    raise ValueError('x')\ndef main():  # << START_OF_TRACE\n    f()\n",
        "c3 l4 c1 l2 e2 r2 e4 r4",
        "raised", "None",
    ),
    "generator": (
        "def g():\n    yield 1\ndef main():  # << START_OF_TRACE\n    for x in g():\n        pass\n    return x\n",
        "c3 l4 c1 l2 r2 l5 l4 c2 r2 l6 r6",
        "returned", "1",
    ),
    "recursion": (
        "def f(n):\n    return n and f(n - 1)\ndef main():  # << START_OF_TRACE\n    return f(1)\n",
        "c3 l4 c1 l2 c1 l2 r2 r2 r4",
        "returned", "0",
    ),
    "lambda and builtins": (
        "def main():  # << START_OF_TRACE\n    return list(map(lambda a: a + 1, [1]))\n",
        "c1 l2 c2 l2 r2 r2",
        "returned", "[2]",
    ),
    "decorated entry, marker behind a header of two lines": (
        "def twice(f):\n    def inner():\n        return f() * 2\n    return inner\n"
        "@twice\ndef main(a=3,\n         b=4):  # << START_OF_TRACE\n    return a\n",
        "c5 l8 r8",
        "returned", "3",
    ),
    "entry called by the program itself": (
        "def main(n):  # << START_OF_TRACE\n    return n\nfor i in range(3):\n    main(i + 5)\n",
        "c1 l2 r2",
        "returned", "5",
    ),
    "method as entry": (
        "class A:\n    def f(self):  # << START_OF_TRACE\n        return 4\nA().f()\n",
        "c2 l3 r3",
        "returned", "4",
    ),
    "entry on one line": (
        "def main(): return 7  # << START_OF_TRACE\n",
        "c1 l1 r1",
        "returned", "7",
    ),
    "library code stays out": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def main():  # << START_OF_TRACE\n    return P(1)\n",
        "c5 l6 r6",
        "returned", "P(x=1)",
    ),
    "carriage returns": (
        "def main():  # << START_OF_TRACE\r\n    x = 1\r    return x\n",
        "c1 l2 l3 r3",
        "returned", "1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_events_are_those_of_cpython(name):
    source, expected, verdict, value = CASES[name]
    trace = run(source)
    assert events(trace) == expected
    assert (trace.verdict, trace.frames[-1].value) == (verdict, value)
    lines = source_lines(source)
    assert all(frame.source == lines[frame.line - 1] for frame in trace.frames)
    assert not any("START_OF_TRACE" in frame.source or "\r" in frame.source for frame in trace.frames)


def test_an_exception_shows_its_repr_and_gives_the_reason():
    trace = run(CASES["exception that leaves two scopes"][0])
    assert [frame.value for frame in trace.frames if frame.event == "exception"] == ["ValueError('x')"] * 2
    assert trace.complete and "ValueError('x')" in trace.reason


def test_async_entry_runs_to_its_end():
    trace = run(
        "import asyncio\nasync def f(n):\n    await asyncio.sleep(0)\n    return n\n"
        "async def main():  # << START_OF_TRACE\n    a = await f(1)\n    return [a, await f(2)]\n"
    )
    assert (trace.verdict, trace.frames[-1].value) == ("returned", "[1, 2]")
    assert [frame.line for frame in trace.frames if frame.event == "call"].count(5) == 1, (
        "the entry is resumed elsewhere"
    )


def test_generator_entry_runs_to_its_end_and_may_raise():
    body = "def main():  # << START_OF_TRACE\n    yield 1\n    yield 2\n"
    trace = run(body)
    assert [frame.value for frame in trace.frames if frame.event == "return"] == ["1", "2", "None"]
    thrown = run(body + "try:\n    g = main()\n    next(g)\n    g.throw(KeyError('k'))\nexcept KeyError:\n    pass\n")
    assert (thrown.verdict, thrown.reason) == ("raised", "the program raised KeyError('k')")


def test_an_exception_that_a_with_swallows_on_the_last_line_is_a_return():
    trace = run(
        "from contextlib import suppress\ndef main():  # << START_OF_TRACE\n    with suppress(KeyError): {}[1]\n"
    )
    assert (trace.verdict, trace.frames[-1].value) == ("returned", "None")


def test_after_an_exception_all_locals_print_in_full():
    frames = run(CASES["exception caught"][0]).frames
    assert [frame.locals for frame in frames if frame.line in (4, 5)] == [(("n", ".."),), None, (("n", "0"),)]


def test_closures_deleted_and_rebound_locals():
    trace = run(
        "def main():  # << START_OF_TRACE\n    n = 1\n    def inc():\n        nonlocal n\n        n += 1\n    inc()\n"
        "    x = [1]\n    del x; x = [1]\n    del x\n    x = [1]\n    del x; y = 2\n    y = int('2')\n    return n\n"
    )
    assert resolve(trace)[-2] == {"inc": "<function main.<locals>.inc>", "n": "2", "y": "2"}
    shown = [dict(frame.locals).get("x") for frame in trace.frames if frame.line in (8, 9, 10, 11)]
    assert shown == ["[1]", "..", None, "[1]"], "deleted and bound anew, it was not there the frame before"
    assert dict(trace.frames[-2].locals)["y"] == ".."


def test_what_a_scope_held_is_freed_when_it_is_left():
    trace = run(
        "class A:\n    def __del__(self):\n        log.append('freed')\ndef f():\n    a = A()\n    return 1\n"
        "def main():  # << START_OF_TRACE\n    global log\n    log = []\n    f()\n    return log\n"
    )
    assert events(trace) == "c7 l9 l10 c4 l5 l6 r6 c2 l3 r3 l11 r11"


def test_addresses_go_and_texts_that_look_like_them_stay():
    trace = run(
        "class A: pass\ndef main():  # << START_OF_TRACE\n    a = [A(), A]\n    b = ' at 0x7f0123456789'\n"
        "    c = A().__init__\n    return ' at 0x12', a, A()\n"
    )
    state = resolve(trace)[-2]
    assert state["a"] == "[<__main__.A object>, <class '__main__.A'>]"
    assert state["b"] == "' at 0x7f0123456789'"
    assert "0x" not in state["c"]
    assert trace.frames[-1].value == "(' at 0x12', [<__main__.A object>, <class '__main__.A'>], <__main__.A object>)"


def test_values_of_every_kind_print_as_repr_does():
    values = ["10**30", "1.5", "True", "None", "...", "2j", "b'x'", "bytearray(b'x')", "'\\n\"<|'", "range(3)", "(1,)",
              "{1, 2}", "frozenset()", "{'a': [1, {2: 'b'}]}", "['a', 'b']", "[['a'], [1]]",
              "'é\\ud800😀'"]  # fmt: skip
    trace = run(
        "def main():  # << START_OF_TRACE\n" + "".join(f"    v{i} = {v}\n" for i, v in enumerate(values)) + "    0\n"
    )
    assert list(resolve(trace)[-2].values()) == [repr(eval(value)) for value in values]


def test_lists_and_dicts_inside_themselves():
    trace = run("def main():  # << START_OF_TRACE\n    a = [1]; a.append(a)\n    d = {}; d['d'] = [d]\n    return a\n")
    assert resolve(trace)[-2] == {"a": "[1, [...]]", "d": "{'d': [{...}]}"}


def test_integers_too_long_to_print_show_their_type():
    trace = run("def main():  # << START_OF_TRACE\n    x = 10 ** 5000\n    return 1\n")
    assert resolve(trace)[-2] == {"x": "<int object>"}


def test_runs_are_repeatable():
    source = (
        "import random\ndef main():  # << START_OF_TRACE\n    x = random.random()\n    s = {'a', 'b', 'c', 'd', 'e'}\n"
        "    return x, s, hash('x')\n"
    )
    first, second = record_many([source, source], isolation=TRUSTED)
    assert render(first) == render(second) == render(record(source))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["1", "'a'", "[1]", "d", "a"])), min_size=1, max_size=12))
def test_random_assignments_and_deletions_resolve_to_what_an_interpreter_sees(steps):
    """An oracle of its own: the program notes its locals itself, by hand."""
    lines, bound = ["def main():  # << START_OF_TRACE", "    a = d = 0"], {"a", "d"}
    expected, state = [], {"a": "0", "d": "0"}
    for where, value in steps:
        name = "abcd"[where]
        if name in bound and value == "a" and name not in "ad":
            lines.append(f"    del {name}")
            bound.discard(name)
            state.pop(name)
        else:
            lines.append(f"    {name} = {value}")
            bound.add(name)
            state[name] = state[value] if value in ("a", "d") else value
        expected.append(dict(state))
    trace = run("\n".join([*lines, "    return 0", ""]))
    assert resolve(trace)[3:-1] == expected
