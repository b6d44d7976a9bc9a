"""Rollouts on a real engine: what is recorded is what was drawn, and environments that fail cost only their episode."""

import threading
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwm_jax.envs.env import PassOnly, Score, ShorterIsBetter, Task, Transition
from cwm_jax.envs.reverse import ANSWER, BEGIN, Reverse
from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.engine import Engine
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder
from cwm_jax.rl.driver import Driver
from cwm_jax.rl.rollout import Drawing, rollout
from cwm_jax.rl.trajectory import from_bytes, to_bytes

ENV = Reverse(letters=5, length=4)
MODEL = ModelConfig(
    layers=2, d_model=32, q_heads=2, kv_heads=1, head_dim=16, d_ff=32, local_window=6, global_layers=(0,)
)
REBUILD = rebuilder(MODEL, ENV.vocab_size)
DRAWING, PASS = Drawing(max_context=60), PassOnly()
SHAPES = EngineConfig(slots=4, max_length=64, page=4, chunk=16, rows=2, steps=2)


def weights(seed):
    keys = iter(jax.random.split(jax.random.key(seed), 50))
    fresh = init_params(MODEL, ENV.vocab_size, 0)
    return jax.tree.map(lambda w: w + 0.3 * jax.random.normal(next(keys), w.shape, w.dtype), fresh)


@pytest.fixture(scope="module")
def shared():
    return Engine(REBUILD, weights(1), SHAPES)


@pytest.fixture
def engine(shared):
    yield shared
    assert not shared.busy
    shared.swap(weights(1), shared.version + 1)


@dataclass(frozen=True)
class Echo:
    """Says back what the agent said, twice; three turns, then it is over. With a switch of context after the first."""

    switch: bool = False
    name = "echo"
    stop_ids = (2,)

    def tasks(self):
        return [Task("only")]

    def start(self, task):
        return SimpleNamespace(turns=0, closed=False), Transition((BEGIN, 3, 4, ANSWER))

    def step(self, state, action):
        state.turns += 1
        over = state.turns == 3
        fresh = self.switch and state.turns == 1
        return Transition((BEGIN, *action[:2], ANSWER), over, {"pass": 1.0} if over else {}, fresh)

    def max_action(self, state):
        return 5

    def close(self, state):
        state.closed = True


def drive(engine, rollouts, seconds=600.0, swap=None, threads=4):
    """The trajectories by key; `swap` (turn, weights) comes in between."""
    driver, found, turns = Driver(engine, threads, seconds), {}, 0
    began = time.monotonic()
    for key, one in rollouts.items():
        driver.add(key, one, time.monotonic())
    while driver.count:
        assert time.monotonic() - began < 120
        if swap and turns == swap[0]:
            engine.swap(swap[1], engine.version + 1)
        found |= dict(driver.turn(time.monotonic(), 0.01))
        turns += 1
    found |= dict(driver.turn(time.monotonic()))
    assert list(driver.close()) == []
    return found


def begin(env, engine, key, task=None, drawing=DRAWING, reward=PASS, seed=None):
    task = task or env.tasks()[0]
    return rollout(
        env, task, reward, drawing, name=f"{key} {time.monotonic_ns()}", member=0, seed=seed or hash(key) % 1000,
        version=lambda: engine.version, vocab_size=ENV.vocab_size,
    )  # fmt: skip


def logprobs(params, tokens):
    """Of each token from the second on, by one forward pass."""
    tokens_BS = jnp.asarray(tokens)[None]
    positions_BS = jnp.arange(len(tokens))[None]
    logits = REBUILD(params)(tokens_BS, positions_BS, jnp.ones_like(tokens_BS))
    return np.asarray(jax.nn.log_softmax(logits)[0, jnp.arange(len(tokens) - 1), tokens_BS[0, 1:]])


@pytest.mark.parametrize("kv", ["keep", "recompute"])
def test_recorded_probabilities_are_those_of_the_policy(engine, kv):
    """T1, without a swap: teacher-forced, every token of the agent has the log-probability that was recorded."""
    drawing = Drawing(max_context=60, kv=kv)
    found = drive(engine, {n: begin(Echo(), engine, n, drawing=drawing) for n in range(6)})
    for one in found.values():
        (context,) = one.contexts
        expected = logprobs(weights(1), context.tokens)
        places = np.flatnonzero(context.agent)
        np.testing.assert_allclose(context.logprobs[places], expected[places - 1], atol=1e-4)
        assert not context.logprobs[~context.agent].any() and (context.versions[~context.agent] == -1).all()
        assert one.reward == 1.0 and context.rewards[places[-1]] == 1.0 and len(one.turns) == 3
        again = from_bytes(to_bytes(one))
        assert all(np.array_equal(a, b) for a, b in zip(again.contexts[0], context))
    assert len({one.contexts[0].tokens.tobytes() for one in found.values()}) > 1


def test_turns_are_one_stretch_of_tokens_and_no_text_in_between(engine):
    """T14: what the environment saw and said stands in the record token by token."""
    seen = []

    class Watched(Echo):
        def step(self, state, action):
            seen.append(list(action))
            return super().step(state, action)

    (one,) = drive(engine, {0: begin(Watched(), engine, "watch")}).values()
    (context,) = one.contexts
    rest = list(context.tokens[4:])
    for action in seen:
        assert rest[: len(action)] == action
        rest = rest[len(action) :]
        said = [BEGIN, *action[:2], ANSWER]
        assert rest[: len(said)] == said
        rest = rest[len(said) :]
    assert rest == []
    for turn, action in zip(one.turns, seen):
        assert list(context.tokens[turn.start : turn.end]) == action and context.agent[turn.start : turn.end].all()


