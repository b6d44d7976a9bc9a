"""Trajectories: what an agent and its environment said in tokens, who drew each, with which weights, for what reward.

They are never told in text: a text that is encoded again may come out as other tokens than were drawn.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import msgpack
import numpy as np

from cwm_jax.envs.env import OK

_ARRAYS = {"tokens": "<i4", "agent": "<u1", "logprobs": "<f4", "versions": "<i4", "rewards": "<f4"}


class Context(NamedTuple):
    """Tokens that stand in one window, arrays of one length T.

    Attributes:
      tokens: int32 ids.
      agent: bool, whether the agent drew it; the environment said the others.
      logprobs: float32, natural, as recorded when it was drawn; 0 of the environment's.
      versions: int32, of the weights that drew it; -1 of the environment's.
      rewards: float32, given after it.
    """

    tokens: np.ndarray
    agent: np.ndarray
    logprobs: np.ndarray
    versions: np.ndarray
    rewards: np.ndarray

    @classmethod
    def of(cls, tokens, agent, logprobs, versions, rewards) -> "Context":
        """Of any sequences of one length."""
        values = (tokens, agent, logprobs, versions, rewards)
        dtypes = (np.int32, bool, np.float32, np.int32, np.float32)
        return cls(*(np.asarray(value, dtype) for value, dtype in zip(values, dtypes)))


class Turn(NamedTuple):
    """One action and what came of it.

    Attributes:
      context: index of the context.
      start: index of the first token of the action.
      end: index behind its last one.
      seconds_drawing: from the request to its last token.
      seconds_acting: that the environment took.
    """

    context: int
    start: int
    end: int
    seconds_drawing: float = 0.0
    seconds_acting: float = 0.0


@dataclass(frozen=True)
class Trajectory:
    """One attempt at a task.

    Attributes:
      contexts: in order; an environment may begin a new one.
      member: its number in its group.
      status: `ok`, or why it is not to be learnt from: a fault of the environment, not of the agent.
      turns: in order.
      outcomes: by name, such as `pass`.
      info: for people, anything of JSON.
    """

    contexts: tuple[Context, ...]
    member: int = 0
    status: str = OK
    turns: tuple[Turn, ...] = ()
    outcomes: dict[str, float] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def reward(self) -> float:
        """The sum of its rewards."""
        return float(sum(context.rewards.sum(dtype=np.float64) for context in self.contexts))

    @property
    def agent_tokens(self) -> int:
        return int(sum(context.agent.sum() for context in self.contexts))

    @property
    def versions(self) -> tuple[int, int] | None:
        """The oldest and the newest weights that drew a token; None where the agent drew none."""
        drawn = [context.versions[context.agent] for context in self.contexts if context.agent.any()]
        return (int(min(map(np.min, drawn))), int(max(map(np.max, drawn)))) if drawn else None


@dataclass(frozen=True)
class Group:
    """Attempts at one task, compared with each other.

    Attributes:
      uid: of the task, the pass over the tasks and the seed, so that a group that is made twice is known.
      task: names the task, as `ENV/TASK`.
      trajectories: its members.
      worker: who made it.
      attempt: how often it was begun before.
    """

    uid: str
    task: str
    trajectories: tuple[Trajectory, ...]
    worker: str = ""
    attempt: int = 0

    @property
    def env(self) -> str:
        """Name of its environment."""
        return self.task.partition("/")[0]

    @property
    def versions(self) -> tuple[int, int] | None:
        """The oldest and the newest weights that drew a token of any member."""
        spans = [one.versions for one in self.trajectories if one.versions]
        return (min(old for old, _ in spans), max(new for _, new in spans)) if spans else None


def group_uid(task: str, number: int, seed: int) -> str:
    """The identity of a group: of a task in pass `number` of a run with a seed."""
    return hashlib.blake2b(f"{task}\0{number}\0{seed}".encode(), digest_size=12).hexdigest()


def to_bytes(trajectory: Trajectory) -> bytes:
    """As stored: MessagePack, arrays as little-endian bytes. Nothing in it can run when it is read."""
    fields = {name: value for name, value in asdict(replace(trajectory, contexts=())).items() if name != "contexts"}
    contexts = [
        {name: getattr(context, name).astype(dtype).tobytes() for name, dtype in _ARRAYS.items()}
        for context in trajectory.contexts
    ]
    return msgpack.packb(fields | {"contexts": contexts})


def from_bytes(data: bytes) -> Trajectory:
    """The trajectory that `to_bytes` stored."""
    fields = msgpack.unpackb(data)
    contexts = tuple(
        Context.of(*(np.frombuffer(stored[name], dtype) for name, dtype in _ARRAYS.items()))
        for stored in fields.pop("contexts")
    )
    turns = tuple(Turn(*turn) for turn in fields.pop("turns"))
    return Trajectory(contexts, turns=turns, **fields)


def advantages(rewards: Sequence[float], lengths: Sequence[int]) -> np.ndarray:
    """Of each member of a group, its reward less the mean of all, weighed by their tokens (CWM, facts §6.1).

    So the mean over *tokens* is 0; there is no division by a deviation, which would favour tasks that are nearly
    always or nearly never solved.

    Args:
      rewards: of each member.
      lengths: tokens of the agent in each.

    Returns:
      float64 [members]; zeros where nobody drew a token.
    """
    rewards, lengths = np.asarray(rewards, np.float64), np.asarray(lengths, np.float64)
    if lengths.sum() == 0:
        return np.zeros(len(rewards))
    return rewards - (rewards * lengths).sum() / lengths.sum()
