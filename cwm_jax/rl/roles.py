"""The roles of a run as plain classes with `run(context)`; whoever places them on processes gives the context.

Each builds what it needs from the configuration and the folder of the run, so a role that died is made again from
these alone.
"""

import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from cwm_jax.envs.env import Env, Task, Transition
from cwm_jax.inference.engine import Engine
from cwm_jax.inference.lockstep import LeaderEngine, follow
from cwm_jax.model.transformer import rebuilder
from cwm_jax.rl.board import Accounts, Board, Ticket
from cwm_jax.rl.examiner import Examiner
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.figures import Figures
from cwm_jax.rl.journal import Journal
from cwm_jax.rl.learner import Learner
from cwm_jax.rl.ledger import Ledger
from cwm_jax.rl.loading import Loading
from cwm_jax.rl.policy import PolicyReader
from cwm_jax.rl.sampler import Playground, Sampler
from cwm_jax.rl.spool import Spool
from cwm_jax.rl.time_ledger import TimeLedger
from cwm_jax.training.processes import as_first, is_first

_REST = 0.02  # seconds between looks of who has nothing to do


class Tickets(Protocol):
    """The board, as others see it."""

    def lease(self, worker: str, step: int | None = None) -> Ticket | None: ...
    def renew(self, worker: str, uids: Sequence[str]) -> list[str]: ...
    def give_back(self, worker: str) -> None: ...
    def accounts(self) -> Accounts: ...


@dataclass(frozen=True)
class Context:
    """What a role is given by whoever runs it.

    Attributes:
      run: folder of the run.
      board: gives out tickets.
      stop: whether the role should come to its end; it says goodbye and returns.
      pool: runs environments elsewhere; None where they run in the sampler's own process.
    """

    run: Path
    board: Tickets
    stop: Callable[[], bool]
    pool: "Pool | None" = None


class LearnerRole:
    """The learner, or one of its processes; returns when the run is at its end."""

    def __init__(self, rl: Rl):
        self._rl = rl

    def run(self, context: Context) -> None:
        rl = self._rl
        figures = Figures(context.run, "learner") if is_first() else None
        vocab_size = rl.vocab_size(rl.playgrounds())
        with jax.set_mesh(rl.training.mesh_shape.build()):
            with Learner(rl.training, rl.learning, context.run, vocab_size, rl.admission.most) as learner:
                while not learner.done and not any(as_first(context.stop())):  # all processes end at the same step
                    if (told := learner.tick()) is None:
                        with learner.hours.spent("wait_batch"):
                            time.sleep(_REST)
                    if figures and (told or figures.due):
                        self._tell(figures, learner, told or {})
                with learner.hours.spent("publish_block"):
                    learner.publisher.wait()
            if figures:
                self._tell(figures, learner, {})

    def _tell(self, figures: Figures, learner: Learner, told: dict[str, Any]) -> None:
        figures.tell({**told, "hours": learner.hours.told(), "epoch": learner.publisher.epoch})


