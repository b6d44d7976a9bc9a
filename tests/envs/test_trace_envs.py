"""Environments of programs: what is right passes, what is not does not, and prompts are those of training."""

import pytest

from cwm_jax.data.corpus import Episode
from cwm_jax.data.lessons import ThoughtLesson, TraceLesson, symbols
from cwm_jax.envs.traces import Generated, OutputPrediction, ReasonedOutput, TracePrediction
from cwm_jax.text.special_tokens import THINKING_END
from cwm_jax.text.vocabulary import train_vocabulary
from cwm_jax.tracing import Isolation, Trace, record
from cwm_jax.tracing.compact import Compact

FORM = Compact()
PROGRAMS = Generated("strawberry", count=12, held_out=4)


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary([context for _, context in PROGRAMS.contexts(False)], 512, symbols(FORM))


def runs():
    for _, context in PROGRAMS.contexts(False):
        trace = record(context, isolation=Isolation.LIMITS_ONLY)
        yield trace, Episode(context, FORM.context(context), FORM.frames(trace), [])


def over(trace):
    """The episode in which the entry is stepped over."""
    short = Trace(trace.context, (trace.frames[0], trace.frames[-1]), complete=True, verdict=trace.verdict)
    pieces = FORM.frames(short)
    return Episode(trace.context, FORM.context(trace.context), pieces, [FORM.event_indices(pieces)[1]])


def documents(kind):
    """Pieces that are given and pieces that are right, for each program, as training tells them."""
    for trace, episode in runs():
        if kind is OutputPrediction:
            segments = TraceLesson().segments(FORM, over(trace))
            cut = len(episode.context) + over(trace).forced[0] + 1
        else:
            lesson = ThoughtLesson() if kind is ReasonedOutput else TraceLesson()
            segments = lesson.segments(FORM, episode)
            cut = next(place for place, (_, weight) in enumerate(segments) if weight)
        pieces = [piece for piece, _ in segments]
        yield pieces[:cut], pieces[cut:]


@pytest.mark.parametrize("kind", [TracePrediction, OutputPrediction, ReasonedOutput])
def test_prompts_are_those_of_training_and_what_training_tells_passes(kind, vocabulary):
    env = kind(programs=PROGRAMS, max_frames=1000).open(vocabulary)
    tasks = env.tasks()
    assert len(tasks) == 12
    for task, (given, right) in zip(tasks, documents(kind), strict=True):
        state, began = env.start(task)
        assert list(began.observation) == vocabulary.encode_segments(given) and not began.over
        told = env.step(state, vocabulary.encode_segments(right))
        assert told.over and told.outcomes["pass"] == told.outcomes["score"] == 1.0
        assert env.max_action(state) > 0


@pytest.mark.parametrize("kind", [TracePrediction, OutputPrediction, ReasonedOutput])
def test_answers_to_other_programs_rarely_pass(kind, vocabulary):
    env = kind(programs=PROGRAMS, max_frames=1000).open(vocabulary)
    answers = [right for _, right in documents(kind)]
    passed = 0
    for task, wrong in zip(env.tasks(), answers[1:] + answers[:1]):
        state, _ = env.start(task)
        outcomes = env.step(state, vocabulary.encode_segments(wrong)).outcomes
        assert 0 <= outcomes["score"] <= 1
        passed += outcomes["pass"]
    assert passed <= 3  # two functions may return the same


def test_thoughts_end_once_and_a_return_follows_at_once(vocabulary):
    env = ReasonedOutput(programs=PROGRAMS, max_frames=1000).open(vocabulary)
    _, right = next(documents(ReasonedOutput))
    thought, end, *answer = right
    state, _ = env.start(env.tasks()[0])

    def outcomes(*pieces):
        return env.step(state, vocabulary.encode_segments(pieces)).outcomes

    assert end == THINKING_END and outcomes(end, *answer) == {"pass": 1.0, "score": 1.0, "format": 1.0}  # unthinking
    bad = {"pass": 0.0, "score": 0.0, "format": 0.0}
    assert outcomes() == outcomes(thought) == outcomes(thought, *answer) == bad
    assert outcomes(thought, end, end, *answer) == outcomes(end, thought, end, *answer) == bad
    assert outcomes(thought, end, *answer[:-1]) == bad  # cut


def test_runs_that_are_too_long_are_not_learnt_from(vocabulary):
    env = ReasonedOutput(programs=PROGRAMS, max_frames=3).open(vocabulary)
    _, began = env.start(env.tasks()[0])
    assert began.over and began.status != "ok"


def test_a_vocabulary_without_thoughts_is_refused(vocabulary):
    plain = train_vocabulary(["def f(a):\n    return a\n"] * 4, 400, FORM.control_symbols)
    with pytest.raises(ValueError, match="reasoning_thinking"):
        ReasonedOutput().open(plain)
    with pytest.raises(ValueError, match="there is none"):
        ReasonedOutput().open(None)
    assert TracePrediction().open(plain).name == "trace"


def test_held_out_programs_are_others(vocabulary):
    config = ReasonedOutput(programs=PROGRAMS)
    names = {task.name for task in config.open(vocabulary).tasks()}
    assert not names & {task.name for task in config.open(vocabulary, held_out=True).tasks()}
