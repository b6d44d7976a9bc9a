import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_run import STRAWBERRY, record

from cwm_jax.report.frames import content, full_locals, verdicts
from cwm_jax.report.traces import trace_browser, trace_page
from cwm_jax.tracing.language import resolve
from cwm_jax.tracing.trace import Frame, Trace

TEXT = st.text(max_size=6) | st.sampled_from(["..", "</script>", "<!--", "'a'", "\ud800", "\u2028"])
STATES = st.dictionaries(st.sampled_from(["a", "b", "c", "</script"]), TEXT, max_size=3)
FRAMES = st.lists(
    st.builds(lambda event, source, state, line: {"event": event, "source": source, "locals": state, "line": line},
              st.sampled_from(["call", "line"]), TEXT, STATES, st.none() | st.integers(1, 9))
    | st.builds(lambda event, source, value: {"event": event, "source": source, "value": value, "line": None},
                st.sampled_from(["return", "exception"]), TEXT, TEXT),
    max_size=12,
)  # fmt: skip
ITEMS = st.builds(
    lambda name, predicted, actual: {"set": "s", "name": name, "context": name, "exact": predicted == actual,
                                     "predicted": predicted, "actual": actual},
    TEXT, st.none() | FRAMES, FRAMES,
)  # fmt: skip


def data_of(markup: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script', markup, re.DOTALL)[1])


@settings(max_examples=50)
@given(st.lists(ITEMS, min_size=1, max_size=4))
def test_a_page_holds_exactly_the_frames_it_was_given(items):
    data = data_of(trace_browser(items).html)
    pool = [json.dumps(frame) for frame in data["frames"]]
    assert len(set(pool)) == len(pool), "each frame once"
    for item, stored in zip(items, data["items"], strict=True):
        assert stored["lines"] == [frame["line"] for frame in item["actual"]]
        for side in ("actual", "predicted"):
            told = item[side] and [json.dumps(content(frame)) for frame in item[side]]
            assert told == (stored[side] and [pool[number] for number in stored[side]])
        same = [ours == real for ours, real in zip(stored["predicted"] or [], stored["actual"], strict=False)]
        assert verdicts(item["predicted"] or [], item["actual"])[: len(same)] == same


@given(FRAMES, FRAMES)
def test_verdicts_cover_the_longer_trace(one, other):
    checks = verdicts(one, other)
    assert len(checks) == max(len(one), len(other))
    assert verdicts(one, one) == [True] * len(one)
    assert not any(checks[min(len(one), len(other)) :])


def test_a_frame_of_no_line_number_is_the_same_frame():
    frames = record(STRAWBERRY)
    assert all(verdicts([{**frame, "line": None} for frame in frames], frames))
    reordered = {**frames[-8], "locals": dict(reversed(frames[-8]["locals"].items()))}
    assert verdicts([reordered], [frames[-8]]) == [False], "the order of names is part of the text"


@given(FRAMES)
def test_full_locals_are_those_of_the_trace_language(frames):
    trace = Trace("", tuple(
        Frame(frame["event"], frame["source"], tuple(frame["locals"].items()) if "locals" in frame else None,
              frame.get("value")) for frame in frames
    ))  # fmt: skip
    assert full_locals(frames) == resolve(trace)


def test_a_page_of_one_trace():
    frames = record(STRAWBERRY)
    page = trace_page("strawberry.py", STRAWBERRY, frames, "returned", "")
    assert "The run returned after 32 frames." in page and page.startswith("<!doctype html>")
    assert data_of(page)["items"][0]["predicted"] is None
    cut = trace_page("a", STRAWBERRY, frames, "timeout", "It ran for 10 s.", predicted=frames)
    assert "cut short (timeout) after 32 frames. It ran for 10 s." in cut
    assert data_of(cut)["items"][0]["predicted"] == data_of(cut)["items"][0]["actual"]


def test_no_trace_is_refused():
    with pytest.raises(ValueError, match="items"):
        trace_browser([])
