"""Rejection sampling: from the spool of a run to packed rows for SFT (facts §6.11).

Trajectories that passed become documents in the very tokens that were drawn, and only those of the agent are learnt.
Nothing here depends on the order in which groups were sealed or members ended.
"""

import hashlib
import json
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cwm_jax.components import plain
from cwm_jax.data.buckets import Bucket
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.rows import MOST_IN_A_ROW, Document, pack, write_rows
from cwm_jax.envs.env import OK
from cwm_jax.files import write_json
from cwm_jax.report.progress import progress
from cwm_jax.rl.spool import DamagedGroup, Sealed, Spool
from cwm_jax.rl.trajectory import Group, Trajectory

SOLVE_RATES = "solve_rates.json"


@dataclass(frozen=True)
class Rejection:
    """Which trajectories are kept.

    Of a task with solve rate r at most (1 - r) · `per_task` are, and one at least: what is always solved teaches
    little, and without a bound the easy tasks would be most of the data (our choice; CWM tells no numbers. Its talk
    says to feed back "code tasks that failed", which we read as: successes on tasks that mostly fail).

    Attributes:
      outcome: of an episode, that tells whether it passed.
      least: of that outcome.
      per_task: most of one task.
      most: of all tasks, those solved least first, each with one before any has two; None for any.
    """

    outcome: str = "pass"
    least: float = 1.0
    per_task: int = 4
    most: int | None = None

    def __post_init__(self):
        if self.per_task < 1 or (self.most is not None and self.most < 1):
            raise ValueError(f"Rejection.per_task={self.per_task} and most={self.most} must be at least 1")


class Kept(NamedTuple):
    """A trajectory that is kept; they are ordered by these.

    Attributes:
      task: that it solves.
      uid: of its group.
      place: among the members.
    """

    task: str
    uid: str
    place: int


class Selection(NamedTuple):
    """What came of a spool.

    Attributes:
      kept: in order.
      dropped: how many trajectories were not, by reason.
      solve_rates: of each task that was attempted, over all of its attempts.
    """

    kept: tuple[Kept, ...]
    dropped: Counter[str]
    solve_rates: dict[str, float]


