"""The compact form: CWM's text follows from it exactly, for any program."""

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        "    def h(a,\n      b=abs(1)): 'd'; \\\n      return b\n    return h(0)",
        '    s = """\n<|again|>\n"""\n    return s',
        "    a, b = '', '|again|>'\n    if a<b:\n        return 1\n    return 0",
        "    class A:\n        locals()['<|again|>'] = 2\n        y = 1\n    return A.y",
        "    try:\n        n = 1\n        n += [][0]\n    except IndexError as e:\n        n = 2\n    return n",
        "    xs = []\n    def g(n):\n        xs.append(n)\n        return n\n    y = g(1) + g(2)\n    return y",
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
    with pytest.raises(ValueError, match="the model knows 64 labels"):
        FORM.context(wrap("x = 1\n" * 70, "f"))


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


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_line_ends_of_every_kind_round_trip(end):
    code = "def f(n):\n    total = 0\n    for i in range(n):\n        total += i\n    return total\n"
    context = (code + "def main():  # << START_OF_TRACE\n    return f(3)\n").replace("\n", end)
    trace = record(context, isolation=Isolation.LIMITS_ONLY)
    assert trace.complete and FORM.trace(context, FORM.frames(trace)) == trace
    assert "<|trace_context_start|>" in FORM.context(context)


def test_a_byte_order_mark_is_no_code():
    context = "\ufeff" + wrap("def f():\n    return 1", "f").lstrip()
    assert FORM.context(context) == FORM.context(context[1:])


@pytest.mark.parametrize(
    "context, complaint",
    [
        ("def f(:\n  # << START_OF_TRACE", "does not parse"),
        ("def main():  # << START_OF_TRACE\nreturn 1", "does not parse"),
        ("x = (" * 300, "does not parse"),
        ("x = '\0'\0", "does not parse"),
        ("def main():\n    return 1\n", "start marker"),
    ],
)
def test_what_is_no_program_is_explained(context, complaint):
    with pytest.raises(ValueError, match=complaint):
        FORM.context(context)


def test_a_long_expression_is_no_deep_recursion():
    trace = trace_of("def f():\n    return " + " + ".join(["1"] * 900))
    assert FORM.trace(trace.context, FORM.frames(trace)) == trace


@given(st.data())
def test_damage_of_any_kind_is_read_as_far_as_it_goes(data):
    trace = _TRACE
    pieces = FORM.frames(trace)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(pieces) - 1))
        other = data.draw(st.integers(0, len(pieces) - 1))
        damage = data.draw(st.sampled_from(("cut", "double", "swap", "symbol")))
        if damage == "cut" and len(pieces) > 2:
            del pieces[place]
        elif damage == "double":
            pieces.insert(other, pieces[place])
        elif damage == "symbol":
            pieces[place] = data.draw(st.sampled_from(CONTROL_SYMBOLS))
        else:
            pieces[place], pieces[other] = pieces[other], pieces[place]
    read = FORM.trace(trace.context, pieces)
    assert read.complete or read.verdict == "malformed"


_TRACE = trace_of(
    "def g(n):\n    return n * 2\ndef f(xs):\n    total = 0\n    for x in xs:\n        total += g(x)\n    return total",
    "[1, 2]",
)
