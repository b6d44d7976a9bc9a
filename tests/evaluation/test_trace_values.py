"""Values held against the real ones by their type, and frames by their place."""

import json
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.evaluation.constructs import constructs
from cwm_jax.evaluation.trace_suite import values_by_type
from cwm_jax.tracing import parse, resolve
from cwm_jax.tracing.trace import UNCHANGED, Frame

VECTORS = [json.loads(line) for line in Path("tests/data/trace_vectors.jsonl").read_text().splitlines()[:20]]
TRACES = [
    parse(f"<|begin_of_text|><|trace_context_start|>{vector['context']}<|frame_sep|>{vector['trace']}")
    for vector in VECTORS
]


def test_all_values_of_the_real_trace_are_right_and_none_is_left_out():
    for trace in TRACES:
        counts = values_by_type(trace, trace)
        assert all(right == n for right, n in counts.values())
        shown = sum(value != UNCHANGED for frame in trace.frames for _, value in frame.locals or ())
        assert sum(n for _, n in counts.values()) == shown + sum(frame.value is not None for frame in trace.frames)


@given(st.sampled_from(TRACES), st.data())
def test_a_wrong_returned_value_costs_its_type_alone(trace, data):
    places = [place for place, frame in enumerate(trace.frames) if frame.value is not None]
    place = data.draw(st.sampled_from(places))
    frames = list(trace.frames)
    frames[place] = replace(frames[place], value="<other>")
    counts, all_right = values_by_type(replace(trace, frames=tuple(frames)), trace), values_by_type(trace, trace)
    missed = {name: n - right for name, (right, n) in counts.items() if right < n}
    assert sum(missed.values()) == 1 and {name: n for name, (_, n) in counts.items()} == {
        name: n for name, (_, n) in all_right.items()
    }


@given(st.sampled_from(TRACES))
def test_a_value_told_in_full_is_as_right_as_one_told_as_unchanged(trace):
    states = resolve(trace)
    full = [
        frame if frame.locals is None else replace(frame, locals=tuple(state.items()))
        for frame, state in zip(trace.frames, states)
    ]
    assert values_by_type(replace(trace, frames=tuple(full)), trace) == values_by_type(trace, trace)


def test_types_are_those_of_the_values():
    real = replace(
        TRACES[0],
        frames=(
            Frame("call", "def f(a, b):\n", locals=(("a", "'x'"), ("b", "<f object>"))),
            Frame("line", "  return {}\n", locals=(("a", ".."), ("b", ".."))),
            Frame("return", "  return {}\n", value="{}"),
        ),
    )
    assert values_by_type(replace(real, frames=real.frames[:1]), real) == {
        "str": (1, 1),
        "other": (1, 1),
        "dict": (0, 1),
    }


PROGRAM = """
def outer(n):
    if n < 1:
        raise ValueError(f"{n}")
    return [each for each in range(n)] or outer(n - 1)


def main():  # << START_OF_TRACE
    return outer(2)
"""


def test_constructs_are_those_that_stand_in_the_program():
    held = ["condition", "comprehension", "exception", "f-string", "arithmetic", "recursion"]
    assert constructs(PROGRAM) == held
    assert constructs(PROGRAM.replace(" or outer(n - 1)", "")) == held[:-2]
    assert constructs("def f(:") == []
    assert constructs(PROGRAM + "\ndef g(): pass") == [*held, "several functions"]
    assert constructs("class A:\n  def append(self, x):\n    self.items.append(x)") == ["class", "attribute or method"]
    assert "recursion" in constructs("class A:\n  def walk(self):\n    self.walk()")
    assert constructs("def f():\n  return 1, 2") == []
    assert constructs("def f(x):\n  def g():\n    return x\n  a, b = g()") == ["unpacking", "closure"]
