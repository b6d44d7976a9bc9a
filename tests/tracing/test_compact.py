"""The compact form: CWM's text follows from it exactly, for any program."""

import json
from pathlib import Path
from random import Random

import pytest

from cwm_jax.tracing import Isolation, record, record_many
from cwm_jax.tracing.compact import CONTROL_SYMBOLS, Compact
from cwm_jax.tracing.episodes import step_over
from cwm_jax.tracing.sources import composed, strawberry
from cwm_jax.tracing.wrap import wrap

DATA = Path(__file__).parent.parent / "data"
FORM = Compact()


def test_every_cruxeval_trace_follows_from_its_compact_form():
    rows = [json.loads(line) for line in (DATA / "cruxeval.jsonl").read_text().splitlines()]
    contexts = [wrap(row["code"], "f", row["input"]) for row in rows]
    count = 0
    for trace in record_many(contexts, isolation=Isolation.LIMITS_ONLY):
        assert FORM.trace(trace.context, FORM.frames(trace)) == trace
        count += 1
    assert count == 800


@pytest.mark.parametrize("family", [strawberry, composed])
def test_generated_programs_and_their_step_overs_round_trip(family):
    rng = Random(1)
    contexts = [family.generate(Random(seed), 1).contexts()[0] for seed in range(150)]
    for trace in record_many(contexts, isolation=Isolation.LIMITS_ONLY):
        assert trace.verdict == "returned"
        for episode in (trace, step_over(trace, rng)):
            assert FORM.trace(episode.context, FORM.frames(episode)) == episode


@pytest.mark.parametrize(
    "body",
    [
        "    x = 1\n    del x\n    y = 2\n    return y",  # a local vanishes
        "    if True:\n        b = 1\n    a = b\n    b = a\n    return b",
        "    try:\n        1 / 0\n    except ZeroDivisionError as e:\n        pass\n    return 0",
        "    class A:\n        def __repr__(self):\n            return '<|frame' + '_sep|>'\n    a = A()\n    return a",
        "    def g():\n        'Alone.'\n    return g()",
        "    class A:\n        'Doc.'\n        x = 1\n    return A.x",
        "    'one line'; x = 1\n    return x",
        "    xs = [1, 2]\n    for i, x in enumerate(xs): xs[i] = x\n    return xs",
    ],
)
def test_awkward_locals_round_trip(body):
    trace = record(wrap("def f():\n" + body, "f"), isolation=Isolation.LIMITS_ONLY)
    assert trace.complete
    assert FORM.trace(trace.context, FORM.frames(trace)) == trace


def trace_of(code, arguments=""):
    return record(wrap(code, "f", arguments), isolation=Isolation.LIMITS_ONLY)


def test_written_values_are_spelled_even_where_equal():
    trace = trace_of("def f():\n    x = 1\n    x = 1\n    return 0")
    pieces = FORM.frames(trace)
    assert pieces.count("x") == 2
    assert [dict(frame.locals)["x"] for frame in trace.frames if frame.locals and "x" in dict(frame.locals)] == [
        "1",
        "..",
    ]


def test_it_is_short():
    trace = record((Path("experiments/tiny/strawberry.py")).read_text(), isolation=Isolation.LIMITS_ONLY)
    from cwm_jax.tracing import render

    assert len("".join(FORM.frames(trace)).replace("<|", "").replace("|>", "")) < len(render(trace)) / 3


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda pieces: pieces[:-1], "breaks off"),
        (lambda pieces: ["rubbish", *pieces], "expected a control symbol"),
        (lambda pieces: [pieces[0], "<|L60|>", *pieces[2:]], "one of 4 lines"),
        (lambda pieces: ["<|pad|>", *pieces], "expected an event"),
    ],
)
def test_damaged_predictions_keep_the_frames_before(damage, reason):
    trace = trace_of("def f():\n    return 1")
    predicted = FORM.trace(trace.context, damage(FORM.frames(trace)))
    assert not predicted.complete and predicted.verdict == "malformed" and reason in predicted.reason
    assert predicted.frames == trace.frames[: len(predicted.frames)]


def test_context_too_long_is_refused():
    with pytest.raises(ValueError, match="labels at most 64"):
        FORM.context("x = 1\n" * 70)


def test_comments_docstrings_and_blanks_are_left_out():
    code = 'def f():  # why\n    """Doc.\n\n    More."""\n\n    return "#1"  # so'
    pieces = FORM.context(wrap(code, "f"))
    assert [piece for piece in pieces if not piece.startswith("<|")] == [
        "def f():",
        'return "#1"',
        "def main():",
        "return f()",
    ]
    assert pieces[pieces.index('return "#1"') - 2 :][:2] == ["<|L2|>", "<|return_sep|>"]


def test_the_marker_becomes_one_symbol():
    pieces = FORM.context(wrap("def f():\n    return 1", "f"))
    assert not any("START_OF_TRACE" in piece for piece in pieces)
    assert pieces[pieces.index("def main():") + 1] == "<|trace_context_start|>"
    assert set(CONTROL_SYMBOLS) >= {"<|L1|>", "<|L64|>", "<|trace_context_start|>"}


def test_step_over_skips_whole_calls_and_keeps_what_raises():
    code = "def g(n):\n    return n + 1\ndef f(n):\n    m = g(n)\n    return m"
    trace = trace_of(code, "1")

    class Always:
        def random(self):
            return 1.0  # never enter

    skipped = step_over(trace, Always())
    assert [frame.event for frame in skipped.frames] == ["call", "return"]
    raising = trace_of(
        "def g():\n    raise ValueError\ndef f():\n    try:\n        g()\n    except ValueError:\n        return 1"
    )
    inner = step_over(raising, type("Main", (), {"random": lambda self: 0.0})())
    assert inner == raising
    half = iter([0.0, 0.0, 1.0])  # main and f entered, g stepped over
    cut = step_over(trace, type("Half", (), {"random": lambda self: next(half)})())
    events = [frame.event for frame in cut.frames]
    assert events == ["call", "line", "call", "line", "call", "return", "line", "return", "return"]
