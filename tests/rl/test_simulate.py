"""The simulation against arithmetic where there is some, and against what must be so everywhere."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.rl.board import Admission
from cwm_jax.rl.simulate import Episodes, LogNormal, Publishing, Samplers, System, mean, simulate, speed_up

STEPS = 12
AT_ONCE = LogNormal(1e-12)


def system(draw: float, train: float, staleness: int, **changes) -> System:
    """Two hosts of two groups of two make one batch in `draw` seconds; everything takes always the same time."""
    base = System(
        steps=STEPS,
        train=train,
        admission=Admission(staleness, groups=4),
        samplers=Samplers(count=2, groups=2, slots=4, threads=4, base=draw / 10),
        episodes=Episodes(LogNormal(10.0), members=2, latency=AT_ONCE),
    )
    return replace(base, **changes)


@pytest.mark.parametrize(("draw", "train"), [(1.0, 1.0), (2.0, 1.0), (1.0, 3.0), (5.0, 0.5)])
def test_synchronous_is_the_sum_and_asynchronous_the_longer_one(draw, train):
    barrier, free = simulate(system(draw, train, staleness=0)), simulate(system(draw, train, staleness=4))
    assert barrier.wall == pytest.approx(STEPS * (draw + train))
    assert free.wall == pytest.approx(STEPS * max(draw, train) + min(draw, train))
    assert speed_up(system(draw, train, staleness=4)) == pytest.approx(barrier.wall / free.wall)
    assert barrier.learner == pytest.approx(train / (draw + train))
    assert barrier.slots == pytest.approx(draw / (draw + train))
    assert free.learner == pytest.approx(STEPS * train / free.wall)
    assert set(barrier.oldest) == {0} and set(barrier.versions) == {1}


def test_a_barrier_waits_for_weights_and_nobody_else_does():
    slow = Publishing(write=0.5, load=0.25, swap=0.25)
    barrier = simulate(system(2.0, 1.0, staleness=0, publishing=slow))
    assert barrier.wall == pytest.approx(STEPS * (2 + 1 + 1) - 1), "nobody waits for the last ones"
    assert barrier.reach == pytest.approx(1.0)
    assert simulate(system(2.0, 1.0, staleness=4, publishing=slow)).wall == pytest.approx(STEPS * 2 + 1)


def test_turns_are_drawn_read_and_acted():
    episodes = Episodes(LogNormal(40.0), drawn=0.25, turns=5, latency=LogNormal(0.3), members=2)
    ran = simulate(system(1.0, 0.5, staleness=0, episodes=episodes, samplers=Samplers(2, 2, 4, 4, base=0.1, read=0.01)))
    # A host reads the six tokens of each of its four episodes before all go on drawing two.
    turn = 4 * 6 * 0.01 + 2 * 0.1 + 0.3
    assert ran.wall == pytest.approx(STEPS * (5 * turn + 0.5))


def test_slots_are_slower_together_and_a_queue_waits():
    one = system(1.0, 0.1, staleness=0, samplers=Samplers(2, 2, 4, 4, base=0.1, each=0.025))
    assert simulate(one).wall == pytest.approx(STEPS * (10 * (0.1 + 4 * 0.025) + 0.1))
    two = replace(one, samplers=replace(one.samplers, slots=2))
    assert simulate(two).wall == pytest.approx(STEPS * (2 * 10 * (0.1 + 2 * 0.025) + 0.1))
    acting = Episodes(LogNormal(10.0), members=2, latency=LogNormal(0.5))
    narrow = replace(one, episodes=acting, samplers=replace(one.samplers, threads=1))
    assert simulate(narrow).wall == pytest.approx(STEPS * (2.0 + 4 * 0.5 + 0.1))


def test_ages_and_versions_of_long_episodes():
    """Four groups of four seconds come at once and are learnt from one after the other, 0.9 seconds each."""
    samplers = Samplers(count=1, groups=4, slots=4, threads=4, base=0.4)
    ran = simulate(
        System(steps=80, warm=40, train=0.9, admission=Admission(8, groups=1), samplers=samplers,
               episodes=Episodes(LogNormal(10.0), latency=AT_ONCE))
    )  # fmt: skip
    assert (ran.interval, ran.learner, ran.slots) == pytest.approx((1.0, 0.9, 1.0))
    assert ran.oldest == {4: 10, 5: 10, 6: 10, 7: 10} and ran.newest == {0: 10, 1: 10, 2: 10, 3: 10}
    assert ran.versions == {5: 40}, "four steps end while they draw"


def test_staleness_is_bounded_however_fast_samplers_are():
    for staleness in (1, 2, 6):
        ran = simulate(system(0.01, 1.0, staleness))
        assert max(ran.oldest) <= staleness + 2  # admission counts what waits and runs; a batch is under way besides


def test_groups_that_are_passed_over_are_made_again():
    half = Episodes(LogNormal(10.0), members=2, latency=AT_ONCE, kept=0.5)
    slower = simulate(replace(system(1.0, 0.01, staleness=4, episodes=half), steps=300)).interval
    assert slower == pytest.approx(2.0, rel=0.1)


def test_the_same_seed_gives_the_same_run():
    episodes = Episodes(LogNormal(10.0, 0.9), members=2, turns=3, latency=LogNormal(0.1, 1.0))
    noisy = system(1.0, 1.0, 4, episodes=episodes)
    assert simulate(noisy) == simulate(noisy) != simulate(replace(noisy, seed=1))


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 5), st.floats(0.1, 5), st.integers(0, 5), st.integers(0, 3))
def test_more_never_hurts(draw, train, staleness, every):
    base = system(draw, train, staleness, publishing=Publishing(min(every, staleness) + 1, 0.1, 0.0, 0.1))
    wall = simulate(base).wall * (1 + 1e-9)
    assert simulate(replace(base, admission=replace(base.admission, staleness=staleness + 1))).wall <= wall
    assert simulate(replace(base, samplers=replace(base.samplers, count=4))).wall <= wall
    assert simulate(replace(base, samplers=replace(base.samplers, base=draw / 20))).wall <= wall
    if base.publishing.every == 1:  # else a quicker learner may be too far ahead of its last publication, and wait
        assert simulate(replace(base, train=train / 2)).wall <= wall
    assert speed_up(replace(base, publishing=replace(base.publishing, every=1))) >= 1 - 1e-9


@settings(max_examples=25, deadline=None)
@given(st.floats(0.2, 3), st.floats(0.0, 1.0), st.integers(1, 6), st.integers(0, 1000))
def test_no_run_is_faster_than_its_parts(train, sigma, staleness, seed):
    episodes = Episodes(LogNormal(10.0, sigma), members=2, latency=LogNormal(0.1, sigma))
    run = replace(system(1.0, train, staleness, episodes=episodes), seed=seed)
    ran = simulate(run)
    assert ran.wall >= STEPS * train and 0 < ran.learner <= 1 + 1e-9 and 0 < ran.slots <= 1 + 1e-9
    assert ran.oldest.total() == ran.newest.total() == ran.versions.total() == STEPS * 4 * 2
    assert min(ran.newest) >= 0 and mean(ran.newest) <= mean(ran.oldest)


def test_the_mean_of_a_long_tail_and_of_its_longest():
    assert LogNormal(7.0, 0.9).mean_of(float) == pytest.approx(7.0, rel=0.01)
    assert LogNormal(7.0, 0.0).mean_of(float, draws=8) == pytest.approx(7.0)
    assert LogNormal(7.0, 0.9, most=9.0).mean_of(float, draws=1000) == pytest.approx(9.0)
    # The largest of two standard normal ones is 1 / sqrt(pi) in the mean.
    assert LogNormal(1.0, 1e-4).mean_of(float, draws=2) == pytest.approx(1 + 1e-4 / math.sqrt(math.pi), abs=1e-7)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: LogNormal(0.0), "must be above 0"),
        (lambda: Episodes(kept=0.0), "shares are above 0"),
        (lambda: Samplers(slots=0), "counts are at least 1"),
        (lambda: System(warm=100), "must be below steps"),
        (lambda: system(1, 1, 0, publishing=Publishing(every=2)), "wait for ever"),
    ],
)
def test_what_cannot_be_is_refused(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