class SamplerRole:
    """An inference host. The first of them also measures versions on held-out tasks.

    Args:
      rl: the configuration.
      number: of the host, from 0.
    """

    def __init__(self, rl: Rl, number: int):
        self._rl, self._number, self._name = rl, number, f"sampler-{number}"

    def run(self, context: Context) -> None:
        mesh = self._rl.sampler_mesh()
        with jax.set_mesh(mesh) if mesh else nullcontext():
            if is_first():
                self._sample(context)
            else:
                for _ in follow(*self._engine(context, self._rl.vocab_size(self._rl.playgrounds()))):
                    pass

    def _sample(self, context: Context) -> None:
        figures = Figures(context.run, self._name)
        sampler, examiner = self.host(context)
        try:
            while not context.stop():
                self._tick(sampler, figures)
            self.end(sampler, examiner, lambda: self._tick(sampler, figures, leasing=False))
        finally:
            if isinstance(sampler.engine, LeaderEngine):
                sampler.engine.leave()
        figures.tell(self._told(sampler))

    def host(self, context: Context, live: bool = True) -> tuple[Sampler, Examiner | None]:
        """The sampler, and who measures on it, on the first host. Its mesh must be in force.

        Args:
          context: of the role.
          live: whether programs are compiled before the first request, and weights loaded while tokens are drawn; else
            a run is the same every time.
        """
        rl = self._rl
        playgrounds = self._playgrounds(context, held_out=False)
        vocab_size = rl.vocab_size(playgrounds)
        engine, loading = self._engine(context, vocab_size, live)
        examiner = None
        if self._number == 0:
            examiner = Examiner(
                context.run, self._playgrounds(context, held_out=True), rl.examining, rl.drawing, vocab_size
            )
        sampler = Sampler(
            self._name, engine, loading, context.board, Spool(context.run / "spool"), playgrounds, rl.drawing,
            rl.sampling, vocab_size, live, examiner=examiner,
            journal=self._journal(context) if rl.sampling.journal else None,
        )  # fmt: skip
        return sampler, examiner

    def _journal(self, context: Context) -> Journal:
        journal = Journal(context.run / "journal")
        journal.sweep(Spool(context.run / "spool").sealed().keys() | Ledger(context.run / "ledger.jsonl").taken)
        return journal

    def _engine(self, context: Context, vocab_size: int, live: bool = True) -> tuple[Engine | LeaderEngine, Loading]:
        """The engine of this process, and what brings it weights. Every process of the host calls this."""
        rl = self._rl
        shapes = rl.shapes(vocab_size, rl.sampler_mesh())
        # Anything of the right shapes: nothing is drawn before the first published weights are there.
        nothing = jax.jit(
            lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes),
            out_shardings=jax.tree.map(lambda leaf: leaf.sharding, shapes),
        )
        engine = Engine(rebuilder(rl.start.model, vocab_size), nothing(), rl.engine, rules=rl.rules)
        for _ in engine.compile(scored=False) if live else ():
            pass
        reader = PolicyReader(context.run, self._name)
        if jax.process_count() == 1 or not is_first():
            return engine, Loading(engine, reader, shapes, live)
        leading = LeaderEngine(engine)
        return leading, Loading(engine, reader, shapes, live, leading.tell)

    def end(self, sampler: Sampler, examiner: Examiner | None, tick: Callable[[], None]) -> None:
        """Gives up the groups; measures the learner's last weights first, if it came to its end.

        Args:
          sampler, examiner: what `host` gave.
          tick: has the sampler do what is to be done next, and begin no group.
        """
        sampler.wind_up()
        if examiner is not None:
            examiner.until = self._rl.steps
            ended = sampler.newest_step() >= self._rl.steps
            while ended and not examiner.done:
                tick()
        sampler.leave()

    def _tick(self, sampler: Sampler, figures: Figures, leasing: bool = True) -> None:
        if not sampler.tick(leasing=leasing):
            with sampler.hours.spent("wait_request"):
                time.sleep(_REST)
        if figures.due:
            figures.tell(self._told(sampler))

    def _told(self, sampler: Sampler) -> dict[str, Any]:
        """A line of figures: sums since the role began, and the weights that it took since the last line."""
        counts = sampler.engine.counts
        weights, sampler.loading.taken = sampler.loading.taken, []
        return {
            "hours": sampler.hours.told(),
            "version": sampler.engine.version,
            "made": counts.made,
            "read": counts.read,
            "reread": counts.reread,
            "swaps": counts.swaps,
            "duplicates": sampler.duplicates,
            "replayed": sampler.replayed,
            "lease_retries": sampler.loading.retries,
            "weights": weights,
        }

    def _playgrounds(self, context: Context, held_out: bool) -> dict[str, Playground]:
        found = self._rl.playgrounds(held_out)
        if context.pool is None:
            return found
        return {
            name: one if one.env.instant else one._replace(env=PooledEnv(one.env, context.pool, held_out))
            for name, one in found.items()
        }


class Pool(Protocol):
    """Environments that run elsewhere."""

    def start(self, env: str, held_out: bool, task: Task) -> tuple[Any, Transition, int]:
        """Begins an episode: what it is known by, the prompt, and tokens that the first action may have."""

    def step(self, episode: Any, action: Sequence[int]) -> tuple[Transition, int]:
        """Takes an action; and tokens that the next one may have. One that ends is closed."""

    def close(self, episode: Any) -> None:
        """Ends an episode."""


