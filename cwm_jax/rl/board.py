"""The board: which task is whose turn, who works on it, and that nothing is lost on the way.

A ticket is a number: task, pass and identity of its group follow from it, so the only thing that must survive is how
many were issued. Who holds a ticket is known here alone and may be forgotten: a board that is started again gives
tickets whose groups are not there a while to come in, and then to somebody else; a group that is made twice is noticed
when it is sealed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cwm_jax.files import write_whole
from cwm_jax.rl.curriculum import Choice
from cwm_jax.rl.ledger import Ledger
from cwm_jax.rl.spool import Spool


class Ticket(NamedTuple):
    """A group to be made.

    Attributes:
      number: from 0; everything else follows from it.
      choice: which task it is for.
      attempt: how often the ticket was given out before.
    """

    number: int
    choice: Choice
    attempt: int

    @property
    def uid(self) -> str:
        """Of the group."""
        return self.choice.uid


@dataclass(frozen=True)
class Accounts:
    """Where every ticket that was issued is.

    Attributes:
      issued: tickets.
      consumed: groups that were learnt from.
      rejected: groups that were passed over, by reason.
      sealed: groups that wait for the learner.
      in_flight: tickets whose group is not there yet.
      twice: uids that stand in two places; there must be none.
    """

    issued: int
    consumed: int
    rejected: dict[str, int]
    sealed: int
    in_flight: int
    twice: tuple[str, ...] = ()

    @property
    def residual(self) -> int:
        """What is issued less what is found; it must be 0."""
        return self.issued - self.consumed - sum(self.rejected.values()) - self.sealed - self.in_flight

    @property
    def holds(self) -> bool:
        """Whether nothing is lost and nothing is in two places."""
        return self.residual == 0 and not self.twice

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "rejected": sum(self.rejected.values()), "residual": self.residual,
                "reasons": dict(self.rejected)}  # fmt: skip


@dataclass
class _Open:
    """A ticket whose group is not there.

    Attributes:
      number: of the ticket.
      worker: who makes it; empty if nobody.
      until: when it is given to somebody else.
      attempts: how often it was given out.
    """

    number: int
    worker: str = ""
    until: float = 0.0
    attempts: int = 0


@dataclass(frozen=True)
class Admission:
    """How far samplers may run ahead: no full queue makes groups older than that.

    AReaL bounds all groups that were ever begun by the steps (arXiv 2505.24298, eq. 3), which is the same where every
    step takes as many groups; where batches are counted in tokens its queue grows with every smaller one, so what
    waits and runs is bounded here.

    Groups overtake one another, so a slow one may come out a little older: a hard bound on what is learnt from is that
    of `batches.Stale`.

    Attributes:
      staleness: steps η that the learner may be ahead of the oldest group that it gets, about.
      groups: that a step takes, about.
    """

    staleness: int = 4
    groups: int = 8

    def __call__(self, waiting: int, running: int) -> bool:
        """Whether one more may begin.

        Args:
          waiting: groups that are made.
          running: groups that are being made.
        """
        return waiting + running < self.most

    @property
    def most(self) -> int:
        """Groups that are made or wait at once."""
        return (self.staleness + 1) * self.groups


class Board:
    """Gives out tickets and keeps the accounts of a run. One at a time; it may be killed and started again.

    Args:
      run: folder of the run.
      order: tells what the ticket of a number is for.
      admission: how far ahead tickets are given out.
      ttl: seconds without a sign of life after which a ticket goes to somebody else.
      clock: tells the time; only differences count.
    """

    def __init__(
        self,
        run: Path,
        order: Callable[[int], Choice],
        admission: Admission = Admission(),
        ttl: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._path = Path(run) / "board" / "issued"
        self._order, self._admission, self._ttl, self._clock = order, admission, ttl, clock
        self._spool, self._ledger = Spool(Path(run) / "spool"), Ledger(Path(run) / "ledger.jsonl")
        self._issued = int(self._path.read_text()) if self._path.exists() else 0
        self.again = 0  # tickets that went to somebody else
        # Whoever held them may still be at work.
        self._open = {self._order(n).uid: _Open(n, "?", clock() + ttl, 1) for n in range(self._issued)}
        self._settle()

    def lease(self, worker: str, step: int | None = None) -> Ticket | None:
        """A ticket for a worker; None where there is nothing to do just now.

        Args:
          worker: who asks.
          step: of training that its weights come from; None gets a ticket whatever they are. With weights that are
            older than the run allows, what it makes would be thrown away.
        """
        waiting = self._settle()
        now = self._clock()
        if step is not None and self._ledger.last - step > self._admission.staleness:
            return None
        for uid, one in self._open.items():
            if not one.worker or one.until < now:
                self.again += one.attempts > 0
                return self._give(uid, one, worker)
        if not self._admission(len(waiting), len(self._open)):
            return None
        uid = self._order(self._issued).uid
        # Written first: a ticket that is out is always counted.
        write_whole(self._path, str(self._issued + 1))
        self._open[uid] = _Open(self._issued)
        self._issued += 1
        return self._give(uid, self._open[uid], worker)

    def renew(self, worker: str, uids: Iterable[str]) -> list[str]:
        """A sign of life; the uids that are not this worker's any more."""
        lost = []
        for uid in uids:
            one = self._open.get(uid)
            if one is None or one.worker not in (worker, "?"):
                lost.append(uid)
            else:
                one.worker, one.until = worker, self._clock() + self._ttl
        return lost

    def give_back(self, worker: str) -> None:
        """The tickets of a worker that does not go on with them."""
        for one in self._open.values():
            if one.worker == worker:
                one.worker = ""

    def accounts(self) -> Accounts:
        """Where everything is, counted now from what is on disk."""
        waiting = self._settle()
        rejected = [uid for entry in self._ledger.entries for uid in entry.rejected]
        consumed = [uid for entry in self._ledger.entries for uid in entry.consumed]
        places = Counter([*consumed, *rejected, *waiting, *self._open])
        twice = tuple(sorted(uid for uid, count in places.items() if count > 1))
        return Accounts(self._issued, len(consumed), dict(self._ledger.reasons), len(waiting), len(self._open), twice)

    def _give(self, uid: str, one: _Open, worker: str) -> Ticket:
        ticket = Ticket(one.number, self._order(one.number), one.attempts)
        one.worker, one.until, one.attempts = worker, self._clock() + self._ttl, one.attempts + 1
        return ticket

    def _settle(self) -> list[str]:
        """Takes note of what was sealed and taken; the groups that wait, as of one moment.

        What is taken and deleted between two looks into the spool the ledger tells; if not yet, we look again.
        """
        before = self._spool.sealed().keys()
        while True:
            self._ledger.refresh()
            sealed, taken = self._spool.sealed().keys(), self._ledger.taken
            if not before - sealed - taken:
                break
            before = sealed
        for uid in [uid for uid in self._open if uid in sealed or uid in taken]:
            del self._open[uid]
        return [uid for uid in sealed if uid not in taken]
