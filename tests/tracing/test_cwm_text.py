"""CWM's text as a form: what is written is read again, from any place on, and what is broken stays in its place."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.evaluation.metrics import METRICS, trace_metrics
from cwm_jax.text import special_tokens as tokens
from cwm_jax.tracing import parse, render
from cwm_jax.tracing.cwm_text import CwmText
from cwm_jax.tracing.language import EVENT_TOKENS, TraceSyntaxError, source_lines, to_json
from cwm_jax.tracing.trace import UNCHANGED

FORM = CwmText()
VECTORS = [json.loads(line) for line in Path("tests/data/trace_vectors.jsonl").read_text().splitlines()[:20]]
TRACES = [parse("".join(FORM.context(vector["context"])) + vector["trace"]) for vector in VECTORS]
some_trace = st.sampled_from([trace for trace in TRACES if trace.complete])


def test_the_pieces_are_those_of_the_text():
    for trace in TRACES:
        assert "".join([*FORM.context(trace.context), *FORM.frames(trace)]) == render(trace)


@given(some_trace, st.data())
def test_a_trace_goes_on_from_any_of_its_frames(trace, data):
    pieces = FORM.frames(trace)
    known = data.draw(st.integers(0, len(trace.frames)))
    prefix = FORM.prefix(trace.context, trace.frames[:known])
    assert pieces[: len(prefix)] == prefix
    starts = [*FORM.event_indices(pieces), len(pieces) - 1]
    assert starts[known] == len(prefix)
    assert FORM.trace(trace.context, [*prefix, *pieces[len(prefix) :]]) == trace


@given(some_trace, st.data())
def test_a_frame_that_cannot_be_read_costs_itself_alone(trace, data):
    pieces = FORM.frames(trace)
    with_state = [i for i, frame in enumerate(trace.frames) if frame.locals is not None]
    place = data.draw(st.sampled_from(with_state))
    pieces[FORM.event_indices(pieces)[place] + 1] = '{"n": 1'
    predicted = FORM.trace(trace.context, pieces)
    assert not predicted.complete and f"frame {place + 1}" in predicted.reason
    scores, whole = trace_metrics(predicted, trace, len), trace_metrics(trace, trace, len)
    assert scores["valid_json"] == pytest.approx(1 - 1 / len(with_state)) == scores["state_exact"]
    assert scores["valid_format"] == scores["output_match"] == 0
    assert scores["action_exact"] == 1
    assert all(scores[name] == whole[name] for name in METRICS[7:])


@given(some_trace, st.data())
def test_what_breaks_off_keeps_its_frames(trace, data):
    pieces = FORM.frames(trace)
    cut = data.draw(st.integers(0, len(pieces) - 1))
    predicted = FORM.trace(trace.context, pieces[:cut])
    assert not predicted.complete and predicted.reason
    assert predicted.frames == trace.frames[: pieces[:cut].count(tokens.FRAME_SEP)]


@pytest.mark.parametrize(
    "pieces",
    [
        [tokens.FRAME_SEP],
        ["words", tokens.FRAME_SEP],
        [tokens.LINE_SEP, tokens.ACTION_SEP, tokens.FRAME_SEP],
        [tokens.LINE_SEP, "{}", tokens.ACTION_SEP, "x", tokens.ARG_SEP, '"1"', tokens.FRAME_SEP],
        [tokens.LINE_SEP, "{}", tokens.ACTION_SEP, f"spelled {tokens.FRAME_SEP}", tokens.FRAME_SEP],
    ],
)
def test_no_pieces_are_refused(pieces):
    (frame,) = FORM.trace("", pieces).frames
    assert (frame.locals, frame.value) == (None, None)
    assert trace_metrics(replace(TRACES[0], frames=(frame,), complete=False), TRACES[0], len)["state_exact"] == 0


def cut(pieces, data):
    """The pieces, plain text in several, and for each the index of the one that it was part of."""
    found = []
    for index, piece in enumerate(pieces):
        places = [0, len(piece)]
        if piece not in tokens.TRACE_TOKENS:
            places = sorted({*places, *data.draw(st.lists(st.integers(0, len(piece)), max_size=6))})
        found += [(piece[start:end], index) for start, end in pairwise(places)]
    return found


@given(some_trace, st.data())
def test_frames_are_told_with_their_places_however_text_is_cut(trace, data):
    fragments = cut(FORM.frames(trace), data)
    texts = [text for text, _ in fragments]
    told = list(FORM.told(trace.context, texts))
    assert tuple(one.frame for one in told) == trace.frames
    lines = source_lines(trace.context)
    for one in told:
        frame = one.frame
        assert lines[frame.line - 1] == frame.source
        assert "".join(texts[place] for place in one.head) == EVENT_TOKENS[frame.event] + frame.source
        spelled = {name: "".join(texts[place] for place in places) for name, places in one.values.items()}
        if frame.locals is None:
            assert spelled == {"": to_json(frame.value) + tokens.FRAME_SEP}
            continue
        shown = {name: value for name, value in frame.locals if value != UNCHANGED}
        assert spelled.keys() == shown.keys()
        assert all(to_json(value) in spelled[name] for name, value in shown.items())


@given(some_trace, st.data())
def test_a_frame_is_told_as_soon_as_it_is_closed(trace, data):
    pieces = FORM.frames(trace)
    cut_at = data.draw(st.integers(0, len(pieces) - 1))
    seen = []
    with pytest.raises(TraceSyntaxError, match="breaks off"):
        for one in FORM.told(trace.context, pieces[:cut_at]):
            seen.append(one.frame)
    assert len(seen) == pieces[:cut_at].count(tokens.FRAME_SEP)


def test_a_line_that_the_program_does_not_have_ends_it():
    pieces = [tokens.LINE_SEP, "{}", tokens.ACTION_SEP, "    no such line\n", tokens.FRAME_SEP]
    with pytest.raises(TraceSyntaxError, match="no line 'no such line'"):
        list(FORM.told(TRACES[0].context, pieces))
