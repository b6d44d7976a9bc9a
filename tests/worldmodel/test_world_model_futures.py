"""The world model goes on from frames that are given: what it says, how sure it is, and what is drawn."""

import math
from random import Random

import pytest

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import record_many
from cwm_jax.tracing.sources import strawberry
from cwm_jax.tracing.trace import Trace
from cwm_jax.worldmodel.models.local import LocalModel
from cwm_jax.worldmodel.predict import WorldModel


@pytest.fixture(scope="module")
def model(trained_run):
    return WorldModel(LocalModel(trained_run))


@pytest.fixture(scope="module")
def traces():
    contexts = [strawberry.generate(Random(seed), 1).contexts()[0] for seed in range(3)]
    return list(record_many(contexts, isolation=Isolation.LIMITS_ONLY))


def frames_of(future):
    return tuple(each.frame for each in future.frames)


def test_from_no_frames_it_says_what_predict_says(model, traces):
    contexts = [trace.context for trace in traces]
    for context, predicted in zip(contexts, model.predict(contexts)):
        (future,) = model.futures(context, [])
        assert (frames_of(future), future.complete) == (predicted.frames, predicted.complete)
        assert future.complete or future.reason


def test_until_ends_it_and_changes_nothing(model, traces):
    for trace in traces:
        for known in (1, 3, 8):
            (whole,) = model.futures(trace.context, trace.frames[:known], until=lambda new: len(new) == 4)
            (one,) = model.futures(trace.context, trace.frames[:known], until=lambda new: True)
            assert len(whole.frames) == 4 or whole.complete or whole.reason
            assert frames_of(one) == frames_of(whole)[:1]
            for ours, theirs in zip(one.frames, whole.frames):
                assert ours.sure == pytest.approx(theirs.sure, rel=1e-4)
                assert dict(ours.values) == pytest.approx(dict(theirs.values), rel=1e-4)


def test_an_event_that_is_asked_for_comes(model, traces):
    trace = traces[0]
    calls = [index for index, frame in enumerate(trace.frames) if frame.event == "call"]
    for index in calls:
        (future,) = model.futures(trace.context, trace.frames[: index + 1], first="return", until=lambda new: True)
        if future.frames:  # a model that has learnt next to nothing may say what cannot be read
            assert future.frames[0].frame.event == "return" and future.frames[0].asked
        else:
            assert future.reason
    (future,) = model.futures(trace.context, [], first="call", until=lambda new: True)
    assert [frame.event for frame in frames_of(future)] == ["call"] or future.reason


def test_probabilities_are_those_of_the_tokens(model, traces):
    trace = traces[1]
    (future,) = model.futures(trace.context, trace.frames[:2], until=lambda new: len(new) == 3)
    spelled = [*(each.sure for each in future.frames), *(p for each in future.frames for _, p in each.values)]
    assert spelled and all(0 < p <= 1 + 1e-6 for p in spelled)
    assert 0 < future.probability <= min(spelled) * (1 + 1e-3)  # a product of these and more
    assert future.logprob <= sum(map(math.log, spelled)) + 1e-3


def test_samples_are_drawn_by_seed_and_told_with_their_probability(model, traces):
    trace = traces[2]
    asked = {"until": lambda new: len(new) == 3, "temperature": 1.0}
    many = model.futures(trace.context, trace.frames[:3], samples=4, seed=7, **asked)
    alone = [
        model.futures(trace.context, trace.frames[:3], samples=1, seed=7 + index, **asked)[0] for index in range(4)
    ]
    assert [frames_of(future) for future in many] == [frames_of(future) for future in alone]
    for one, other in zip(many, alone):
        assert one.logprob == pytest.approx(other.logprob, rel=1e-3)


def test_what_is_read_no_further_leaves_nothing_in_the_engine(model, traces):
    model.futures(traces[0].context, traces[0].frames[:4], samples=3, temperature=1.0, until=lambda new: True)
    assert not model.model.engine.busy


def test_a_past_that_is_far_too_long_is_refused(model, traces):
    trace = traces[0]
    with pytest.raises(ValueError, match="tokens; this checkpoint reads at most"):
        model.futures(trace.context, trace.frames[:5] + trace.frames[4:5] * 2000)
    assert isinstance(trace, Trace)
