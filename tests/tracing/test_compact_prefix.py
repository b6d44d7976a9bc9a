"""What stands before a frame does not depend on the frame: how a trace is gone on with from any of its frames."""

import ast
import json
from pathlib import Path
from random import Random

import pytest

from cwm_jax.tracing import Isolation, record_many, resolve
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.episodes import step_over
from cwm_jax.tracing.language import EVENT_TOKENS, TraceSyntaxError
from cwm_jax.tracing.sources import composed, strawberry
from cwm_jax.tracing.wrap import wrap

DATA = Path(__file__).parent.parent / "data"
FORM = Compact()


@pytest.fixture(scope="module")
def traces():
    rows = [json.loads(line) for line in (DATA / "cruxeval.jsonl").read_text().splitlines()[:120]]
    contexts = [wrap(row["code"], "f", row["input"]) for row in rows]
    contexts += [family.generate(Random(n), 1).contexts()[0] for n in range(25) for family in (strawberry, composed)]
    rng = Random(1)
    found = [trace for trace in record_many(contexts, isolation=Isolation.LIMITS_ONLY) if len(trace.frames) < 200]
    return [episode for trace in found for episode in (trace, step_over(trace, rng))]


def test_every_prefix_and_what_follows_it_are_the_whole(traces):
    for trace in traces:
        whole = FORM.frames(trace)
        for count in range(len(trace.frames) + 1):
            prefix = FORM.prefix(trace.context, trace.frames[:count])
            assert whole[: len(prefix)] == prefix
            assert FORM.event_indices(prefix) == FORM.event_indices(whole)[:count]


def test_behind_a_call_an_event_can_be_asked_for_at_once(traces):
    """Into the call or over it: the event stands directly behind the prefix, in whole traces and in step-overs."""
    seen = set()
    for trace in traces:
        whole = FORM.frames(trace)
        for index, (frame, after) in enumerate(zip(trace.frames, trace.frames[1:]), start=1):
            if frame.event == "call":
                seen.add(after.event)
                assert whole[len(FORM.prefix(trace.context, trace.frames[:index]))] == EVENT_TOKENS[after.event]
    assert seen == {"line", "return"}


def test_a_prefix_tells_its_frames_and_no_more(traces):
    for trace in traces[::7]:
        for count in range(len(trace.frames)):
            told = FORM.told(trace.context, FORM.prefix(trace.context, trace.frames[:count]))
            frames = []
            with pytest.raises(TraceSyntaxError, match="breaks off"):
                for each in told:
                    frames.append(each.frame)
            assert tuple(frames) == trace.frames[:count]


def test_a_frame_is_told_as_soon_as_it_is_spelled(traces):
    """Asked for one frame, the reader takes no piece behind it, but for the one that ends a value."""
    for trace in traces[::7]:
        pieces, taken = FORM.frames(trace), []
        for told in FORM.told(trace.context, (taken.append(piece) or piece for piece in pieces)):
            assert (
                told.head.stop <= len(taken) <= max([told.head, *told.values.values()], key=lambda r: r.stop).stop + 1
            )


def test_places_are_where_the_values_are_spelled(traces):
    for trace in traces:
        pieces = FORM.frames(trace)
        states = resolve(trace)
        for told, frame, state in zip(FORM.told(trace.context, pieces), trace.frames, states, strict=True):
            assert told.frame == frame
            spelled = {name: "".join(pieces[place.start : place.stop]) for name, place in told.values.items()}
            if frame.value is not None:
                assert spelled == {"": frame.value}
                continue
            assert spelled == {name: state[name] for name in spelled}
            if frame.event == "call":
                assert spelled == state


def test_a_changed_past_is_written_as_changed(traces):
    """A local of a line frame that is set to something else reads back as that."""
    count = 0
    for trace in traces:
        for index, frame in enumerate(trace.frames):
            if frame.event != "line" or not frame.locals or index > 12:
                continue
            name = frame.locals[0][0]
            changed = tuple((key, "'other'" if key == name else value) for key, value in frame.locals)
            frames = (*trace.frames[:index], type(frame)("line", frame.source, changed, line=frame.line))
            told = FORM.told(trace.context, FORM.prefix(trace.context, frames))
            assert [next(told).frame for _ in frames] == list(frames)
            assert ast.literal_eval(dict(frames[-1].locals)[name]) == "other"
            count += 1
    assert count > 100
