"""Line numbers that are found from frames without them: those of the recorder, wherever anything tells."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import record_many
from cwm_jax.tracing.language import source_lines
from cwm_jax.tracing.lines import LineNumbers
from cwm_jax.tracing.sources import composed, strawberry
from cwm_jax.tracing.wrap import wrap

ROWS = [json.loads(line) for line in Path("tests/data/cruxeval.jsonl").read_text().splitlines()[:60]]

ALIKE = """
def outer(n):
    def inner(k):
        total = 0
        for i in range(k):
            total += i
        return total
    total = 0
    for i in range(n):
        total += i
        if i > 1:
            total += inner(i)
            continue
        total += inner(0)
    return total


class Pair:
    def __init__(self, a):
        self.a = a

    def get(self):
        return self.a


class Other:
    def __init__(self, a):
        self.a = a

    def get(self):
        return self.a


def deeper(n):
    if n:
        return deeper(n - 1)
    return n


def f(x):
    pair = Pair(x)
    other = Other([k for k in range(x)])
    try:
        deeper(x)
        other.get()[9]
    except IndexError:
        x = pair.get()
    else:
        x = 0
    return outer(x)
"""


def numbers(trace):
    number = LineNumbers(trace.context)
    return [number(replace(frame, line=None)) for frame in trace.frames]


@pytest.fixture(scope="module")
def traces():
    contexts = [wrap(row["code"], "f", row["input"]) for row in ROWS]
    contexts += [
        source.generate(Random(seed), 1).contexts()[0] for source in (strawberry, composed) for seed in range(5)
    ]
    return list(record_many(contexts, isolation=Isolation.LIMITS_ONLY))


def test_every_line_reads_as_its_frame_says(traces):
    for trace in traces:
        lines = source_lines(trace.context)
        assert [lines[number - 1] for number in numbers(trace)] == [frame.source for frame in trace.frames]


def test_what_stands_once_is_found_and_nearly_all_of_the_rest(traces):
    right = total = 0
    for trace in traces:
        lines = source_lines(trace.context)
        for number, frame in zip(numbers(trace), trace.frames, strict=True):
            assert number == frame.line or lines.count(frame.source) > 1
            right, total = right + (number == frame.line), total + 1
    assert total > 1000 and right / total > 0.999


def test_control_tells_lines_apart_that_read_alike():
    (trace,) = record_many([wrap(ALIKE, "f", "3")], isolation=Isolation.LIMITS_ONLY)
    assert trace.verdict == "returned" and len({frame.source for frame in trace.frames}) < len(
        {frame.line for frame in trace.frames}
    )
    found = numbers(trace)
    # Methods that read alike in two classes, called by way of objects, are told apart by nothing.
    wrong = [i for i, frame in enumerate(trace.frames) if found[i] != frame.line]
    classes = [
        i for i, frame in enumerate(trace.frames) if "self" in dict(frame.locals or ()) or "self" in frame.source
    ]
    assert set(wrong) <= set(classes)


def test_a_line_of_no_program_has_no_number(traces):
    trace = traces[0]
    number = LineNumbers(trace.context)
    assert number(replace(trace.frames[0], source="    never = written\n", line=None)) is None
    broken = LineNumbers("def f(:  # << START_OF_TRACE\n    x = 1\n")
    assert broken(replace(trace.frames[0], source="    x = 1\n", line=None)) == 2
