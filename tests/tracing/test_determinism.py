"""Two recordings of one program: same or not, and in which way."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.tracing import Frame, Isolation, Trace, record, record_many
from cwm_jax.tracing.quality import difference
from cwm_jax.tracing.quality.determinism import REASONS
from cwm_jax.tracing.wrap import wrap

ROWS = [json.loads(line) for line in Path("tests/data/cruxeval.jsonl").read_text().splitlines()[:60]]


def traces_of(contexts):
    return list(record_many(contexts, isolation=Isolation.LIMITS_ONLY))


def test_real_programs_are_the_same_twice_and_any_change_is_found():
    contexts = [wrap(row["code"], "f", row["input"]) for row in ROWS]
    for first, second in zip(traces_of(contexts), traces_of(contexts)):
        assert difference(first, second) is None
        last = dataclasses.replace(first.frames[-1], value="'something else'")
        changed = dataclasses.replace(first, frames=(*first.frames[:-1], last))
        assert difference(first, changed).frame == len(first.frames) - 1
        cut = dataclasses.replace(first, frames=first.frames[:-1])
        assert difference(first, cut).reason == "number of frames"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import os\n    x = os.urandom(8).hex()\n    return x", "value: random"),
        ("import uuid\n    x = uuid.uuid4()\n    return x", "value: random"),
        ("from random import SystemRandom\n    return SystemRandom().random()", "value: random"),
        ("import time\n    x = time.time()\n    return x", "value: time"),
        ("import time\n    x = time.time_ns()\n    return x", "value: time"),
        ("from datetime import datetime\n    return datetime.now()", "value: time"),
        ("import tempfile\n    return tempfile.mktemp()", "value: temporary name"),
        ("x = id([])\n    return x", "value: address"),
        ("import os\n    x = 1\n    return os.getpid()", "value: number"),
        ("import os\n    if os.urandom(1)[0] % 2:\n        x = 1\n    else:\n        x = 2\n    return 1", "line"),
    ],
)
def test_names_the_cause_of_real_differences(body, reason):
    context = wrap(f"def f():\n    {body}", "f")
    first = record(context, isolation=Isolation.LIMITS_ONLY)
    seen = set()
    for _ in range(12):  # two processes may by chance agree on what is small
        found = difference(first, record(context, isolation=Isolation.LIMITS_ONLY))
        seen |= {found.reason} if found else set()
        if seen:
            break
    assert seen == {reason}


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ("{1, 'a'}", "{'a', 1}", "value: order of a set"),
        ("[3, 1]", "[1, 3]", "value: order"),
        ("<A at 0x7f12345678>", "<A at 0x7f12345abc>", "value: address"),
        ("'Wed Nov 25 04:54:43 2026'", "'Wed Nov 25 04:54:44 2026'", "value: time"),
        ("12", "13", "value: number"),
        ("'a'", "'b'", "value: other"),
    ],
)
def test_names_the_cause_of_a_value_even_where_one_stands_as_unchanged(one, other, reason):
    def trace(value):
        call = Frame("call", "def f(a):\n", locals=(("a", one),))
        return Trace("", (call, Frame("line", "    a = g(a)\n", locals=(("a", value),))))

    found = difference(trace(".."), trace(other))
    assert (found.reason, found.frame) == (reason, 1)


frames = st.lists(
    st.builds(
        Frame,
        event=st.sampled_from(["call", "line"]),
        source=st.sampled_from(["a\n", "b\n"]),
        locals=st.dictionaries(st.sampled_from("xy"), st.sampled_from(["..", "{1, 2}", "{2, 1}", "0.1234"])).map(
            lambda pairs: tuple(pairs.items())
        ),
    )
    | st.builds(Frame, event=st.just("return"), source=st.just("a\n"), value=st.sampled_from(["1", "2"])),
    max_size=4,
)
traces = st.builds(
    Trace, st.just(""), frames.map(tuple), st.booleans(), verdict=st.sampled_from(["returned", "raised"])
)


@given(traces, traces)
def test_says_the_same_of_both_orders_and_nothing_only_of_equals(one, other):
    found = difference(one, other)
    assert (found is None) == (one == other and one.verdict == other.verdict)
    assert found is None or (found.reason in REASONS and found == difference(other, one))


def test_refuses_recordings_of_two_programs():
    with pytest.raises(ValueError, match="context"):
        difference(Trace("a", ()), Trace("b", ()))
