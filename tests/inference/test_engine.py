"""Answers: whatever shares the batch, they are those of the network without a cache."""

from contextlib import closing

import pytest
from engine_models import LENGTH, REBUILD, SHAPES, VOCAB, WINDOW, by_definition, check, prompt, requests, weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Finish, QueueFull, Request, Token
from cwm_jax.inference.streams import Streams

MIXES = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@MIXES
@given(st.lists(requests(), min_size=1, max_size=7))
def test_batched_is_one_at_a_time_is_the_definition(engine, mix):
    together = list(engine.generate(mix))
    alone = [next(engine.generate([request])) for request in mix]
    for one, other in zip(together, alone, strict=True):
        assert one.ids == other.ids
        check(one)
        check(other)


@MIXES
@given(st.lists(requests(), min_size=1, max_size=7), st.lists(requests(), min_size=1, max_size=7), st.randoms())
def test_two_that_are_read_in_turns_each_get_their_own(engine, some, others, random):
    left = {0: some, 1: others}
    reading = {which: engine.generate(mix) for which, mix in left.items()}
    got = {0: [], 1: []}
    while reading:
        which = random.choice(list(reading))
        try:
            got[which].append(next(reading[which]))
        except StopIteration:
            del reading[which]
    for which, mix in left.items():
        assert [answer.ids for answer in got[which]] == [answer.ids for answer in engine.generate(mix)]
    assert not engine.busy


def test_one_given_up_amid_its_answers_takes_none_from_another(engine):
    mix = [Request(prompt(seed, 9), 3 + 5 * seed) for seed in range(3)]
    kept, given_up = engine.generate(mix), engine.generate(mix)
    first = next(kept)
    next(given_up)
    given_up.close()
    assert [first.ids, *(answer.ids for answer in kept)] == [answer.ids for answer in engine.generate(mix)]
    assert not engine.busy


def test_far_past_the_window_and_several_chunks(engine):
    long = Request(prompt(5, 31), LENGTH - 31)
    (answer,) = engine.generate([long])
    assert len(answer.tokens) > 3 * WINDOW
    check(answer)


def test_whole_prefill_is_chunked_prefill():
    whole = Engine(REBUILD, weights(), EngineConfig(slots=1, max_length=LENGTH, page=4, chunk=32, rows=1, steps=3))
    (answer,) = whole.generate([Request(prompt(5, 31), 20, prompt_logprobs=2)])
    assert whole.counts.read == 31
    check(answer)


def test_compiling_ahead_leaves_nothing_behind(engine):
    assert list(engine.compile())[-1] == 1
    before = engine.counts.read, engine.counts.made
    assert not engine.busy and engine.step() == [] and (engine.counts.read, engine.counts.made) == before
    check(next(engine.generate([Request(prompt(3, 11), 9)])))


def test_tokens_come_out_as_they_are_made(engine):
    first, second = engine.submit(Request(prompt(1, 4), 7)), engine.submit(Request(prompt(2, 4), 2))
    steps = []
    while engine.busy:
        steps.append(engine.step())
    assert {number for number, _ in steps[0]} == {first, second}
    events = [event for step in steps for number, event in step if number == first]
    assert [type(event) for event in events] == [Token] * 7 + [Finish]
    assert [event.id for event in events[:7]] == by_definition(weights(), Request(prompt(1, 4), 7))[0]


def test_forced_tokens_are_scored_by_the_model(engine):
    request = Request(prompt(1, 5), 6, forced=((0, 3), (4, 9)))
    (answer,) = engine.generate([request])
    assert (answer.ids[0], answer.ids[4]) == (3, 9)
    assert len({token.logprob for token in answer.tokens}) == 6
    check(answer)


def test_cancelling_frees_and_says_so(engine):
    numbers = [engine.submit(Request(prompt(seed, 30), 30)) for seed in range(5)]
    engine.step()
    held = engine.scheduler.available()
    engine.cancel(numbers[0])  # running
    engine.cancel(numbers[4])  # waiting
    assert all(now > before for now, before in zip(engine.scheduler.available(), held))
    ends = {}
    while engine.busy:
        ends |= {number: event.reason for number, event in engine.step() if isinstance(event, Finish)}
    assert ends == dict(zip(numbers, ["cancelled", "length", "length", "length", "cancelled"]))
    engine.cancel(numbers[0])  # nothing
    assert not engine.busy


def test_leaving_a_generator_leaves_nothing_running(engine):
    answers = engine.generate([Request(prompt(seed, 9), 3 + 20 * seed) for seed in range(3)])
    next(answers)
    answers.close()
    assert not engine.scheduler.running and not engine.scheduler.waiting
    engine.step()


@pytest.mark.parametrize(
    "fields, complaint",
    [
        ({"prompt": ()}, "prompt is empty"),
        ({"max_tokens": -1}, "max_tokens=-1"),
        ({"temperature": -0.5}, "temperature=-0.5"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"max_tokens": LENGTH}, f"EngineConfig.max_length={LENGTH}"),
        ({"prompt": (VOCAB,)}, f"ids are from 0 to {VOCAB - 1}"),
        ({"forced": ((0, -1),)}, "token -1"),
        ({"stop_ids": tuple(range(20))}, "stop_ids has 20"),
        ({"top_logprobs": 5}, "top_logprobs=5"),
        ({"lineage": "one", "on_swap": "recompute"}, "lineage='one' goes on from older weights"),
    ],
)
def test_what_cannot_be_answered_is_refused(engine, fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        engine.submit(Request(**{"prompt": (1, 2), "max_tokens": 3} | fields))


def test_a_full_queue_says_so(engine):
    numbers = []
    with pytest.raises(QueueFull, match=r"EngineConfig\.queue=9"):
        while True:
            numbers.append(engine.submit(Request((1,), 1)))
    assert len(numbers) == SHAPES.queue
    for number in numbers:
        engine.cancel(number)
    assert len(engine.step()) == len(numbers)


def test_who_gives_up_half_way_leaves_nothing_to_others(engine):
    """Of an abandoned call no event comes out later, be others read by `generate` or by `Streams`."""
    for _ in range(2):
        abandoned = engine.generate(Request(prompt(seed, 9), 9 + seed) for seed in range(6))
        next(abandoned)
        abandoned.close()
        assert not engine.busy
        with closing(Streams(engine, [Request(prompt(3, 11), 9), Request(prompt(4, 11), 30)])) as streams:
            assert len(list(streams.tokens(streams.numbers[0]))) == 9
        assert not engine.busy
        check(next(engine.generate([Request(prompt(3, 11), 9)])))
