"""New weights between two steps."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from engine_models import by_definition, check, prompt, requests, weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cwm_jax.inference.request import Completion, Request, Token

GREEDY = [Request(prompt(1, 13), 20), Request(prompt(2, 6), 25)]


def swapped(engine, wanted, params, kv, after):
    """The answers when the weights are swapped after so many steps, and the versions before and after."""
    first, wanted = engine.version, [replace(request, on_swap=kv) for request in wanted]
    numbers = [engine.submit(request) for request in wanted]
    tokens, steps, answers = {number: [] for number in numbers}, 0, {}
    while engine.busy:
        if steps == after:
            engine.swap(params, first + 1)
        for number, event in engine.step():
            if isinstance(event, Token):
                tokens[number].append(event)
            else:
                answers[number] = Completion(wanted[numbers.index(number)], tuple(tokens[number]), *event)
        steps += 1
    if steps <= after:
        engine.swap(params, first + 1)
    return [answers[number] for number in numbers], first


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(requests(), min_size=1, max_size=5),
    st.sampled_from(["keep", "recompute", "pin"]),
    st.sampled_from([1, 2, 3, 5]),
)
def test_identical_weights_change_nothing(engine, mix, kv, after):
    answers, _ = swapped(engine, mix, jax.tree.map(lambda w: w + 0, weights()), kv, after)
    for answer in answers:
        check(answer)


@pytest.mark.parametrize("kv", ["keep", "recompute"])
def test_each_token_has_the_version_that_made_it(engine, kv):
    answers, first = swapped(engine, GREEDY, weights(4), kv, 5)
    for answer in answers:
        versions = [token.version for token in answer.tokens]
        made = versions.count(first)
        assert 0 < made < len(versions) and versions == [first] * made + [first + 1] * (len(versions) - made)
        before, _ = by_definition(weights(), answer.request)
        assert answer.ids[:made] == before[:made] and answer.ids != before


def test_recomputed_is_a_fresh_run_on_the_new_weights(engine):
    answers, first = swapped(engine, GREEDY, weights(4), "recompute", 5)
    for answer in answers:
        made = [token.version for token in answer.tokens].count(first)
        so_far = answer.request.prompt + tuple(answer.ids[:made])
        ids, logprobs = by_definition(weights(4), Request(so_far, len(answer.ids) - made))
        assert answer.ids[made:] == ids
        np.testing.assert_allclose([token.logprob for token in answer.tokens[made:]], logprobs, atol=1e-4)


def test_kept_goes_on_from_what_the_old_weights_read(engine):
    kept, first = swapped(engine, GREEDY, weights(4), "keep", 5)
    engine.swap(weights(), first + 2)
    again, _ = swapped(engine, GREEDY, weights(4), "keep", 5)
    engine.swap(weights(), first + 4)
    recomputed, _ = swapped(engine, GREEDY, weights(4), "recompute", 5)
    for one, other, anew in zip(kept, again, recomputed):
        assert one.ids == other.ids and [t.logprob for t in one.tokens] == [t.logprob for t in other.tokens]
        assert [t.logprob for t in one.tokens] != [t.logprob for t in anew.tokens]


def test_nothing_read_by_old_weights_is_found_by_new_requests(engine):
    wanted = [Request(prompt(9, 22), 20)]
    swapped(engine, wanted, weights(4), "keep", 5)
    reused = engine.scheduler.reused
    check(next(engine.generate(wanted)), weights(4))
    assert engine.scheduler.reused == reused
    check(next(engine.generate(wanted)), weights(4))
    assert engine.scheduler.reused > reused


def test_waiting_requests_meet_the_new_weights_only(engine):
    wanted = [Request(prompt(seed, 9), 9) for seed in range(7)]
    answers, first = swapped(engine, wanted, weights(4), "keep", 1)
    check(answers[-1], weights(4))
    assert {token.version for token in answers[-1].tokens} == {first + 1}


def test_weights_of_another_kind_are_refused(engine):
    with pytest.raises(ValueError, match="is not above that of the present weights"):
        engine.swap(weights(4), engine.version)
    with pytest.raises(ValueError, match=r"bfloat16\[24, 16\], the engine holds float32\[24, 16\]"):
        engine.swap(weights(4) | {"embed": weights(4)["embed"].astype("bfloat16")}, engine.version + 1)
    with pytest.raises(ValueError, match=r"differ in what they hold: .*embed"):
        engine.swap({name: w for name, w in weights(4).items() if name != "embed"}, engine.version + 1)


def test_the_scores_of_a_prompt_stay_those_of_the_weights_that_read_it(engine):
    request = Request(prompt(3, 20), 12, prompt_logprobs=0)
    (answer,), _ = swapped(engine, [request], weights(4), "recompute", 6)
    new = next(engine.generate([request]))
    engine.swap(weights(), engine.version + 1)
    old = next(engine.generate([request]))
    scores = [[one.logprob for one in each.prompt_logprobs[1:]] for each in (answer, old)]
    np.testing.assert_allclose(*scores, atol=1e-5)
    assert answer.prompt_logprobs != new.prompt_logprobs


def test_what_is_pinned_is_made_by_the_weights_that_it_met(engine):
    """Beside others that go on with the new weights, those that wait included; then the old ones are let go."""
    wanted = [Request(prompt(seed, 9), 15, on_swap="pin" if seed % 2 else "keep") for seed in range(7)]
    first, numbers = engine.version, [engine.submit(request) for request in wanted]
    tokens, finished = {number: [] for number in numbers}, {}
    for step in range(1000):
        if step in (2, 4):
            engine.swap(weights(4) if step == 2 else weights(), engine.version + 1)
        for number, event in engine.step():
            if isinstance(event, Token):
                tokens[number].append(event)
            else:
                finished[number] = event
        if not engine.busy:
            break
    for number, request in zip(numbers, wanted):
        versions = {token.version for token in tokens[number]}
        if request.on_swap == "pin":
            assert versions == {first}
            check(Completion(request, tuple(tokens[number]), *finished[number]))
        else:
            assert max(versions) > first
    assert engine._pinned == {}


def test_who_is_cancelled_needs_its_weights_no_more(engine):
    number = engine.submit(Request(prompt(8, 9), 30, on_swap="pin"))
    engine.step()
    engine.swap(weights(4), engine.version + 1)
    assert engine.weight_sets == 2
    engine.cancel(number)
    assert engine.weight_sets == 1
    engine.step()


@pytest.mark.parametrize("lineage", ["", "half old"])
def test_what_two_weights_read_is_found_by_nobody_else(engine, lineage):
    """A prompt is read half before a swap, half after it: who asks for the old weights reads the rest himself."""
    asked, first = Request(prompt(9, 31), 12, lineage=lineage), engine.version
    engine.hold([first])
    engine.submit(asked)
    engine.step()
    engine.step()
    engine.swap(weights(4), first + 1)
    while engine.busy:
        engine.step()
    (old,) = engine.generate([replace(asked, lineage="", on_swap="pin", version=first)])
    engine.hold([])
    check(replace(old, request=replace(asked, lineage="")))


def test_weights_that_are_held_make_what_asks_for_them_later(engine):
    first = engine.version
    (before,) = engine.generate([Request(prompt(6, 9), 8)])
    engine.hold([first])
    engine.swap(weights(4), first + 1)
    late, new = engine.generate([Request(prompt(6, 9), 8, on_swap="pin", version=first), Request(prompt(6, 9), 8)])
    assert late.ids == before.ids and {token.version for token in late.tokens} == {first}
    assert {token.version for token in new.tokens} == {first + 1}
    engine.hold([])
    assert engine._pinned == {}
    with pytest.raises(ValueError, match=f"Request.version={first} is not there any more"):
        engine.submit(Request(prompt(6, 9), 8, on_swap="pin", version=first))
    with pytest.raises(ValueError, match="is for what is pinned"):
        Request((1,), 1, version=first)


def test_a_lineage_goes_on_from_what_older_weights_read(engine):
    """Two turns with a swap between them: the second reads only what is new, and nobody else finds it."""
    start = Request(prompt(5, 18), 6, lineage="one")
    (turn,) = engine.generate([start])
    so_far = (*start.prompt, *turn.ids)
    engine.swap(weights(4), engine.version + 1)
    read, following = engine.counts.read, Request((*so_far, *prompt(6, 5)), 6, lineage="one")
    (kept,) = engine.generate([following])
    page = engine.config.page
    assert engine.counts.read - read <= len(following.prompt) - (len(so_far) - 1) // page * page
    (anew,) = engine.generate([replace(following, lineage="another")])
    check(replace(anew, request=replace(following, lineage="")), weights(4))
    assert [token.logprob for token in kept.tokens] != [token.logprob for token in anew.tokens]
    (stranger,) = engine.generate([replace(following, lineage="")])
    check(stranger, weights(4))
