"""Attempts that are imagined: one that surely fails is answered from imagination, and all others are made for real.

The agent says what it would do in the environment inside, and a predictor says what would come of it. Whoever is sure
of a failure saves the execution: the agent hears what the environment would say, and may try something else, while
the environment inside stays as it was. An action that may succeed is executed. So no reward is ever imagined: nothing
passes but by a real execution, and a predictor that errs costs chances, never truth.

What was imagined can be told apart: `info["imagined"]` has the numbers of the actions, from 0, that imagination
answered. What follows such a turn in a trajectory, up to the next, nobody has really said.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NamedTuple, Protocol

from cwm_jax.envs.env import OK, Env, EnvConfig, Task, Transition
from cwm_jax.text.vocabulary import Vocabulary

_COUNTED = ("real", "saved", "checked", "wrong", "inexact")


class Attempt(NamedTuple):
    """An action that may be executed, and all that it depends on.

    Attributes:
      task: that is being done.
      history: tokens from the prompt on: what the environment said, and what it executed. Nothing imagined.
      action: its tokens.
    """

    task: Task
    history: tuple[int, ...]
    action: tuple[int, ...]


class Prediction(NamedTuple):
    """What would come of an attempt.

    Attributes:
      passes: probability that its outcome is `pass`.
      observation: what the environment would say if it fails; empty for the prompt once more.
    """

    passes: float
    observation: tuple[int, ...] = ()


class Predictor(Protocol):
    """Who imagines. Its methods may be called from several threads.

    Attributes:
      instant: as of an `Env`.
    """

    instant: bool

    def __call__(self, attempt: Attempt) -> Prediction | None:
        """What would come of an attempt; None where it knows nothing."""

    def learn(self, attempt: Attempt, transition: Transition) -> None:
        """Is told what really came of an attempt, of each that was executed."""


class PredictorConfig(Protocol):
    """What a configuration says of a predictor; a frozen dataclass."""

    def open(self, env: Env, vocabulary: Vocabulary | None) -> Predictor:
        """The predictor.

        Args:
          env: the environment whose answers it predicts.
          vocabulary: as the environment was opened with.
        """


@dataclass(frozen=True)
class Remembered:
    """Knows what it has seen: of an attempt that was made before, in a group for one, what came of it then.

    Attributes:
      most: attempts that are remembered; the oldest are forgotten first.
    """

    most: int = 100_000

    def open(self, env: Env, vocabulary: Vocabulary | None) -> "Memory":
        return Memory(self.most)


class Memory:
    """The predictor of `Remembered`. It is sure of all that it says, so its environment should be one that repeats."""

    instant = True

    def __init__(self, most: int):
        self._most, self._seen = most, {}
        self._lock = threading.Lock()

    def __call__(self, attempt: Attempt) -> Prediction | None:
        return self._seen.get(_digest(attempt))

    def learn(self, attempt: Attempt, transition: Transition) -> None:
        with self._lock:
            self._seen[_digest(attempt)] = Prediction(float(_passes(transition)), transition.observation)
            if len(self._seen) > self._most:
                self._seen.pop(next(iter(self._seen)))


@dataclass(frozen=True)
class Imagined:
    """An environment in which attempts that surely fail are imagined.

    Outcomes are those of the newest real execution, or `pass` and `score` of 0 before there is one, and, counted over
    the episode: `real`, executions, checks included; `imagined`, attempts that imagination answered; `saved`, those of
    them that were not executed; `checked`, those that were; of these `wrong`, that in truth pass, and `inexact`, after
    which the environment would have said something else.

    Attributes:
      env: the environment inside; from the same actions it should come to the same.
      predictor: imagines.
      threshold: an attempt is imagined if it fails with a higher probability; 1 executes all.
      attempts: that may be imagined in an episode; all after them are executed.
      check: share of what is imagined that is executed, too, hidden from the agent, in an episode of its own. Which,
        depends on the attempt alone.
    """

    env: EnvConfig
    predictor: PredictorConfig = field(default_factory=Remembered)
    threshold: float = 0.9
    attempts: int = 4
    check: float = 0.1

    def __post_init__(self):
        if not (0 <= self.threshold <= 1 and 0 <= self.check <= 1 and self.attempts >= 0):
            raise ValueError(
                f"Imagined.threshold={self.threshold}, check={self.check}, attempts={self.attempts}: "
                "0 <= threshold <= 1, 0 <= check <= 1 and attempts >= 0 must hold"
            )

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "ImaginedEnv":
        env = self.env.open(vocabulary, held_out)
        return ImaginedEnv(self, env, self.predictor.open(env, vocabulary))


@dataclass
class _State:
    """An episode.

    Attributes:
      inside: the state of the environment inside.
      task, history: as of an `Attempt`.
      prompt: tokens.
      executed: actions, but for checks.
      newest: outcomes of the newest of them.
      imagined: numbers of the actions that imagination answered.
      counts: the outcomes that are counted here.
    """

    inside: Any
    task: Task
    prompt: tuple[int, ...]
    history: tuple[int, ...]
    executed: list[tuple[int, ...]] = field(default_factory=list)
    newest: dict[str, float] = field(default_factory=lambda: {"pass": 0.0, "score": 0.0})
    imagined: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class ImaginedEnv:
    """The environment of `Imagined`.

    Args:
      config: its configuration.
      env: the environment inside.
      predictor: imagines what that would say.
    """

    def __init__(self, config: Imagined, env: Env, predictor: Predictor):
        self.name, self.stop_ids, self.vocab_size = f"imagined-{env.name}", env.stop_ids, env.vocab_size
        self.instant = env.instant and predictor.instant
        self._config, self._env, self._predictor = config, env, predictor

    def tasks(self) -> Sequence[Task]:
        return self._env.tasks()

    def start(self, task: Task) -> tuple[_State, Transition]:
        inside, transition = self._env.start(task)
        prompt = tuple(transition.observation)
        return _State(inside, task, prompt, prompt), transition

    def step(self, state: _State, action: Sequence[int]) -> Transition:
        attempt = Attempt(state.task, state.history, tuple(action))
        may = self._config.threshold < 1 and len(state.imagined) < self._config.attempts
        expected = self._predictor(attempt) if may else None
        if expected is None or 1 - expected.passes <= self._config.threshold:
            transition = self._execute(state, attempt)
        else:
            transition = self._imagine(state, attempt, expected)
        counted = {name: float(state.counts[name]) for name in _COUNTED}
        counted["imagined"] = float(len(state.imagined))
        info = {**transition.info, "imagined": list(state.imagined)}
        return replace(transition, outcomes={**transition.outcomes, **counted}, info=info)

    def max_action(self, state: _State) -> int:
        return self._env.max_action(state.inside)

    def close(self, state: _State) -> None:
        self._env.close(state.inside)

    def _execute(self, state: _State, attempt: Attempt) -> Transition:
        """Takes an action for real."""
        transition = self._real(state, state.inside, attempt)
        state.executed.append(attempt.action)
        state.history += (*attempt.action, *transition.observation)
        state.newest = dict(transition.outcomes) or state.newest
        return transition

    def _imagine(self, state: _State, attempt: Attempt, expected: Prediction) -> Transition:
        """Answers in place of the environment inside, which does not hear of it."""
        state.imagined.append(len(state.imagined) + len(state.executed))
        if Random(_digest(attempt)).random() < self._config.check:
            self._check(state, attempt, expected)
        else:
            state.counts["saved"] += 1
        return Transition(tuple(expected.observation) or state.prompt, outcomes=state.newest)

    def _check(self, state: _State, attempt: Attempt, expected: Prediction) -> None:
        """Executes what was imagined, in an episode in which the same was done before."""
        inside, _ = self._env.start(state.task)
        try:
            for action in state.executed:
                self._env.step(inside, action)
            state.counts["real"] += len(state.executed)
            really = self._real(state, inside, attempt)
        finally:
            self._env.close(inside)
        if really.status == OK:
            state.counts["checked"] += 1
            state.counts["wrong"] += _passes(really)
            state.counts["inexact"] += not really.over and tuple(really.observation) != tuple(expected.observation)

    def _real(self, state: _State, inside: Any, attempt: Attempt) -> Transition:
        transition = self._env.step(inside, attempt.action)
        state.counts["real"] += 1
        if transition.status == OK:
            self._predictor.learn(attempt, transition)
        return transition


def _passes(transition: Transition) -> bool:
    return transition.outcomes.get("pass", 0.0) > 0


def _digest(attempt: Attempt) -> bytes:
    """The same for the same attempt alone, and on every machine."""
    told = repr((attempt.task.name, attempt.history, attempt.action))
    return hashlib.blake2b(told.encode(), digest_size=16).digest()
