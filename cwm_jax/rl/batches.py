"""From sealed groups to batches: what is learnt from, what is passed over and why, and how it lies in rows.

Shapes: B rows, S places.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from cwm_jax.envs.env import OK
from cwm_jax.rl.ledger import Entry, Ledger
from cwm_jax.rl.spool import DamagedGroup, Sealed, Spool
from cwm_jax.rl.trajectory import Context, Group, Trajectory, advantages


class Filter(Protocol):
    """Says which trajectories are not to be learnt from."""

    def __call__(self, trajectory: Trajectory, version: int, vocab_size: int) -> str:
        """Why not; empty if it may be.

        Args:
          trajectory: one with tokens of the agent.
          version: of the newest weights.
          vocab_size: ids are below it.
        """


@dataclass(frozen=True)
class Stale:
    """Passes over trajectories of old weights (CWM: those whose most recent token is over 100 steps old, facts §6.2).

    Attributes:
      newest: versions that the most recent token of a trajectory may be old.
      oldest: that its oldest token may be; None for any.
    """

    newest: int = 8
    oldest: int | None = None

    def __call__(self, trajectory: Trajectory, version: int, vocab_size: int) -> str:
        old, new = trajectory.versions
        late = version - new > self.newest or (self.oldest is not None and version - old > self.oldest)
        return "stale" if late else ""


@dataclass(frozen=True)
class Gibberish:
    """Passes over trajectories with a rare token that nothing spoke for (CWM, facts §6.2).

    Ids are in the order of merges, so late ones are rare: CWM's 100,000 of 128,256 are 0.78 of any vocabulary.

    Attributes:
      share: of the vocabulary whose ids are not rare.
      offset: nats below the log-probability of a uniform guess.
    """

    share: float = 0.78
    offset: float = 2.0

    def __call__(self, trajectory: Trajectory, version: int, vocab_size: int) -> str:
        least = -math.log(vocab_size) - self.offset
        for context in trajectory.contexts:
            if (context.agent & (context.tokens > self.share * vocab_size) & (context.logprobs < least)).any():
                return "gibberish"
        return ""


class RolloutRows(NamedTuple):
    """Packed trajectories, arrays [B, S], each at the place of the token that it tells of.

    Attributes:
      tokens: int32 ids, 0 where padded.
      segment_ids: int32, 1, 2, … for the contexts of the row, 0 where padded.
      positions: int32, from 0 in every context.
      logprobs: float32, as recorded; 0 of tokens that are not learnt from.
      advantages: float32, of the trajectory.
      mask: float32, 1 for tokens of the agent that are learnt from.
      observed: float32, 1 for what environments said, but for the first token of a context.
      versions: int32, of the weights that drew each; -1 of the others.
    """

    tokens: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray
    logprobs: np.ndarray
    advantages: np.ndarray
    mask: np.ndarray
    observed: np.ndarray
    versions: np.ndarray


@dataclass(frozen=True)
class Batching:
    """How groups become batches.

    Attributes:
      tokens: of agents whose advantage is not 0, that close a batch (CWM counts tokens, not trajectories; facts §6.2).
      rows, length: of every batch: one shape, one compiled step. What does not fit is left to the next batch.
      groups: that close a batch, however few their tokens are; None for any. With `Admission.staleness` 0 and as many
        groups a run is synchronous: nothing is under way while the learner works.
      filters: say which trajectories are passed over.
    """

    tokens: int = 4096
    rows: int = 8
    length: int = 1024
    groups: int | None = None
    filters: tuple[Filter, ...] = field(default_factory=lambda: (Stale(), Gibberish()))

    def __post_init__(self):
        if not 0 < self.tokens <= self.rows * self.length:
            raise ValueError(
                f"Batching.tokens={self.tokens} must be at least 1 and at most rows * length={self.rows * self.length}"
            )


class Chosen(NamedTuple):
    """A trajectory that is learnt from."""

    trajectory: Trajectory
    advantage: float


def judge(group: Group, batching: Batching, version: int, vocab_size: int) -> tuple[list[Chosen], str]:
    """The trajectories of a group that are learnt from, or why there are none.

    Attempts that failed for no fault of the agent stand for nothing, in the mean of the group neither.

    Returns:
      The chosen ones; and a reason where there are none: `failed` (fewer than two attempts count), `zero advantage`,
      `too long`, or that of the filter that passed over the last of them.
    """
    counted = [one for one in group.trajectories if one.status == OK and one.agent_tokens]
    if len(counted) < 2:
        return [], "failed"
    values = advantages([one.reward for one in counted], [one.agent_tokens for one in counted])
    moving = [Chosen(one, value) for one, value in zip(counted, values) if abs(value) > 1e-12]
    if not moving:
        return [], "zero advantage"
    kept, reason = [], ""
    for one in moving:
        if any(len(context.tokens) > batching.length for context in one.trajectory.contexts):
            reason = "too long"
            continue
        reasons = (each(one.trajectory, version, vocab_size) for each in batching.filters)
        if found := next(filter(None, reasons), ""):
            reason = found
        else:
            kept.append(one)
    return kept, "" if kept else reason


class Gathered(NamedTuple):
    """What a step learns from.

    Attributes:
      rows: packed.
      groups: whole, in order; members that are not learnt from included.
      rejected: reasons by uid of groups that were passed over meanwhile.
    """

    rows: RolloutRows
    groups: tuple[Group, ...]
    rejected: dict[str, str]


class Gatherer:
    """Gathers groups for steps, and writes down what becomes of each before it is used.

    Args:
      spool: where groups come from.
      ledger: where it is written down; this is its one writer.
      batching: how.
      vocab_size: ids are below it.
      keep: whether groups that are passed over stay in the spool.
      most: groups that can wait at once, so that more of them do not come; None for any number.
    """

    def __init__(
        self,
        spool: Spool,
        ledger: Ledger,
        batching: Batching,
        vocab_size: int,
        keep: bool = True,
        most: int | None = None,
    ):
        self._spool, self._ledger, self._batching, self._vocab_size = spool, ledger, batching, vocab_size
        self._keep, self._sizes = keep, {batching.groups, most} - {None}
        self._read: dict[str, Group] = {}

    def gather(self, step: int, version: int) -> Gathered | None:
        """The batch of a step; None where too little is there yet: ask again.

        A step that the ledger knows gets the very same groups in the same order.

        Args:
          step: from 1.
          version: of the newest weights.

        Raises:
          DamagedGroup: a group that was taken before cannot be read any more.
        """
        if (entry := self._ledger.steps.get(step)) is not None:
            return self._again(entry)
        groups: dict[str, list[Chosen]] = {}
        rejected: dict[str, str] = {}
        full = False
        for uid, sealed in self._spool.sealed().items():
            if uid in self._ledger.taken:
                continue
            chosen, reason = self._judge(sealed, version)
            if reason:
                rejected[uid] = reason
                continue
            full = bool(groups) and self._rows([*groups.values(), chosen]) > self._batching.rows
            if not full:
                groups[uid] = chosen
                full = _tokens(groups.values()) >= self._batching.tokens or len(groups) in self._sizes
            if full:
                break
        if full or rejected:  # what is passed over is told at once, so that others are made in its place
            self._ledger.append(Entry(step, tuple(groups) if full else (), rejected, version))
            if not self._keep:
                self._spool.delete(rejected)
        taken = {uid: self._read.pop(uid) for uid in self._read.keys() & self._ledger.taken}
        if not full:
            return None
        rows = pack(list(groups.values()), self._batching.rows, self._batching.length)
        return Gathered(rows, tuple(taken[uid] for uid in groups), rejected)

    def again(self, step: int) -> Gathered | None:
        """The batch of a step that was decided by whoever writes the ledger; None where it was not yet.

        Raises:
          DamagedGroup: a group of it cannot be read any more.
        """
        self._ledger.refresh()
        entry = self._ledger.steps.get(step)
        return None if entry is None else self._again(entry)

    def _judge(self, sealed: Sealed, version: int) -> tuple[list[Chosen], str]:
        try:
            if sealed.uid not in self._read:
                self._read[sealed.uid] = self._spool.read(sealed)
        except DamagedGroup:
            return [], "damaged"
        chosen, reason = judge(self._read[sealed.uid], self._batching, version, self._vocab_size)
        return ([], "too large") if chosen and self._rows([chosen]) > self._batching.rows else (chosen, reason)

    def _again(self, entry: Entry) -> Gathered:
        """The batch of an entry."""
        sealed = self._spool.sealed()
        whole: list[Group] = []
        for uid in entry.consumed:
            if uid not in sealed:
                raise DamagedGroup(f"group {uid} of step {entry.step} is gone from {self._spool.folder}")
            whole.append(self._spool.read(sealed[uid]))
        groups = [judge(group, self._batching, entry.version, self._vocab_size)[0] for group in whole]
        rows = pack(groups, self._batching.rows, self._batching.length)
        return Gathered(rows, tuple(whole), entry.rejected)

    def _rows(self, groups: list[list[Chosen]]) -> int:
        return len(_placed(groups, self._batching.length))


def pack(groups: Sequence[list[Chosen]], rows: int, length: int) -> RolloutRows:
    """Contexts into rows, each into the first that has room, in order."""
    shape = (rows, length)
    ints, floats = (lambda: np.zeros(shape, np.int32)), (lambda: np.zeros(shape, np.float32))
    packed = RolloutRows(ints(), ints(), ints(), floats(), floats(), floats(), floats(), np.full(shape, -1, np.int32))
    for row, contents in enumerate(_placed(groups, length)):
        start = 0
        for number, (context, advantage, imagined) in enumerate(contents, start=1):
            place = slice(start, start + len(context.tokens))
            packed.tokens[row, place] = context.tokens
            packed.segment_ids[row, place] = number
            packed.positions[row, place] = np.arange(len(context.tokens))
            packed.advantages[row, place] = advantage
            packed.mask[row, place] = context.agent
            packed.observed[row, place] = ~context.agent & ~imagined
            packed.logprobs[row, place] = np.where(context.agent, context.logprobs, 0)
            packed.versions[row, place] = np.where(context.agent, context.versions, -1)
            packed.mask[row, start] = packed.observed[row, start] = 0  # nothing comes before it to predict it from
            start += len(context.tokens)
    return packed


class _Piece(NamedTuple):
    """A context of a trajectory that is learnt from.

    Attributes:
      context: what was said.
      advantage: of the trajectory.
      imagined: bool [T], what no environment said; it is not the truth about one.
    """

    context: Context
    advantage: float
    imagined: np.ndarray


def _placed(groups: Iterable[list[Chosen]], length: int) -> list[list[_Piece]]:
    """The contexts of each row, first fit."""
    rows: list[list[_Piece]] = []
    free: list[int] = []
    for piece in _pieces(groups):
        size = len(piece.context.tokens)
        row = next((number for number, room in enumerate(free) if size <= room), None)
        if row is None:
            rows.append([])
            free.append(length)
            row = len(rows) - 1
        rows[row].append(piece)
        free[row] -= size
    return rows


def _pieces(groups: Iterable[list[Chosen]]) -> Iterator[_Piece]:
    for chosen in groups:
        for trajectory, advantage in chosen:
            for number, context in enumerate(trajectory.contexts):
                yield _Piece(context, advantage, _imagined(trajectory, number))


def _imagined(trajectory: Trajectory, number: int) -> np.ndarray:
    """Which tokens of a context follow actions that imagination answered (`info["imagined"]`, `envs.imagined`)."""
    found = np.zeros(len(trajectory.contexts[number].tokens), bool)
    for action in trajectory.info.get("imagined", ()):
        if action < len(trajectory.turns) and trajectory.turns[action].context == number:
            following = trajectory.turns[action + 1 : action + 2]
            ends = [turn.start for turn in following if turn.context == number]
            found[trajectory.turns[action].end : ends[0] if ends else None] = True
    return found


def _tokens(groups: Iterable[list[Chosen]]) -> int:
    return sum(one.trajectory.agent_tokens for chosen in groups for one in chosen)
