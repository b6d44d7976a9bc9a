"""The sampler: an inference host that makes groups, and takes new weights in the middle of them."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from cwm_jax.envs.env import Env, Reward
from cwm_jax.inference.engine import Engine
from cwm_jax.inference.lockstep import LeaderEngine
from cwm_jax.rl.board import Board, Ticket
from cwm_jax.rl.driver import Driver
from cwm_jax.rl.examiner import Examiner
from cwm_jax.rl.journal import Journal
from cwm_jax.rl.loading import Loading
from cwm_jax.rl.rollout import Drawing, rollout
from cwm_jax.rl.spool import Spool
from cwm_jax.rl.time_ledger import TimeLedger
from cwm_jax.rl.trajectory import Group, Trajectory

_SEALING = 2  # groups that are sealed at once; each waits for the disk thrice


@dataclass(frozen=True)
class Sampling:
    """How a host samples.

    Attributes:
      members: of a group (8 in the systems next to CWM's; its own number is not known).
      groups: made at once.
      threads: calls of environments at once; 0 makes a run the same every time.
      act_seconds: that such a call may take.
      poll: seconds between looks for new weights.
      ask: seconds after which a board that had no ticket is asked again.
      renew: seconds between signs of life.
      weight_sets: that a host has memory for, at least 2: what it draws with, and what comes in meanwhile. A third is
        there where weights come in while older ones are still measured, or have pinned episodes; with 2, new ones wait
        for these, and where this is the only host the learner may wait for it.
      journal: whether actions are kept on disk until their group is sealed, so that whoever goes on with a group of a
        host that died draws only what that had not drawn: for long episodes whose environments can be played again.
    """

    members: int = 8
    groups: int = 8
    threads: int = 32
    act_seconds: float = 600.0
    poll: float = 1.0
    ask: float = 0.05
    renew: float = 10.0
    weight_sets: int = 3
    journal: bool = False

    def __post_init__(self) -> None:
        if self.weight_sets < 2:
            raise ValueError(
                f"Sampling.weight_sets={self.weight_sets} leaves no room for weights that come in; let it be 2 or more"
            )


@dataclass
class _Making:
    """A group under way."""

    ticket: Ticket
    found: dict[int, Trajectory] = field(default_factory=dict)


class Playground(NamedTuple):
    """An environment, and what its outcomes are worth."""

    env: Env
    reward: Reward


class Sampler:
    """One host. `tick` does what is to be done next; whoever runs it calls that again and again.

    Args:
      name: of the host.
      engine: with weights of any version below the first that is published.
      loading: brings it new ones.
      board: gives out tickets.
      spool: where groups go.
      playgrounds: environments by name, each with its reward.
      drawing, sampling: how episodes are made.
      vocab_size: ids are below it.
      in_background: whether groups are sealed while tokens are drawn; else a run is the same every time.
      clock: tells seconds.
      examiner: measures versions on this host; None measures none.
      journal: keeps what is drawn until its group is sealed; None keeps nothing.

    Attributes:
      engine: that draws.
      hours: where its time goes.
      duplicates: groups that somebody else had sealed.
    """

    def __init__(
        self,
        name: str,
        engine: Engine | LeaderEngine,
        loading: Loading,
        board: Board,
        spool: Spool,
        playgrounds: Mapping[str, Playground],
        drawing: Drawing,
        sampling: Sampling,
        vocab_size: int,
        in_background: bool = True,
        clock: Callable[[], float] = time.monotonic,
        examiner: Examiner | None = None,
        journal: Journal | None = None,
    ):
        self.name, self.engine, self.loading = name, engine, loading
        self._reader, self._board, self._spool = loading.reader, board, spool
        self._playgrounds, self._drawing, self._sampling = dict(playgrounds), drawing, sampling
        self._vocab_size, self._clock = vocab_size, clock
        self._tasks = {name: {task.name: task for task in one.env.tasks()} for name, one in playgrounds.items()}
        self._driver = Driver(engine, sampling.threads, sampling.act_seconds)
        self._making: dict[str, _Making] = {}
        self._sealing = ThreadPoolExecutor(_SEALING, thread_name_prefix="seal") if in_background else None
        self._sealed: list[Future[bool]] = []
        self._step = 0  # of training that the weights come from
        self._looked = self._renewed = self._ask = -float("inf")
        self._examiner, self._journal = examiner, journal
        self.duplicates = 0
        self.hours = TimeLedger("decode", "prefill", "reprefill", "swap_pause", "wait_request", "wait_env")

    def tick(self, patience: float = 0.05, leasing: bool = True) -> bool:
        """Takes weights that came, begins groups, draws a step; whether anything was done.

        Args:
          patience: seconds to wait where only environments work.
          leasing: whether groups are begun.
        """
        now = self._clock()
        self._take_weights(now)
        self._note_sealed()
        if now - self._renewed >= self._sampling.renew:
            self._renewed = now
            self._reader.renew()
            self._drop(self._board.renew(self.name, list(self._making)))
        if self._reader.using is None:
            return False
        began = self._begin(now) if leasing else 0
        if self._examiner is not None:
            for key, one in self._examiner.begin(self.engine.version, self._step):
                self._driver.add(key, one, now)
            self.engine.hold(self._examiner.versions)
        done = self._turn(now, patience)
        for key, trajectory in done:
            if self._examiner is None or not self._examiner.take(key, trajectory):
                self._finish(*key, trajectory)
        return bool(began or done or self._driver.count)

    def _turn(self, now: float, patience: float) -> list[tuple[Any, Trajectory]]:
        """One turn of the driver, its time told by what it went into."""
        counts, drawing = self.engine.counts, self.engine.busy
        before, began = replace(counts), time.perf_counter()
        done = self._driver.turn(now, patience)
        reading = counts.seconds_reading - before.seconds_reading
        again = reading * (counts.reread - before.reread) / max(counts.read - before.read, 1)
        making = counts.seconds_making - before.seconds_making
        self.hours.add("decode", making)
        self.hours.add("prefill", reading - again)
        self.hours.add("reprefill", again)
        if not drawing and self._driver.count:
            self.hours.add("wait_env", time.perf_counter() - began - reading - making)
        return done

    @property
    def replayed(self) -> int:
        """Tokens that a life before had drawn."""
        return self._journal.replayed if self._journal is not None else 0

    def newest_step(self) -> int:
        """The step of training of the newest weights that are announced; 0 where none are."""
        newest = self._reader.newest()
        return newest.step if newest is not None else 0

    def wind_up(self) -> None:
        """Gives up its groups, so that others go on with them; what is being measured goes on."""
        self._driver.drop(lambda key: key[0] in self._making)
        self._making.clear()
        self._note_sealed(wait=True)
        self._board.give_back(self.name)

    def leave(self) -> None:
        """Gives everything up, so that others go on with it at once."""
        for _ in self._driver.close():
            pass
        self._note_sealed(wait=True)
        if self._sealing is not None:
            self._sealing.shutdown()
        self._board.give_back(self.name)
        self._reader.leave()

    def _take_weights(self, now: float) -> None:
        """Looks for weights, loads what is new, and has the engine go on with it between two steps."""
        room = self.engine.weight_sets < self._sampling.weight_sets
        if room and self.loading.publication is None and now - self._looked >= self._sampling.poll:
            self._looked = now
            newest = self._reader.newest()
            if newest is not None and newest.version > (self._reader.using or 0):
                self.loading.begin(newest)
        if self.loading.ready:
            with self.hours.spent("swap_pause"):
                if (taken := self.loading.finish()) is not None:
                    self._step = taken.step

    def _begin(self, now: float) -> int:
        """Begins groups while there is room and something to do; how many."""
        began = 0
        while len(self._making) < self._sampling.groups and now >= self._ask:
            if (ticket := self._board.lease(self.name, self._step)) is None:
                self._ask = now + self._sampling.ask
                break
            self._making[ticket.uid] = _Making(ticket)
            for member in range(self._sampling.members):
                self._driver.add((ticket.uid, member), self._rollout(ticket, member), now)
            began += 1
        return began

    def _rollout(self, ticket: Ticket, member: int):
        name = f"{ticket.uid} {member} {ticket.attempt}"
        turns = self._drawing.max_turns  # a seed for each turn of each member, whoever makes the group
        seed = (int(ticket.uid[:12], 16) * self._sampling.members + member) * turns
        choice = ticket.choice
        env, reward = self._playgrounds[choice.env]
        task = self._tasks[choice.env][choice.task]
        task = task._replace(args={**task.args, **choice.options})
        kept = self._journal and self._journal.episode(ticket.uid, member, ticket.attempt > 0)
        return rollout(
            env, task, reward, self._drawing, name=name, member=member, seed=seed, number=ticket.number,
            version=lambda: self.engine.version, vocab_size=self._vocab_size, journal=kept, clock=self._clock,
        )  # fmt: skip

    def _finish(self, uid: str, member: int, trajectory: Trajectory) -> None:
        """A member is done; the last one seals its group."""
        making = self._making.get(uid)
        if making is None:
            return  # it was lost to somebody else
        making.found[member] = trajectory
        if len(making.found) == self._sampling.members:
            del self._making[uid]
            members = tuple(making.found[number] for number in sorted(making.found))
            ticket = making.ticket
            task = f"{ticket.choice.env}/{ticket.choice.task}"
            group = Group(uid, task, members, self.name, ticket.attempt)
            if self._sealing is None:
                self.duplicates += not self._seal(group)
            else:
                self._sealed.append(self._sealing.submit(self._seal, group))

    def _seal(self, group: Group) -> bool:
        """Stores a group; False where somebody else had."""
        new = self._spool.seal(group)
        if self._journal is not None:
            self._journal.forget(group.uid)
        return new

    def _note_sealed(self, wait: bool = False) -> None:
        """Counts what was sealed meanwhile; raises what went wrong."""
        while self._sealed and (wait or self._sealed[0].done()):
            self.duplicates += not self._sealed.pop(0).result()

    def _drop(self, uids: list[str]) -> None:
        """Gives up groups that others make now."""
        self._driver.drop(lambda key: key[0] in uids)
        for uid in uids:
            self._making.pop(uid, None)
