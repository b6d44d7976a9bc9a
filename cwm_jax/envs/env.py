"""What an environment is: a functional API in tokens, after the one that CWM released (facts §6.6).

An environment never sees text that was encoded again: it decodes actions to read them, encodes what it says itself
once, and hands on the tokens that were drawn. Rewards are apart from dynamics: a transition tells outcomes, and a
`Reward` says what they are worth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from cwm_jax.text.vocabulary import Vocabulary

OK = "ok"


class Task(NamedTuple):
    """Something to be done.

    Attributes:
      name: no other task of the environment has it.
      args: what the environment needs to begin; JSON.
    """

    name: str
    args: dict[str, Any] = {}  # noqa: RUF012 - never changed


@dataclass(frozen=True)
class Transition:
    """What an environment says.

    Attributes:
      observation: token ids, after the action.
      over: whether the episode has ended.
      outcomes: by name, such as `pass` or `compile`; at the end at least.
      fresh: whether the observation begins a new context, and what stood before is gone for the agent.
      status: `ok`, or what went wrong for no fault of the agent; such an episode is not learnt from.
      info: for people, JSON.
    """

    observation: tuple[int, ...] = ()
    over: bool = False
    outcomes: Mapping[str, float] = field(default_factory=dict)
    fresh: bool = False
    status: str = OK
    info: Mapping[str, Any] = field(default_factory=dict)


class Env(Protocol):
    """One kind of tasks. Its methods may take long and be called from several threads, each episode by one at a time.

    Attributes:
      name: in figures.
      stop_ids: tokens that end an action, of which they are the last.
      vocab_size: ids are below it.
      instant: whether its calls take no time to speak of, so that they are made where tokens are drawn.
    """

    name: str
    stop_ids: tuple[int, ...]
    vocab_size: int
    instant: bool

    def tasks(self) -> Sequence[Task]:
        """The tasks to learn from; held-out ones are another instance's."""

    def start(self, task: Task) -> tuple[Any, Transition]:
        """Begins an episode: its state, which belongs to the caller, and the first observation, the prompt."""

    def step(self, state: Any, action: Sequence[int]) -> Transition:
        """Takes an action; `state` changes."""

    def max_action(self, state: Any) -> int:
        """Tokens that the next action may have; what is cut there is handed on as it is."""

    def close(self, state: Any) -> None:
        """Ends an episode, wherever it stands, and gives back what it holds."""


class EnvConfig(Protocol):
    """What a configuration says of an environment; a frozen dataclass."""

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> Env:
        """The environment, in the ids of a vocabulary.

        Args:
          vocabulary: of the model; None where there is none, for environments whose tokens are their own.
          held_out: with the tasks that are kept for measuring; they share none with those to learn from.

        Raises:
          ValueError: the vocabulary lacks what it needs.
        """


class Reward(Protocol):
    """What outcomes are worth.

    Attributes:
      range: the least and the most.
    """

    range: tuple[float, float]

    def __call__(self, outcomes: Mapping[str, float], tokens: int, number: int = 0) -> float:
        """Of a whole episode.

        Args:
          outcomes: those of its last transition.
          tokens: that the agent drew.
          number: of its group in the run, from 0, for rewards that change over it.
        """


@dataclass(frozen=True)
class PassOnly:
    """2 · pass - 1 (CWM's `pass_only`)."""

    range = (-1.0, 1.0)

    def __call__(self, outcomes: Mapping[str, float], tokens: int, number: int = 0) -> float:
        return 2 * float(outcomes.get("pass", 0.0)) - 1


@dataclass(frozen=True)
class Score:
    """The outcome `score`, from 0 to 1, as it is: partly right is better than wrong (our choice, for small models)."""

    range = (0.0, 1.0)

    def __call__(self, outcomes: Mapping[str, float], tokens: int, number: int = 0) -> float:
        return float(outcomes.get("score", outcomes.get("pass", 0.0)))


@dataclass(frozen=True)
class ShorterIsBetter:
    """Of what passes, the short: +1 up to a soft limit, then falling to -1 at `hard` and beyond (CWM, facts §6.5).

    The soft limit rises from `soft` to `soft_end` while the first `groups` groups are made (CWM: 8k to 64k in 10k
    steps; groups are counted instead of steps, so that a reward follows from its group alone).

    Attributes:
      soft: tokens that cost nothing in the first group.
      hard: tokens from which on passing is worth as little as failing.
      soft_end: tokens that cost nothing at last; None for `soft` throughout.
      groups: over which the limit rises.
    """

    soft: int
    hard: int
    soft_end: int | None = None
    groups: int = 1
    range = (-1.0, 1.0)

    def __post_init__(self):
        end = self.soft if self.soft_end is None else self.soft_end
        if not (0 < self.soft <= end <= self.hard and self.soft < self.hard and self.groups > 0):
            raise ValueError(
                f"ShorterIsBetter.soft={self.soft}, soft_end={self.soft_end}, hard={self.hard}, groups={self.groups}: "
                "0 < soft <= soft_end <= hard, soft < hard and groups > 0 must hold"
            )

    def __call__(self, outcomes: Mapping[str, float], tokens: int, number: int = 0) -> float:
        if not outcomes.get("pass"):
            return -1.0
        end = self.soft if self.soft_end is None else self.soft_end
        soft = self.soft + (end - self.soft) * min(number / self.groups, 1.0)
        if tokens <= soft:
            return 1.0
        return 1 - 2 * min((tokens - soft) / max(self.hard - soft, 1.0), 1.0)