def select(groups: Iterable[Group], rejection: Rejection, length: int) -> Selection:
    """Chooses among the trajectories of groups, each of which is looked at once.

    Attempts that failed for no fault of the agent count for nothing. Of those that are alike in every token one is
    left, and which of the others of a task are kept is drawn by a hash of their tokens.

    Args:
      groups: in any order.
      rejection: what is kept.
      length: tokens that a context may have.
    """
    dropped, tried, solved = Counter[str](), Counter[str](), Counter[str]()
    found: dict[bytes, Kept] = {}
    for group in groups:
        for place, one in enumerate(group.trajectories):
            if one.status != OK or not one.agent_tokens:
                dropped["failed"] += 1
                continue
            passed = one.outcomes.get(rejection.outcome, 0.0) >= rejection.least
            tried[group.task] += 1
            solved[group.task] += passed
            if not passed:
                dropped["not passed"] += 1
            elif max(len(context.tokens) for context in one.contexts) > length:
                dropped["too long"] += 1
            else:
                mark, this = _mark(one), Kept(group.task, group.uid, place)
                dropped["alike"] += mark in found
                found[mark] = min(this, found.get(mark, this))
    by_task = defaultdict(list)
    for _, one in sorted(found.items()):
        by_task[one.task].append(one)
    ranked = []
    for task, some in by_task.items():
        room = max(1, -(-rejection.per_task * (tried[task] - solved[task]) // tried[task]))
        ranked += [(rank, solved[task] / tried[task], one) for rank, one in enumerate(some[:room])]
        dropped["enough of the task"] += len(some[room:])
    kept = sorted(one for _, _, one in sorted(ranked)[: rejection.most])
    dropped["enough in all"] += len(ranked) - len(kept)
    return Selection(tuple(kept), +dropped, {task: solved[task] / tried[task] for task in sorted(tried)})


def sift(spool: Spool, rejection: Rejection, length: int, vocabulary: str, folder: Path) -> Manifest:
    """Makes `folder` hold rows of what is kept, and the solve rates of all tasks; or reads what it holds already.

    Args:
      spool: of a run that has ended.
      rejection: what is kept.
      length: of every row, in tokens.
      vocabulary: tells the one that the tokens are of, as in `Manifest`.
      folder: for rows, manifest and `solve_rates.json`, as `Curriculum.solve_rates` takes it.

    Raises:
      ValueError: nothing passed.
      DamagedGroup: a group was damaged while this was at work.
      OSError: the disk is full.
    """
    try:
        return Manifest.read(folder)
    except FileNotFoundError:
        began = time.monotonic()
    sealed, damaged = spool.sealed(), Counter[str]()
    chosen = select(_groups(spool, sealed, damaged), rejection, length)
    dropped = dict(chosen.dropped + damaged)
    if not chosen.kept:
        raise ValueError(
            f"no trajectory in {spool.folder} has {rejection.outcome} >= Rejection.least={rejection.least}, left out: "
            f"{dropped}; lower it, or raise Rl.steps"
        )
    counts = Counter[str]()
    rows = pack(_counted(_documents(spool, sealed, chosen.kept), counts), length, MOST_IN_A_ROW)
    written = write_rows(Bucket(length, length).path(folder), rows)
    write_json(folder / SOLVE_RATES, chosen.solve_rates)
    shaping = [plain(rejection), length, sorted((one.uid, one.sha256) for one in sealed.values())]
    manifest = Manifest(
        settings=hashlib.sha256(json.dumps(shaping).encode()).hexdigest(),
        vocabulary=vocabulary,
        rows={length: written},
        documents=counts["documents"],
        tokens=counts["tokens"],
        predicted_tokens=counts["predicted"],
        programs=dict(Counter(one.task.partition("/")[0] for one in chosen.kept)),
        tests={},
        dropped=dropped,
        seconds=round(time.monotonic() - began, 1),
        python=platform.python_version(),
    )
    manifest.write(folder)
    return manifest


def documents(trajectory: Trajectory) -> Iterator[Document]:
    """A document for each context in which the agent drew something: its tokens have weight 1, all others 0."""
    for context in trajectory.contexts:
        if context.agent.any():
            yield Document(context.tokens, context.agent.astype(np.float32))


def _mark(trajectory: Trajectory) -> bytes:
    """Equal for those with the same tokens in the same contexts, and as good as random."""
    digest = hashlib.blake2b(digest_size=16)
    for context in trajectory.contexts:
        digest.update(len(context.tokens).to_bytes(8, "little") + context.tokens.astype("<i4").tobytes())
    return digest.digest()


def _groups(spool: Spool, sealed: dict[str, Sealed], damaged: Counter[str]) -> Iterator[Group]:
    """The groups that can be read; counts the trajectories of the others."""
    with progress("looking for what passed", len(sealed), unit="groups") as bar:
        for done, one in enumerate(sealed.values(), start=1):
            try:
                group = spool.read(one)
            except DamagedGroup:
                damaged["damaged"] += one.count
                continue
            yield group
            bar.update(done)


def _documents(spool: Spool, sealed: dict[str, Sealed], kept: tuple[Kept, ...]) -> Iterator[Document]:
    """What is kept, read anew group by group: a long spool does not fit into memory."""
    places = defaultdict(list)
    for one in kept:
        places[one.uid].append(one.place)
    with progress("packing", len(places), unit="groups") as bar:
        for done, (uid, some) in enumerate(places.items(), start=1):
            group = spool.read(sealed[uid])
            for place in some:
                yield from documents(group.trajectories[place])
            bar.update(done)


def _counted(some: Iterable[Document], counts: Counter[str]) -> Iterator[Document]:
    for one in some:
        counts.update(documents=1, tokens=len(one.tokens), predicted=int(np.count_nonzero(one.loss_weights[1:])))
        yield one
