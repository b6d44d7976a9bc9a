"""What rejection sampling keeps of a spool, and that its rows hold the very tokens that were drawn."""

import json
from collections import Counter, defaultdict
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.data.rows import RowFile
from cwm_jax.rl.rejection import SOLVE_RATES, Rejection, documents, select, sift
from cwm_jax.rl.spool import Spool
from cwm_jax.rl.trajectory import Context, Group, Trajectory

LENGTH = 12


def context(tokens, agent):
    return Context.of(tokens, agent, np.where(agent, -0.5, 0), np.where(agent, 3, -1), np.zeros(len(tokens)))


def contexts():
    """Short and of few tokens, so that many are alike, and some are too long."""
    return st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=LENGTH + 2).map(
        lambda said: context(*zip(*said))
    )


trajectories = st.builds(
    Trajectory,
    st.lists(contexts(), min_size=1, max_size=2).map(tuple),
    status=st.sampled_from(["ok", "ok", "ok", "hung"]),
    outcomes=st.sampled_from([{"pass": 1.0}, {"pass": 1.0}, {"pass": 0.0}, {"pass": float("nan")}, {}]),
)
pools = st.lists(
    st.tuples(st.sampled_from(["a/0", "a/1", "b/0"]), st.lists(trajectories, min_size=1, max_size=6)), max_size=8
).map(lambda some: [Group(f"{n:024x}", task, tuple(members)) for n, (task, members) in enumerate(some)])


def spelled(trajectory):
    return tuple(tuple(one.tokens.tolist()) for one in trajectory.contexts)


def counted(groups):
    """The attempts at each task that stand for something."""
    found = defaultdict(list)
    for group in groups:
        found[group.task] += [one for one in group.trajectories if one.status == "ok" and one.agent_tokens]
    return {task: some for task, some in found.items() if some}


@given(pools, st.integers(1, 4), st.none() | st.integers(1, 5))
def test_what_is_kept(groups, per_task, most):
    chosen = select(groups, Rejection(per_task=per_task, most=most), LENGTH)
    by_uid = {group.uid: group for group in groups}
    kept = [by_uid[one.uid].trajectories[one.place] for one in chosen.kept]
    assert all(by_uid[one.uid].task == one.task for one in chosen.kept)
    assert all(one.status == "ok" and one.agent_tokens and one.outcomes.get("pass") == 1 for one in kept)
    assert all(len(part.tokens) <= LENGTH for one in kept for part in one.contexts)
    assert len(set(map(spelled, kept))) == len(kept) == len(set(chosen.kept))
    assert most is None or len(kept) <= most
    attempts = counted(groups)
    rates = {task: np.mean([one.outcomes.get("pass") == 1 for one in some]) for task, some in attempts.items()}
    assert chosen.solve_rates == pytest.approx(rates)
    for task, count in Counter(one.task for one in chosen.kept).items():
        assert count <= max(1, ceil(per_task * (1 - rates[task]) - 1e-9)) <= per_task
    assert len(kept) + sum(chosen.dropped.values()) == sum(len(group.trajectories) for group in groups)


@given(pools, st.integers(1, 3), st.none() | st.integers(1, 4), st.randoms())
def test_the_order_of_groups_changes_nothing(groups, per_task, most, rng):
    rejection = Rejection(per_task=per_task, most=most)
    assert select(groups, rejection, LENGTH) == select(rng.sample(groups, len(groups)), rejection, LENGTH)


@given(pools)
def test_whatever_passed_and_fits_is_there_once_where_there_is_room(groups):
    failed = Trajectory((context([0], [True]),), outcomes={"pass": 0.0})
    groups += [Group(f"{n:024x}", task, (failed,)) for n, task in enumerate(("a/0", "a/1", "b/0"), start=len(groups))]
    chosen = select(groups, Rejection(per_task=10**6), LENGTH)
    by_uid = {group.uid: group for group in groups}
    kept = [spelled(by_uid[one.uid].trajectories[one.place]) for one in chosen.kept]
    passed = [one for some in counted(groups).values() for one in some if one.outcomes.get("pass") == 1]
    fit = {spelled(one) for one in passed if max(len(part.tokens) for part in one.contexts) <= LENGTH}
    assert sorted(kept) == sorted(fit)


def solved(task, rate, seed, members=8):
    """A group of unlike members, of which a share passed."""
    rng = np.random.default_rng(seed)
    agent = [False, False, True, True, True, True]
    some = [Trajectory((context(rng.integers(0, 10**6, 6), agent),), n, outcomes={"pass": float(n < rate * members)})
            for n in range(members)]  # fmt: skip
    return Group(f"{seed:024x}", task, tuple(some))


def test_hard_tasks_come_first_and_have_more():
    groups = [solved(f"e/{n}", rate, n) for n, rate in enumerate([1.0, 0.25, 0.5, 0.75, 0.0])]
    count = lambda **how: Counter(one.task for one in select(groups, Rejection(**how), LENGTH).kept)  # noqa: E731
    assert count(per_task=4) == {"e/0": 1, "e/1": 2, "e/2": 2, "e/3": 1}
    assert count(per_task=4, most=2) == {"e/1": 1, "e/2": 1}
    assert count(per_task=4, most=5) == {"e/0": 1, "e/1": 2, "e/2": 1, "e/3": 1}


