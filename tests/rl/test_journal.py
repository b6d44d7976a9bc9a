"""The turn journal: a life after takes what was drawn before, as long as its environment says the same."""

import tempfile
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small_rl import small

from cwm_jax.envs.env import PassOnly, Task, Transition
from cwm_jax.inference.request import Completion, Request, Token
from cwm_jax.rl.in_one_process import run_together, together
from cwm_jax.rl.journal import Journal
from cwm_jax.rl.ledger import Ledger
from cwm_jax.rl.rollout import Drawing, rollout
from cwm_jax.rl.spool import Spool

VOCAB = 50


class Talk:
    """An environment of some turns that answers with sums; it lies from one turn on."""

    name, stop_ids = "talk", (2,)

    def __init__(self, turns: int, lies_from: int):
        self.turns, self.lies_from = turns, lies_from

    def start(self, task):
        return [], Transition((1, 7 + (self.lies_from == 0)))

    def step(self, state, action):
        state.append(sum(action))
        lie = len(state) >= self.lies_from
        over = len(state) == self.turns
        return Transition(((sum(state) + lie) % VOCAB,), over, {"pass": 1.0} if over else {}, len(state) == 2)

    def max_action(self, state):
        return 4

    def close(self, state):
        pass


def play(journal: Journal, turns: int, lies_from: int, version: int, most: int = 99):
    """An episode, given up after `most` answers; the trajectory, and the requests that were asked."""
    asked, rng = [], np.random.default_rng(version)
    one = rollout(
        Talk(turns, lies_from), Task("only"), PassOnly(), Drawing(max_context=60), name="x", member=3, seed=0,
        version=lambda: version, vocab_size=VOCAB, journal=journal.episode("group", 3, again=True),
    )  # fmt: skip
    go = lambda: next(one)  # noqa: E731
    while True:
        try:
            wanted = go()
        except StopIteration as end:
            return end.value, asked
        if isinstance(wanted, Request):
            if len(asked) == most:
                one.close()
                return None, asked
            asked.append(wanted)
            tokens = [Token(int(rng.integers(3, VOCAB)), float(np.float32(rng.normal())), version) for _ in range(3)]
            result = Completion(wanted, tuple(tokens), "length")
        else:
            result = wanted.call()
        go = lambda result=result: one.send(result)  # noqa: E731


def actions(trajectory):
    """Of each turn: tokens, log-probabilities and versions."""
    found = []
    for turn in trajectory.turns:
        context, place = trajectory.contexts[turn.context], slice(turn.start, turn.end)
        found.append([getattr(context, name)[place].tolist() for name in ("tokens", "logprobs", "versions")])
    return found


def ends(data: bytes) -> list[int]:
    """Where each record ends."""
    reader, found = msgpack.Unpacker(), []
    reader.feed(data)
    for _ in reader:
        found.append(reader.tell())
    return found


@given(st.integers(1, 6), st.integers(0, 7), st.integers(0, 7), st.floats(0, 1))
@example(3, 7, 1, 1.0)  # two lives of one length
def test_a_life_after_draws_what_is_not_known(turns, most, lies_from, torn):
    """Whatever turn the first life came to, wherever its record is torn, and whenever the environment says else."""
    with tempfile.TemporaryDirectory() as folder:
        journal, records = Journal(Path(folder)), 0
        whole, _ = play(Journal(Path(folder) / "other"), turns, 99, 1)
        play(journal, turns, 99, 1, most)
        for path in (Path(folder) / "group").glob("*"):
            data = path.read_bytes()
            path.write_bytes(data[: round(torn * len(data))])
            records = sum(end <= round(torn * len(data)) for end in ends(data))
        again, asked = play(journal, turns, lies_from, 2)
        known = turns - len(asked)
        assert known == min(records, lies_from) and journal.replayed == 3 * known
        assert actions(again)[:known] == actions(whole)[:known]
        assert all(set(versions) == {2} for _, _, versions in actions(again)[known:])
        assert again.status == "ok" and again.reward == 1.0
        third, asked = play(journal, turns, lies_from, 3)  # by the journal of the second, which is whole
        assert not asked and actions(third) == actions(again)
        journal.forget("group")
        assert len(play(journal, turns, 99, 4)[1]) == turns


@given(st.binary(max_size=200), st.data())
def test_what_is_damaged_is_not_known(noise, data):
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        whole, _ = play(journal, 4, 99, 1)
        (path,) = (Path(folder) / "group").iterdir()
        content = path.read_bytes()
        place = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:place] + noise + content[place + len(noise) :])
        again, asked = play(journal, 4, 99, 2)
        known = 4 - len(asked)
        assert actions(again)[:known] == actions(whole)[:known] and again.status == "ok"
        if noise and noise != content[place : place + len(noise)]:
            assert known <= sum(end <= place for end in ends(content))


def test_a_sampler_that_dies_leaves_what_it_drew(tmp_path):
    rl = small(2, 4, "Sampling.journal=True", "Sampling.renew=0.0", "Rl.ttl=0.5")
    journal, groups = tmp_path / "journal", Spool(tmp_path / "spool")
    with together(rl, tmp_path) as roles:
        (before,) = roles.samplers
        while not list(journal.glob("*/*")):
            before.tick()
        assert not groups.sealed()
        time.sleep(1.0)  # its tickets go to whoever asks
        with together(rl, tmp_path) as others:
            (after,) = others.samplers
            run_together(others.learner, [after])
            assert after.replayed > 0 == before.replayed and others.board.accounts().holds
            before._board, before.name = others.board, "another"  # as another host of the run
            before.tick(leasing=False)  # it was only slow, and gives up what others have made
            still = {one.request.on_swap for one in before.engine.scheduler.running}
            assert still <= {"pin"}, "what is measured"
    done = groups.sealed().keys() | Ledger(tmp_path / "ledger.jsonl").taken
    Journal(journal).sweep(done)  # as a host that starts: the slow one may have written on while it was told
    assert done and not done & {folder.name for folder in journal.iterdir()}


def test_what_is_left_of_groups_that_are_done_is_swept(tmp_path):
    for uid in ("done", "open"):
        (tmp_path / uid).mkdir()
        (tmp_path / uid / "0-1").write_bytes(b"")
    Journal(tmp_path).sweep({"done", "never seen"})
    assert [folder.name for folder in tmp_path.iterdir()] == ["open"]


def test_nobody_keeps_what_is_sealed(tmp_path):
    journal = Journal(tmp_path)
    play(journal, 3, 99, 1)
    slow = journal.episode("group", 3, again=True)
    answer = slow.known(Request((1, 7), 4))
    assert answer is not None and len(answer.tokens) == 3
    slow.keep(answer)
    journal.forget("group")
    with pytest.raises(FileNotFoundError):
        slow.keep(answer)
    assert not list(tmp_path.iterdir())
