"""Pages: found again, run out of, given back."""

from dataclasses import replace
from itertools import count

import pytest
from engine_models import MODEL, SHAPES, by_definition, check, prompt, requests, weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cwm_jax.inference.pages import Pages
from cwm_jax.inference.request import Completion, Finish, Request, Token

LIVES = count()  # what was of one lineage in another test may be of other weights


@st.composite
def families(draw):
    """Requests of lineages, whose prompts have much in common."""
    return replace(draw(requests()), lineage=draw(st.sampled_from(["one", "two", "three"])))


def test_a_prefix_that_is_found_changes_nothing(engine):
    request = Request(prompt(21, 22), 9, temperature=0.9, seed=5)
    first = next(engine.generate([request]))
    reused = engine.scheduler.reused
    again = next(engine.generate([request]))
    assert engine.scheduler.reused - reused == 20
    assert first.ids == again.ids
    check(first)
    check(again)


def test_a_conversation_goes_on_from_the_answer(engine):
    first = next(engine.generate([Request(prompt(22, 10), 12)]))
    longer = Request(first.request.prompt + tuple(first.ids) + prompt(23, 3), 8)
    reused, read = engine.scheduler.reused, engine.counts.read
    check(next(engine.generate([longer])))
    assert engine.scheduler.reused - reused == 20  # of 21 tokens that the caches had seen
    assert engine.counts.read - read == len(longer.prompt) - 20


@pytest.mark.parametrize("lineages", [("", "", ""), ("a", "b", "c")])
def test_siblings_read_their_prompt_once(engine, lineages):
    """The members of a group, too, each of which goes its own way afterwards."""
    engine.swap(weights(), engine.version + 1)  # so that nothing is known yet
    read, start = engine.counts.read, prompt(24, 21)
    siblings = [Request(start, 6, 1.0, seed=seed, lineage=lineage) for seed, lineage in enumerate(lineages)]
    answers = list(engine.generate(siblings))
    assert engine.counts.read - read == 21 + 1 + 1
    for answer in answers:
        check(answer)
    assert len({tuple(answer.ids) for answer in answers}) > 1
    engine.swap(weights(4), engine.version + 1)
    read = engine.counts.read
    (stranger,) = engine.generate([Request(start, 6, lineage=f"{lineages[0]}d")])
    assert engine.counts.read - read == 21, "older weights have read what was known"
    check(stranger, weights(4))
    engine.swap(weights(), engine.version + 1)


def test_who_reads_what_nobody_reads_does_not_wait_for_who_does(engine):
    reader, sibling = (Request(prompt(26, 21), 2, lineage=lineage) for lineage in ("reader", "sibling"))
    numbers, read = [engine.submit(reader)], engine.counts.read
    engine.step()
    numbers += [engine.submit(one) for one in (sibling, Request(prompt(27, 3), 1))]
    ended = []
    while engine.busy:
        ended += [number for number, event in engine.step() if isinstance(event, Finish)]
    assert ended == [numbers[2], numbers[0], numbers[1]]
    assert engine.counts.read - read == 21 + 3 + 1


def test_slots_stay_free_for_who_waits(engine):
    """Three slots, and two siblings that wait: whoever comes behind does not take the places that they are to have."""
    group = [Request(prompt(28, 21), 20, lineage=f"member {n}") for n in range(3)]
    numbers = [engine.submit(group[0])]
    engine.step()
    for one in (*group[1:], Request(prompt(29, 3), 30)):
        numbers.append(engine.submit(one))
    while not any(one.number == numbers[1] for one in engine.scheduler.running):
        engine.step()
    assert [one.number for one in engine.scheduler.running] == numbers[:3]
    while engine.busy:
        engine.step()


LAYOUT = SHAPES.layout(MODEL)  # a global group, then a local one


def read(pages: Pages, keys: list[bytes]) -> None:
    """A sequence reads pages of tokens, keeps them, and ends."""
    held = [[pages.take(group) for group in range(2)] for _ in keys]
    for key, both in zip(keys, held):
        pages.keep(key, both)
    for both in held:
        pages.drop(both)


def test_what_was_read_again_is_found_again():
    """A prefix whose local pages went is not gone on from; who reads it anew brings them back."""
    pages, keys = Pages(LAYOUT), [bytes([n]) for n in range(5)]
    read(pages, keys)
    assert pages.reach(keys) == 5
    for page in [pages.take(1) for _ in range(LAYOUT.groups[1].pages)]:
        pages.release(1, page)
    assert pages.reach(keys) == 0 and pages.available(0) == LAYOUT.groups[0].pages
    read(pages, keys)
    assert pages.reach(keys) == 5


def test_keys_of_a_page_that_is_always_in_use_are_bounded():
    pages, most = Pages(LAYOUT), 2 * sum(group.pages for group in LAYOUT.groups)
    both, keys = [pages.take(group) for group in range(2)], [n.to_bytes(4) for n in range(3 * most)]
    for key in keys:
        pages.keep(key, both)
    assert [pages.reach([key]) for key in keys] == [0] * (2 * most) + [1] * most
    pages.drop(both)
    assert pages.available(0) == LAYOUT.groups[0].pages and pages.available(1) == LAYOUT.groups[1].pages
    taken = [pages.take(0) for _ in range(LAYOUT.groups[0].pages)]
    assert None not in taken and pages.take(0) is None and not any(map(pages.reach, ([key] for key in keys)))


def test_scored_prompts_are_read_whole(engine):
    request = Request(prompt(25, 21), 3, prompt_logprobs=2)
    list(engine.generate([Request(request.prompt, 3)]))
    check(next(engine.generate([request])))


def test_when_pages_run_out_the_last_ones_wait(engine):
    preempted = engine.scheduler.preempted
    answers = list(engine.generate([Request(prompt(30 + seed, 12), 50, seed=seed) for seed in range(4)]))
    assert engine.scheduler.preempted > preempted
    for answer in answers:
        check(answer)


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(requests(), families(), st.integers(0, 12), st.just("step")), max_size=40))
def test_whatever_happens_answers_are_right_and_pages_come_back(engine, happenings):
    """Requests, cancellations (by number) and steps in any order; the fixture sees that every page is nobody's."""
    asked, tokens, life = {}, {}, next(LIVES)

    def take(events):
        for number, event in events:
            if isinstance(event, Token):
                tokens[number].append(event)
            elif event.reason != "cancelled":
                check(Completion(asked[number], tuple(tokens[number]), *event))
            else:
                assert [token.id for token in tokens[number]] == by_definition(weights(), asked[number])[0][
                    : len(tokens[number])
                ]
            if isinstance(event, Finish):
                del asked[number]

    for happening in happenings:
        if isinstance(happening, Request) and engine.scheduler.waiting < 9:
            if happening.lineage:
                happening = replace(happening, lineage=f"{happening.lineage} {life}")
            number = engine.submit(happening)
            asked[number], tokens[number] = happening, []
        elif happening == "step":
            take(engine.step())
        elif isinstance(happening, int) and asked:
            engine.cancel(sorted(asked)[happening % len(asked)])
    while engine.busy:
        take(engine.step())
    assert not asked
