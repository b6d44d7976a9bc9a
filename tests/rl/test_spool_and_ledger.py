"""Groups on disk and what was taken of them: whole or not there, once or never, whoever is killed."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.rl.ledger import Entry, Ledger
from cwm_jax.rl.spool import DamagedGroup, Spool
from cwm_jax.rl.trajectory import Context, Group, Trajectory, Turn, from_bytes, group_uid, to_bytes


def context(length, seed=0):
    rng = np.random.default_rng(seed)
    agent = rng.random(length) < 0.5
    return Context.of(
        rng.integers(0, 2**31 - 1, length), agent, np.where(agent, -rng.exponential(size=length), 0),
        np.where(agent, rng.integers(0, 50, length), -1), rng.normal(size=length),
    )  # fmt: skip


def group(uid="a" * 24, seed=0, members=3):
    trajectories = tuple(
        Trajectory((context(5 + seed % 7, seed + n),), n, "ok", (Turn(0, 1, 4, 0.5, 0.25),), {"pass": 1.0}, {"n": n})
        for n in range(members)
    )
    return Group(uid, "task", trajectories, "worker", 1)


def same(one, other):
    assert (one.member, one.status, one.turns, one.outcomes, one.info) == (
        other.member, other.status, other.turns, other.outcomes, other.info
    )  # fmt: skip
    for ours, theirs in zip(one.contexts, other.contexts, strict=True):
        for array, expected in zip(ours, theirs, strict=True):
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 99)), min_size=1, max_size=3),
    st.text(),
    st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False), max_size=3),
)
def test_a_trajectory_comes_back_bit_by_bit(contexts, status, outcomes):
    one = Trajectory(
        tuple(context(*each) for each in contexts), 4, status, (Turn(0, 0, 1),), outcomes, {"a": [1, None]}
    )
    same(from_bytes(to_bytes(one)), one)


def test_a_group_is_there_once_and_comes_back(tmp_path):
    spool = Spool(tmp_path)
    assert spool.seal(group()) and not spool.seal(group(seed=9))
    (sealed,) = spool.sealed().values()
    read = spool.read(sealed)
    for one, other in zip(read.trajectories, group().trajectories, strict=True):
        same(one, other)
    assert (read.uid, read.task, read.worker, read.attempt) == ("a" * 24, "task", "worker", 1)
    assert sealed.versions == read.versions and sealed.tokens == sum(t.agent_tokens for t in read.trajectories)
    assert len(list(tmp_path.iterdir())) == 2
    spool.delete([sealed.uid])
    assert spool.sealed() == {} and list(tmp_path.iterdir()) == []


def test_of_many_who_seal_one_group_at_once_one_does(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda seed: Spool(tmp_path).seal(group(seed=seed)), range(16)))
    assert sum(won) == 1 and len(list(tmp_path.iterdir())) == 2
    spool = Spool(tmp_path)
    (sealed,) = spool.sealed().values()
    same(spool.read(sealed).trajectories[0], group(seed=won.index(True)).trajectories[0])


def test_new_groups_stand_behind_old_ones(tmp_path):
    spool, other = Spool(tmp_path), Spool(tmp_path)
    for number in (3, 1, 2):
        other.seal(group(f"{number:024d}"))
        assert list(spool.sealed())[-1] == f"{number:024d}"
    assert len(spool.sealed()) == 3


def test_groups_stand_in_the_order_in_which_they_were_sealed(tmp_path):
    """However coarse the clock of the file system is; else a run would not be the same every time."""
    spool, uids = Spool(tmp_path), [f"{number:024d}" for number in (5, 2, 9, 1)]
    for uid in uids:
        spool.seal(group(uid))
        os.utime(tmp_path / f"{uid}.json", ns=(10**18, 10**18))
    assert list(Spool(tmp_path).sealed()) == uids


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damage_is_noticed(tmp_path, damage):
    spool = Spool(tmp_path)
    spool.seal(group())
    (sealed,) = spool.sealed().values()
    path = tmp_path / sealed.records
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
    with pytest.raises(DamagedGroup, match=sealed.records):
        spool.read(sealed)


KILLED = """
import builtins, os, sys
from pathlib import Path
left = int(sys.argv[2])
def counted(call):
    def wrapper(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return call(*arguments, **named)
    return wrapper
from tests_rl_group import group
from cwm_jax.rl.spool import Spool
from cwm_jax.rl.ledger import Entry, Ledger
folder = Path(sys.argv[1])
for name in ("open", "fsync", "link", "replace", "rename", "unlink", "close", "listdir"):
    setattr(os, name, counted(getattr(os, name)))
builtins.open = counted(builtins.open)
Spool(folder / "spool").seal(group())
Ledger(folder / "ledger.jsonl").append(Entry(1, ("a" * 24,), {}))
print("done")
"""


def test_killed_between_any_two_calls_of_the_system_nothing_is_half_there(tmp_path):
    """Every call that makes, moves or deletes a file is the last one in turn."""
    helper = tmp_path / "tests_rl_group.py"
    helper.write_text(
        f"import sys\nsys.path.insert(0, {os.path.dirname(__file__)!r})\nfrom test_spool_and_ledger import group\n"
    )
    seen = set()
    for calls in range(200):
        folder = tmp_path / str(calls)
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
        command = [sys.executable, "-c", KILLED, str(folder), str(calls)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode in (0, 9), done.stderr
        spool, ledger = Spool(folder / "spool"), Ledger(folder / "ledger.jsonl")
        for sealed in spool.sealed().values():
            assert len(spool.read(sealed).trajectories) == 3
        assert ledger.taken <= set(spool.sealed())
        seen.add((len(spool.sealed()), ledger.consumed))
        if not ledger.entries:  # whoever goes on ends where an undisturbed one would
            spool.seal(group())
            ledger.append(Entry(1, ("a" * 24,), {}))
        assert len(spool.sealed()) == 1 and Ledger(folder / "ledger.jsonl").consumed == 1
        if done.returncode == 0:
            break
    assert done.returncode == 0 and calls > 8 and seen >= {(0, 0), (1, 0), (1, 1)}


# The ledger.


def test_entries_come_back_and_half_a_line_is_none(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append(Entry(1, ("a", "b"), {"c": "zero advantage"}))
    reader = Ledger(path)
    ledger.append(Entry(2, ("d",), {}))
    reader.refresh()
    assert reader.entries == ledger.entries and reader.steps == {1: ledger.entries[0], 2: Entry(2, ("d",), {})}
    with path.open("a") as file:
        file.write('{"step": 3, "consu')
    again = Ledger(path)
    assert again.entries == ledger.entries
    again.append(Entry(3, (), {"f": "stale"}, 7))  # passed over while the step is not decided
    again.append(Entry(3, ("e",), version=8))
    assert Ledger(path).entries[-2:] == [Entry(3, (), {"f": "stale"}, 7), Entry(3, ("e",), {}, 8)]
    assert Ledger(path).steps[3].version == 8
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert (again.consumed, dict(again.reasons)) == (4, {"zero advantage": 1, "stale": 1})
    assert again.taken == set("abcdef")


@pytest.mark.parametrize(
    "entry, complaint",
    [
        (Entry(3, ("x",)), "of step 2, not 3"),
        (Entry(2, ("a",)), "a was taken before"),
        (Entry(2, ("x",), {"b": "stale"}), "b was taken before"),
    ],
)
def test_nothing_is_taken_twice(tmp_path, entry, complaint):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(Entry(1, ("a", "b")))
    with pytest.raises(ValueError, match=complaint):
        ledger.append(entry)
    assert len(Ledger(tmp_path / "ledger.jsonl").entries) == 1


@given(st.text(max_size=5), st.integers(0, 99), st.integers(0, 99))
def test_uids_tell_groups_apart(task, number, seed):
    uid = group_uid(task, number, seed)
    assert uid == group_uid(task, number, seed)
    assert uid not in (group_uid(task + "x", number, seed), group_uid(task, number + 1, seed))
