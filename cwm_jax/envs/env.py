"""What an environment is: a functional API in tokens, after the one that CWM released (facts §6.6).

An environment never sees text that was encoded again: it decodes actions to read them, encodes what it says itself
once, and hands on the tokens that were drawn. Rewards are apart from dynamics: a transition tells outcomes, and a
`Reward` says what they are worth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

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
    """

    name: str
    stop_ids: tuple[int, ...]

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


class Reward(Protocol):
    """What outcomes are worth.

    Attributes:
      range: the least and the most.
    """

    range: tuple[float, float]

    def __call__(self, outcomes: Mapping[str, float], tokens: int) -> float:
        """Of a whole episode.

        Args:
          outcomes: those of its last transition.
          tokens: that the agent drew.
        """


@dataclass(frozen=True)
class PassOnly:
    """2 · pass - 1 (CWM's `pass_only`)."""

    range = (-1.0, 1.0)

    def __call__(self, outcomes: Mapping[str, float], tokens: int) -> float:
        return 2 * float(outcomes.get("pass", 0.0)) - 1


@dataclass(frozen=True)
class Score:
    """The outcome `score`, from 0 to 1, as it is: partly right is better than wrong (our choice, for small models)."""

    range = (0.0, 1.0)

    def __call__(self, outcomes: Mapping[str, float], tokens: int) -> float:
        return float(outcomes.get("score", outcomes.get("pass", 0.0)))


@dataclass(frozen=True)
class ShorterIsBetter:
    """Of what passes, the short: +1 up to `soft` tokens, then falling to -1 at `hard` and beyond (CWM, facts §6.5).

    Attributes:
      soft: tokens that cost nothing; it rises over the run (CWM: 8k to 64k in 10k steps), see `curriculum`.
      hard: tokens from which on passing is worth as little as failing.
    """

    soft: int
    hard: int
    range = (-1.0, 1.0)

    def __post_init__(self):
        if not 0 < self.soft < self.hard:
            raise ValueError(f"ShorterIsBetter.soft={self.soft} must be above 0 and below hard={self.hard}")

    def __call__(self, outcomes: Mapping[str, float], tokens: int) -> float:
        if not outcomes.get("pass"):
            return -1.0
        return 1 - 2 * min(max((tokens - self.soft) / (self.hard - self.soft), 0.0), 1.0)
