"""Roles that are started again: nothing of one life is taken for another's, and what fails for good is told."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from small_rl import small

from cwm_jax.checkpoints.training import DamagedCheckpoint
from cwm_jax.envs.env import Task, Transition
from cwm_jax.envs.reverse import Reverse
from cwm_jax.inference.engine import Engine
from cwm_jax.model.transformer import init_params, rebuilder
from cwm_jax.report.rl.told import WAITING
from cwm_jax.rl import loading as loading_module
from cwm_jax.rl.board import Admission, Board
from cwm_jax.rl.curriculum import Order
from cwm_jax.rl.examiner import Examiner, read_examinations
from cwm_jax.rl.in_one_process import together
from cwm_jax.rl.ledger import Entry, Ledger
from cwm_jax.rl.loading import Loading
from cwm_jax.rl.policy import PolicyReader, Publisher
from cwm_jax.rl.remote import RemotePools
from cwm_jax.rl.results import write_results
from cwm_jax.rl.roles import EnvironmentRole
from cwm_jax.rl.sampler import Playground

RL = small(4, 1)
ENV = Reverse(letters=4, length=3, count=256)


def pools(role: EnvironmentRole, host: str = "sampler-0") -> RemotePools:
    """Of one role, as a life of a host calls it."""
    return RemotePools(lambda: ["env"], lambda pool, method, *args: getattr(role, method)(*args), 1.0, host)


def test_an_episode_of_a_pool_that_died_is_none_of_the_next(tmp_path):
    (task, other), env = ENV.tasks()[:2], ENV.name
    episode, *_ = pools(EnvironmentRole(RL, tmp_path)).start(env, False, task)
    after = EnvironmentRole(RL, tmp_path)
    theirs = pools(after)
    new, *_ = theirs.start(env, False, other)
    with pytest.raises(LookupError, match="the environment was lost"):
        theirs.step(episode, (1,))
    assert theirs.step(new, (1,))[0].over, "nobody else has ended it"


def test_what_a_host_that_died_left_in_a_pool_is_closed(tmp_path):
    role, task = EnvironmentRole(RL, tmp_path), ENV.tasks()[0]
    others, lost = pools(role, "sampler-1"), pools(role)
    kept, *_ = others.start(ENV.name, False, task)
    for _ in range(3):
        lost.start(ENV.name, False, task)
    assert len(role._episodes) == 4
    pools(role).start(ENV.name, False, task)
    assert len(role._episodes) == 2 and kept[1] in role._episodes


def test_a_group_that_is_passed_over_while_the_board_looks_is_in_one_place(tmp_path, monkeypatch):
    board = Board(tmp_path, Order({"env": ["one"]}), Admission(0, 2))
    ticket, ledger = board.lease("one"), Ledger(tmp_path / "ledger.jsonl")
    there, looks = {ticket.uid: None}, []
    monkeypatch.setattr(board._spool, "sealed", lambda: looks.append(1) or (passed_over() or dict(there)))

    def passed_over():
        if len(looks) == 4:  # after the board has read the ledger
            ledger.append(Entry(1, (), {ticket.uid: "zero advantage"}))
            there.clear()

    accounts = board.accounts()
    assert accounts.holds and accounts.sealed == 1 and len(looks) == 2
    accounts = board.accounts()
    assert accounts.holds and sum(accounts.rejected.values()) == 1 and len(looks) > 4, accounts


def test_nothing_to_measure_is_measured_at_once(tmp_path):
    examiner = Examiner(tmp_path, {"reverse": Playground(ENV, None)}, replace(RL.examining, tasks=0), RL.drawing, 9)
    assert list(examiner.begin(1, 0)) == []
    examiner.until = 0
    assert examiner.done and read_examinations(tmp_path)[0]["environments"]["reverse"]["reward"] is None


def test_weights_that_cannot_be_read_are_told_and_at_last_raised(tmp_path, monkeypatch, capsys):
    params = init_params(RL.model, ENV.vocab_size, 0)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(lambda w: jax.ShapeDtypeStruct(w.shape, w.dtype, sharding=place), params)
    engine = Engine(rebuilder(RL.model, ENV.vocab_size), params, RL.engine)
    with Publisher(tmp_path) as publisher:
        publisher.publish(params, 1)
    reader = PolicyReader(tmp_path, "host")
    loading = Loading(engine, reader, shapes, in_background=False)

    def damaged(publication, params):
        raise DamagedCheckpoint("version 1: embed is not as published")

    monkeypatch.setattr(loading_module, "check", damaged)
    for turn in range(2):
        loading.begin(reader.newest())
        assert loading.finish() is None and loading.retries == turn + 1
        assert "embed is not as published; trying again" in capsys.readouterr().err
    loading.begin(reader.newest())
    with pytest.raises(DamagedCheckpoint, match="embed"):
        loading.finish()
    monkeypatch.undo()
    loading.begin(reader.newest())
    assert loading.finish().version == 1 == engine.version == reader.using


def test_samplers_that_would_wait_for_ever_are_refused():
    with pytest.raises(ValueError, match=r"Learning\.publish_every=3 is more than Admission\.staleness=1"):
        small(4, 1, "Learning.publish_every=3")
    with pytest.raises(ValueError, match=r"Sampling\.weight_sets=1 leaves no room"):
        small(4, 1, "Sampling.weight_sets=1")


@pytest.mark.parametrize("first", [False, True])
def test_an_episode_that_is_given_up_while_it_begins_is_closed(first):
    from cwm_jax.rl.rollout import Drawing, rollout

    closed = []
    env = SimpleNamespace(
        name="late", stop_ids=(), start=lambda task: ("state", Transition((1,))), close=closed.append,
        max_action=lambda state: 1,
    )  # fmt: skip
    episode = rollout(env, Task("one"), None, Drawing(), name="a", member=0, seed=0, version=lambda: 1, vocab_size=9)
    act = next(episode)
    if first:
        act.call()
    episode.close()
    if not first:
        act.call()
    assert closed == ["state"]


def test_what_counts_as_waiting_is_a_part_of_the_time_of_a_role(tmp_path):
    with together(RL, tmp_path) as roles:
        told = {"learner": roles.learner.hours.told(), "sampler": roles.samplers[0].hours.told()}
    told["env"] = EnvironmentRole(RL, tmp_path)._hours.told()
    for kind, parts in WAITING.items():
        assert {*parts} <= told[kind].keys(), kind


def test_a_life_of_a_host_that_ended_begins_nothing_more(tmp_path):
    role, task = EnvironmentRole(RL, tmp_path), ENV.tasks()[0]
    old, new = pools(role), pools(role)
    old.start(ENV.name, False, task)
    kept, *_ = new.start(ENV.name, False, task)
    with pytest.raises(LookupError, match="was started again"):
        old.start(ENV.name, False, task)
    assert list(role._episodes) == [kept[1]]


def test_a_run_of_which_no_role_told_anything_has_results(tmp_path: Path):
    accounts = Board(tmp_path, Order({"env": ["one"]}), Admission(0, 2)).accounts()
    results = write_results(tmp_path, {"restarts": {}, "again": 0, "accounts": accounts}, 1.0)
    assert results["steps"] == 0 and results["idle"] == {} and results["versions"]["published"] == 1