class EnvironmentRole:
    """A pool of environments, each episode in one of its threads.

    Args:
      rl: the configuration.
      run: its folder.
      name: of the pool, in figures.
    """

    def __init__(self, rl: Rl, run: Path, name: str = "env"):
        self._envs = {held_out: rl.playgrounds(held_out) for held_out in (False, True)}
        self._episodes: dict[int, tuple[Env, Any, str]] = {}
        self._lives: dict[str, str] = {}  # of hosts; episodes are known by them
        self._ended: set[str] = set()
        self._numbers = count(secrets.randbits(48))  # not those of a pool that was here before
        self._figures = Figures(run, name)
        self._hours = TimeLedger("boot", "exec", "close", "idle")
        self._busy = Counter[str]()
        self._since = time.monotonic()
        self._lock = threading.Lock()

    def start(self, env: str, held_out: bool, task: Task, host: str, life: str) -> tuple[int, Transition, int]:
        """As `Pool.start`, for a host; one that comes with a new `life` was started again, and what it left ends."""
        self._meet(host, life)
        one = self._envs[held_out][env].env
        with self._spent("boot"):
            state, said = one.start(task)
        number = next(self._numbers)
        self._episodes[number] = one, state, life
        if self._lives[host] != life:  # it died meanwhile
            self.close(number)
            raise LookupError(f"{host} was started again")
        return number, said, 0 if said.over else one.max_action(state)

    def _meet(self, host: str, life: str) -> None:
        """Ends what an earlier life of a host left.

        Raises:
          LookupError: this is an earlier one itself.
        """
        with self._lock:
            if life in self._ended:
                raise LookupError(f"{host} was started again")
            before, self._lives[host] = self._lives.get(host, life), life
            if before == life:
                return
            self._ended.add(before)
        for number, (_, _, other) in list(self._episodes.items()):
            if other == before:
                with suppress(Exception):  # of another's episode
                    self.close(number)

    def step(self, episode: int, action: Sequence[int]) -> tuple[Transition, int]:
        if episode not in self._episodes:
            raise LookupError("the environment was lost")
        env, state, _ = self._episodes[episode]
        with self._spent("exec"):
            said = env.step(state, action)
        if said.over:
            self.close(episode)
        return said, 0 if said.over else env.max_action(state)

    def close(self, episode: int) -> None:
        if (found := self._episodes.pop(episode, None)) is not None:
            env, state, _ = found
            with self._spent("close"):
                env.close(state)

    @contextmanager
    def _spent(self, part: str) -> Iterator[None]:
        self._turn(part, 1)
        try:
            yield
        finally:
            self._turn(part, -1)

    def _turn(self, part: str, change: int) -> None:
        """Calls overlap: the time since the last change is shared by what was under way."""
        with self._lock:
            now, under_way = time.monotonic(), self._busy.total()
            if under_way == 0:
                self._hours.add("idle", now - self._since)
            else:
                for name, calls in self._busy.items():
                    self._hours.add(name, (now - self._since) * calls / under_way)
            self._since = now
            self._busy[part] += change
            if self._figures.due:
                self._figures.tell({"hours": self._hours.told(), "episodes": len(self._episodes)})


@dataclass
class _Handle:
    """An episode elsewhere: what it is known by, the room of its next action, and whether it has ended."""

    number: Any
    room: int
    over: bool = False


class PooledEnv:
    """An environment whose episodes run in a pool.

    Args:
      env: the same, opened here: it tells the tasks.
      pool: runs its episodes.
      held_out: which tasks they are of.
    """

    def __init__(self, env: Env, pool: Pool, held_out: bool):
        self.name, self.stop_ids, self.vocab_size = env.name, env.stop_ids, env.vocab_size
        self._env, self._pool, self._held_out = env, pool, held_out

    def tasks(self) -> Sequence[Task]:
        return self._env.tasks()

    def start(self, task: Task) -> tuple[_Handle, Transition]:
        number, said, room = self._pool.start(self.name, self._held_out, task)
        return _Handle(number, room), said

    def step(self, state: _Handle, action: Sequence[int]) -> Transition:
        said, state.room = self._pool.step(state.number, list(action))
        state.over = said.over
        return said

    def max_action(self, state: _Handle) -> int:
        return state.room

    def close(self, state: _Handle) -> None:
        if not state.over:  # else the pool has closed it
            self._pool.close(state.number)


def board_of(rl: Rl, run: Path) -> Board:
    """The board of a run."""
    tasks = {name: [task.name for task in one.env.tasks()] for name, one in rl.playgrounds().items()}
    return Board(run, rl.curriculum.order(tasks), rl.admission, rl.ttl)


def compile_once(run: Path) -> None:
    """Keeps what this process compiles in the run's folder, where who is started again finds it."""
    jax.config.update("jax_compilation_cache_dir", str(run / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def pin(core: int) -> None:
    """Keeps this process, and what XLA starts in it, to one core where there are several; before JAX starts."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core % len(cores)]})