def test_a_new_context_begins_without_the_old_one(engine):
    (one,) = drive(engine, {0: begin(Echo(switch=True), engine, "switch")}).values()
    first, second = one.contexts
    assert not first.agent[0] and first.agent[-1] and second.tokens[0] == BEGIN and not second.agent[0]
    expected = logprobs(weights(1), second.tokens)
    places = np.flatnonzero(second.agent)
    np.testing.assert_allclose(second.logprobs[places], expected[places - 1], atol=1e-4)


def test_a_swap_within_a_trajectory_is_stamped_token_by_token(engine):
    first = engine.version
    found = drive(engine, {n: begin(Echo(), engine, n) for n in range(4)}, swap=(3, weights(4)))
    versions = [one.contexts[0].versions[one.contexts[0].agent] for one in found.values()]
    assert any(len({*some}) == 2 for some in versions)
    assert all((np.diff(some) >= 0).all() and {*some} <= {first, first + 1} for some in versions)


@pytest.mark.parametrize("most, same", [(0, True), (None, False)])
def test_caches_may_be_old_only_so_far(engine, most, same):
    """After a swap, a turn that may hold no old caches draws as the new weights alone would."""
    drawing = Drawing(max_context=60, most_stale=most)
    found = drive(engine, {n: begin(Echo(), engine, n, drawing=drawing) for n in range(4)}, swap=(3, weights(4)))
    gaps = []
    for one in found.values():
        (context,) = one.contexts
        expected = logprobs(weights(4), context.tokens)
        last = one.turns[-1]
        places = np.arange(last.start, last.end)
        if (context.versions[places] == engine.version).all() and context.versions[one.turns[0].start] < engine.version:
            gaps.append(np.abs(context.logprobs[places] - expected[places - 1]).max())
    assert gaps and (max(gaps) < 1e-4) == same


class Broken(Echo):
    def __init__(self, how):
        object.__setattr__(self, "how", how)
        object.__setattr__(self, "closed", threading.Event())

    def step(self, state, action):
        match self.how:
            case "raises":
                raise RuntimeError("out of order")
            case "hangs":
                time.sleep(3)
            case "lies":
                return "a transition"
            case "no tokens":
                return Transition(("x",), False)
            case "ids beyond":
                return Transition((10**6,), False)
            case "nan":
                return Transition((3,), True, {"score": float("nan")})
            case "status":
                return Transition((), True, status="no machine left")
        return super().step(state, action)

    def close(self, state):
        self.closed.set()


@pytest.mark.parametrize(
    "how, status",
    [
        ("raises", "RuntimeError: out of order"), ("hangs", "no answer within"), ("lies", "said str, no Transition"),
        ("no tokens", "no tokens"), ("ids beyond", "no tokens"), ("nan", "reward of nan"), ("status", "no machine"),
    ],
)  # fmt: skip
def test_a_broken_environment_costs_its_episode_alone(engine, how, status):
    env = Broken(how)
    rollouts = {"bad": begin(env, engine, "bad", reward=Score()), "good": begin(Echo(), engine, "good")}
    found = drive(engine, rollouts, seconds=0.5 if how == "hangs" else 600.0)
    assert status in found["bad"].status and found["bad"].reward == 0 and found["good"].status == "ok"
    assert env.closed.wait(5)


def test_who_gives_up_leaves_nothing(engine):
    env, driver = Broken("fine"), Driver(engine)
    for key in range(6):
        driver.add(key, begin(env, engine, key), 0.0)
    for _ in range(4):
        driver.turn(0.0, 0.01)
    assert sorted(driver.close()) == list(range(6)) and driver.count == 0
    while engine.busy:
        engine.step()


def test_rewards():
    assert (PassOnly()({"pass": 1.0}, 5), PassOnly()({}, 5)) == (1.0, -1.0)
    assert (Score()({"score": 0.25}, 5), Score()({"pass": 1.0}, 5)) == (0.25, 1.0)
    short = ShorterIsBetter(100, 200)
    assert [short({"pass": 1.0}, n) for n in (1, 100, 150, 200, 900)] == [1, 1, 0, -1, -1] and short({}, 1) == -1
    rising = ShorterIsBetter(100, 200, soft_end=200, groups=10)
    assert [rising({"pass": 1.0}, 150, number) for number in (0, 5, 10)] == [0.0, 1.0, 1.0]
    assert rising({"pass": 1.0}, 200, 10) == 1.0 and rising({"pass": 1.0}, 201, 10) == -1.0
    with pytest.raises(ValueError, match="soft=5, soft_end=None, hard=5"):
        ShorterIsBetter(5, 5)


def test_the_toy_knows_what_is_right():
    env = Reverse(letters=5, length=3)
    state, said = env.start(Task("x", {"text": [0, 1, 2]}))
    assert said.observation == (BEGIN, 3, 4, 5, ANSWER)
    assert env.step(state, [5, 4, 3, 2]).outcomes == {"pass": 1.0, "score": 1.0}
    assert env.step(state, [5, 4, 4, 2]).outcomes == {"pass": 0.0, "score": 0.75}
    assert replace(env, seed=1).tasks() != env.tasks() == env.tasks()
