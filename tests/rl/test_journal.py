"""The turn journal: a life after takes what was drawn before, as long as its environment says the same."""

import tempfile
from pathlib import Path

import msgpack
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_rl import small

from cwm_jax.envs.env import PassOnly, Task, Transition
from cwm_jax.inference.request import Completion, Request, Token
from cwm_jax.rl.in_one_process import run_together, together
from cwm_jax.rl.journal import Journal
from cwm_jax.rl.rollout import Drawing, rollout
from cwm_jax.rl.spool import Spool

VOCAB = 50
ACTION = 16  # tokens, more than any action of the toy has


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
        version=lambda: version, vocab_size=VOCAB, draw=journal.episode("group", 3).draw,
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
def test_a_life_after_draws_what_is_not_known(turns, most, lies_from, torn):
    """Whatever turn the first life came to, wherever its record is torn, and whenever the environment says else."""
    with tempfile.TemporaryDirectory() as folder:
        journal, records = Journal(Path(folder)), 0
        whole, _ = play(Journal(Path(folder) / "other"), turns, 99, 1)
        play(journal, turns, 99, 1, most)
        for path in (Path(folder) / "group").iterdir():
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


def test_a_sampler_that_dies_leaves_what_it_drew(tmp_path):
    rl = small(2, 4, "Sampling.journal=True")
    with together(rl, tmp_path) as roles:
        (sampler,) = roles.samplers
        while not any((tmp_path / "journal").glob("*/*")):
            sampler.tick()
        drawn = sum(len(list(folder.iterdir())) for folder in (tmp_path / "journal").iterdir())
        assert not Spool(tmp_path / "spool").sealed()
        with together(rl, tmp_path) as others:  # nobody has told the first that it is dead
            (after,) = others.samplers
            run_together(others.learner, [after])
            assert others.board.accounts().holds
        assert 0 < after.replayed <= drawn * ACTION and sampler.replayed == 0
    sealed = Spool(tmp_path / "spool").sealed()
    assert not {folder.name for folder in (tmp_path / "journal").iterdir()} & sealed.keys()