def test_another_outcome_may_be_asked_for():
    some = tuple(Trajectory((context([1, n], [False, True]),), n, outcomes={"score": n / 4}) for n in range(5))
    chosen = select([Group("0" * 24, "e/0", some)], Rejection("score", 0.5, per_task=9), LENGTH)
    assert [one.place for one in chosen.kept] == [2, 3, 4]
    assert chosen.dropped == {"not passed": 2}


@pytest.mark.parametrize("wrong", [{"per_task": 0}, {"most": 0}])
def test_settings_that_keep_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=0"):
        Rejection(**wrong)


def spool_of(folder: Path, groups) -> Spool:
    spool = Spool(folder)
    for group in groups:
        assert spool.seal(group)
    return spool


def unpacked(folder: Path):
    """Tokens and weights of each document in a folder of rows."""
    file = RowFile(folder / f"rows-{LENGTH}.array_record")
    rows = file.read(np.arange(len(file)))
    for tokens, segments, positions, weights in zip(*rows):
        for number in range(1, segments.max() + 1):
            here = segments == number
            assert positions[here].tolist() == [*range(here.sum())]
            yield tuple(tokens[here].tolist()), tuple(weights[here].tolist())


def test_rows_hold_the_tokens_that_were_drawn_and_only_the_agents_are_learnt(tmp_path):
    two = Trajectory(
        (
            context([7, 8, 9, 1], [False, True, True, False]),
            context([5, 5], [False, False]),  # the agent said nothing here
            context([2**20, 4], [True, True]),  # nothing comes before the first, so it cannot be learnt
        ),
        outcomes={"pass": 1.0},
    )
    groups = [Group("f" * 24, "e/two", (two, two)), solved("e/half", 0.5, 1), solved("x/never", 0.0, 2)]
    manifest = sift(spool_of(tmp_path / "spool", groups), Rejection(), LENGTH, "none", tmp_path / "rows")
    expected = {((7, 8, 9, 1), (0, 1, 1, 0)), ((2**20, 4), (0, 1))}
    halves = {tuple(one.contexts[0].tokens.tolist()) for one in groups[1].trajectories[:4]}
    found = Counter(unpacked(tmp_path / "rows"))
    assert max(found.values()) == 1 and expected <= found.keys()
    rest = found.keys() - expected
    assert len(rest) == 2 and all(said in halves and weights == (0, 0, 1, 1, 1, 1) for said, weights in rest)
    assert (manifest.documents, manifest.tokens, manifest.predicted_tokens) == (4, 4 + 2 + 12, 2 + 1 + 8)
    assert manifest.programs == {"e": 3} and manifest.vocabulary == "none"
    assert manifest.dropped == {"alike": 1, "not passed": 12, "enough of the task": 2}
    rates = json.loads((tmp_path / "rows" / SOLVE_RATES).read_text())
    assert rates == {"e/half": 0.5, "e/two": 1.0, "x/never": 0.0}


@given(contexts())
def test_a_document_is_a_context(one):
    found = list(documents(Trajectory((one,))))
    assert len(found) == int(one.agent.any())
    for tokens, weights in found:
        np.testing.assert_array_equal(tokens, one.tokens)
        np.testing.assert_array_equal(weights, one.agent)


def test_the_same_groups_give_the_same_bytes_and_are_asked_once(tmp_path):
    groups = [solved(f"e/{n}", 0.5, n) for n in range(6)]
    for name, some in (("one", groups), ("other", groups[::-1])):
        spool = spool_of(tmp_path / f"spool-{name}", some)
        manifest = sift(spool, Rejection(), LENGTH, "none", tmp_path / name)
    files = [(tmp_path / name / f"rows-{LENGTH}.array_record").read_bytes() for name in ("one", "other")]
    assert files[0] == files[1]
    spool.delete(spool.sealed())
    assert sift(spool, Rejection(), LENGTH, "none", tmp_path / "other") == manifest


def test_a_damaged_group_is_left_out_and_counted(tmp_path):
    spool = spool_of(tmp_path / "spool", [solved("e/0", 0.5, 0), solved("e/1", 0.5, 1)])
    first = next(iter(spool.sealed().values()))
    (spool.folder / first.records).write_bytes(b"")
    manifest = sift(spool, Rejection(), LENGTH, "none", tmp_path / "rows")
    assert manifest.dropped["damaged"] == 8 and manifest.documents == 2


def test_where_nothing_passed_the_error_says_what_to_do(tmp_path):
    spool = spool_of(tmp_path / "spool", [solved("e/0", 0.0, 0)])
    with pytest.raises(ValueError, match=r"pass >= Rejection.least=1.0.*'not passed': 8.*raise Rl.steps"):
        sift(spool, Rejection(), LENGTH, "none", tmp_path / "rows")
    assert not (tmp_path / "rows" / "manifest.json").exists()
