"""Groups into batches: what is passed over, that rows hold what trajectories say, and that a step can be had again."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.envs.env import OK
from cwm_jax.rl.batches import Batching, Chosen, Gatherer, Gibberish, Stale, judge, pack
from cwm_jax.rl.ledger import Ledger
from cwm_jax.rl.spool import Spool
from cwm_jax.rl.trajectory import Context, Group, Trajectory, advantages

VOCAB = 100
PLAIN = Batching(tokens=20, rows=2, length=16, filters=(Stale(), Gibberish()))


def trajectory(agent, reward=0.0, status=OK, version=5, token=1, logprob=-0.5, observed=2):
    """Observations, then tokens of the agent, the reward on the last of them."""
    n = observed + agent
    drawn = [False] * observed + [True] * agent
    return Trajectory(
        (
            Context.of(
                [3] * observed + [token] * agent, drawn, np.where(drawn, logprob, 0), np.where(drawn, version, -1),
                [0.0] * (n - 1) + [reward],
            ),
        ),
        status=status,
    )  # fmt: skip


def group(*trajectories, uid="g"):
    return Group(uid, "task", trajectories)


@pytest.mark.parametrize(
    "members, reason",
    [
        ([trajectory(3, 1.0), trajectory(3, 1.0)], "zero advantage"),
        ([trajectory(3, 1.0), trajectory(3, 0.0, status="hung")], "failed"),
        ([trajectory(3, 1.0), trajectory(0)], "failed"),
        ([trajectory(3, 1.0, version=1), trajectory(3, 0.0, version=1)], "stale"),
        ([trajectory(3, 1.0, token=79, logprob=-7.0), trajectory(3, 0.0, token=79, logprob=-7.0)], "gibberish"),
        ([trajectory(15, 1.0), trajectory(15, 0.0)], "too long"),
    ],
)
def test_what_is_passed_over_has_its_reason(members, reason):
    assert judge(group(*members), PLAIN, 10, VOCAB) == ([], reason)


def test_the_edges_of_the_filters():
    assert not Stale(8)(trajectory(3, version=2), 10, VOCAB) and Stale(8)(trajectory(3, version=1), 10, VOCAB)
    assert Stale(8, oldest=3)(trajectory(3, version=6), 10, VOCAB) == "stale"
    least = -math.log(VOCAB) - 2
    odd = lambda token, logprob: Gibberish()(trajectory(3, token=token, logprob=logprob), 0, VOCAB)  # noqa: E731
    assert odd(79, least - 0.01) == "gibberish" and not odd(78, least - 0.01) and not odd(79, least + 0.01)
    # CWM's own numbers: of 128,256 tokens the rare ones begin at 100,000, and the bound is -13.76.
    assert int(Gibberish().share * 128_256) == pytest.approx(100_000, rel=1e-3)
    assert -math.log(128_256) - 2 == pytest.approx(-13.76, abs=0.01)


def test_faults_of_environments_count_for_nothing_in_the_mean():
    members = [trajectory(3, 1.0), trajectory(1, 0.0), trajectory(9, -1.0, status="out of memory")]
    chosen, _ = judge(group(*members), PLAIN, 5, VOCAB)
    assert [one.advantage for one in chosen] == pytest.approx(advantages([1.0, 0.0], [3, 1]))


some = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5), st.floats(-2, 2)), min_size=1, max_size=8)


@given(some)
def test_rows_hold_every_context_once_and_whole(parts):
    made = [(trajectory(agent, observed=seen, token=n + 1), value) for n, (agent, seen, value) in enumerate(parts)]
    rows = pack([[Chosen(*pair)] for pair in made], 8, 16)
    found = []
    for row in range(8):
        for segment in range(1, rows.segment_ids[row].max() + 1):
            place = rows.segment_ids[row] == segment
            assert np.diff(np.flatnonzero(place)).max(initial=1) == 1
            assert rows.positions[row][place].tolist() == list(range(place.sum()))
            found.append({name: array[row][place] for name, array in rows._asdict().items()})
    assert len(found) == len(made) and (rows.segment_ids == 0).sum() + sum(len(f["tokens"]) for f in found) == 8 * 16
    for one, value in made:
        (context,) = one.contexts
        held = next(
            f for f in found if np.array_equal(f["tokens"], context.tokens) and len(f["tokens"]) == len(context.tokens)
        )
        assert held["advantages"] == pytest.approx(value)
        agent = context.agent.copy()
        agent[0] = False
        np.testing.assert_array_equal(held["mask"], agent)
        np.testing.assert_array_equal(held["observed"][1:], ~context.agent[1:])
        np.testing.assert_array_equal(held["logprobs"], np.where(context.agent, context.logprobs, 0))
        np.testing.assert_array_equal(held["versions"], np.where(context.agent, context.versions, -1))
    empty = rows.segment_ids == 0
    assert not rows.mask[empty].any() and not rows.observed[empty].any()


def fill(spool, rng, count, start=0):
    for number in range(start, start + count):
        members = [trajectory(rng.randint(1, 8), rng.choice([0.0, 1.0]), version=rng.randint(0, 12)) for _ in range(4)]
        spool.seal(Group(f"{number:024d}", "task", tuple(members)))


@given(st.integers(0, 1000))
def test_every_step_can_be_had_again_and_everything_is_taken_once(seed):
    import tempfile

    folder, rng = tempfile.mkdtemp(), Random(seed)
    spool, ledger = Spool(f"{folder}/spool"), Ledger(f"{folder}/ledger.jsonl")
    gatherer, batches, made = Gatherer(spool, ledger, PLAIN, VOCAB), {}, 0
    for version in range(12):
        fill(spool, rng, rng.randint(0, 4), made)
        made = len(spool.sealed())
        gathered = gatherer.gather(len(batches) + 1, version)
        rows = gathered and gathered.rows
        if rows is not None:
            batches[len(batches) + 1] = rows
            assert rows.mask.sum() > 0 and rows.tokens.shape == (2, 16)
        again = Gatherer(spool, Ledger(f"{folder}/ledger.jsonl"), PLAIN, VOCAB)
        for step, expected in batches.items():
            for ours, theirs in zip(again.gather(step, rng.randint(0, 99)).rows, expected):
                np.testing.assert_array_equal(ours, theirs)
    assert len(ledger.taken) == ledger.consumed + sum(ledger.reasons.values()) <= made
    assert set(ledger.steps) == set(batches)


def test_groups_without_a_lesson_do_not_stop_the_run(tmp_path):
    spool, ledger = Spool(tmp_path / "spool"), Ledger(tmp_path / "ledger.jsonl")
    gatherer = Gatherer(spool, ledger, PLAIN, VOCAB)
    spool.seal(group(trajectory(3, 1.0), trajectory(3, 1.0), uid="a"))
    assert gatherer.gather(1, 0) is None and dict(ledger.reasons) == {"zero advantage": 1}
    path = tmp_path / "spool" / next(name.records for name in spool.sealed().values())
    spool.seal(group(trajectory(3, 1.0), trajectory(3, 0.0), uid="b"))
    (tmp_path / "spool" / spool.sealed()["b"].records).write_bytes(path.read_bytes()[:40])
    assert gatherer.gather(1, 0) is None and ledger.reasons["damaged"] == 1


def test_a_batch_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"Batching.tokens=99999 must be .* at most rows \* length=8192"):
        Batching(tokens=99_999)
