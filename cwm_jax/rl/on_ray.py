"""Places the roles of a run on Ray, and makes those again that die. Ray carries control; files carry all else."""

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from cwm_jax.cluster import cluster, joined
from cwm_jax.files import write_json
from cwm_jax.rl.board import Accounts
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.ray_actors import PATIENCE, BoardWorker, PoolWorker, ProcessDied, Worker, asked, board_of_actor, outcome
from cwm_jax.rl.ray_places import places_of
from cwm_jax.rl.remote import patiently

_LOOK = 1.0  # seconds between looks at what goes on
_GRACE = 5.0  # seconds for the processes of a role to notice that one of them is gone
_MOMENT = 0.5  # seconds that somebody who is looked at may take to answer
_THREADS = 64  # calls of environments at once, in a pool


class _Cast:
    """The actors of a run, and what they do.

    Attributes:
      restarts: of each process.
      board: as everybody has it.
    """

    def __init__(self, rl: Rl, run: Path, address: str | None):
        import ray

        places, folder, cores = places_of(rl, address), os.getcwd(), os.cpu_count() or 1
        forever = {"max_restarts": -1, "max_task_retries": 0}

        def made(kind: type, where: dict[str, Any], *args: Any, **more: Any) -> Any:
            return ray.remote(kind).options(**forever, **where, **more).remote(*args)

        self._run, self.restarts, self._pids = run, Counter[str](), dict[str, int]()
        self._board = made(BoardWorker, places.board, rl, run, folder, num_cpus=0)
        self._pools = {
            name: made(PoolWorker, places.env, name, rl, run, folder, num_cpus=0, max_concurrency=_THREADS)
            for name in ("env", *(f"env-{number}" for number in range(1, places.pools)))
        }
        roles = {"learner": places.learner} | {f"sampler-{n}": where for n, where in enumerate(places.samplers)}
        core = itertools.count() if address is None and cores > 1 else itertools.repeat(None)
        # The processes of each role; they die and begin together.
        self._roles = {
            role: {
                f"{role}-{number}" if number else role: made(
                    Worker, one, role, rl, run, folder, next(core), num_cpus=1, max_concurrency=3
                )
                for number, one in enumerate(where)
            }
            for role, where in roles.items()
        }
        self._running: dict[Future, tuple[str, str]] = {}  # the role, and the process
        self.board = board_of_actor(self._board)
        for role in self._roles:
            self._begin(role)
        self.look()

    def _begin(self, role: str) -> None:
        """Has all processes of a role begin; of several, as one world of JAX."""
        processes, pools = self._roles[role], {} if role == "learner" else self._pools
        for number, (name, actor) in enumerate(processes.items()):
            working = actor.work.remote(self._board, pools, list(processes.values()), number)
            self._running[working.future()] = role, name

    @property
    def learning(self) -> bool:
        """Whether the run has not come to its end."""
        return any(role == "learner" for role, _ in self._running.values())

    def tend(self) -> None:
        """Waits a moment for somebody to end; who died begins again, with all processes of the role.

        Raises:
          What a role raised.
        """
        ended, _ = wait(self._running, _LOOK, FIRST_COMPLETED)
        for role in {self._running[future][0] for future in ended if future.exception()}:
            wait(self._of(role), _GRACE)  # who lost another process may fail before that one's death is told here
            broken = [future for future in self._of(role) if future.done() and future.exception()]
            if _died(min(broken, key=lambda future: not _is_death(future))):
                self._end(role)
                self._begin(role)
        for future in ended:
            self._running.pop(future, None)

    def _of(self, role: str) -> dict[Future, str]:
        """What runs of a role, and what has ended since the last look: its processes."""
        return {future: name for future, (one, name) in self._running.items() if one == role}

    def _end(self, role: str) -> None:
        """Ends what is left of a role that lost a process; all that was its is started again."""
        dead = {name for future, name in self._of(role).items() if _is_death(future)}
        for name, actor in self._roles[role].items():
            if name not in dead:
                with contextlib.suppress(ConnectionError, TimeoutError):  # it is away already, or has never come
                    self._pids[name] = _start_again(actor)
        for future in self._of(role):
            del self._running[future]

    def look(self) -> None:
        """Counts who died and was started again; `board/roles.json` tells their processes.

        Raises:
          RuntimeError: somebody cannot be started.
        """
        for name, actor in self._everybody().items():
            with contextlib.suppress(ConnectionError, TimeoutError):
                pid = asked(actor.pid.remote, _MOMENT)
                self.restarts[name] += self._pids.get(name, pid) != pid
                self._pids[name] = pid
        write_json(self._run / "board" / "roles.json", self._pids)

    def _everybody(self) -> dict[str, Any]:
        processes = {name: actor for found in self._roles.values() for name, actor in found.items()}
        return {"board": self._board, **self._pools, **processes}

    def conclude(self) -> None:
        """Asks everybody to come to an end; whoever measures the last weights begins again where it dies before."""
        self._stop()
        while any(role == "sampler-0" for role, _ in self._running.values()):
            self.tend()
            self.look()
            self._stop()

    def end(self) -> None:
        """Asks everybody to come to an end, and waits for it."""
        self._stop()
        wait(self._running, PATIENCE)

    def _stop(self) -> None:
        for processes in self._roles.values():
            for actor in processes.values():
                actor.stop.remote()

    def came_to(self) -> dict[str, Any]:
        """What `run_on_ray` returns."""
        again = patiently(lambda: asked(self._board.again.remote), PATIENCE)
        return {"restarts": dict(self.restarts), "again": again, "accounts": self.board.accounts()}


def run_on_ray(rl: Rl, run: Path, address: str | None, told: Callable[[Accounts], None]) -> dict[str, Any]:
    """Runs to the learner's end, whoever dies meanwhile; interrupted, everybody comes to an end and loses nothing.

    Args:
      rl: the configuration.
      run: folder of the run, which all machines share.
      address: of a cluster; None for one of this machine.
      told: hears of the accounts now and then.

    Returns:
      `restarts` by role, `again`, tickets that went to somebody else, and the last `accounts`.

    Raises:
      ValueError: the cluster has no machine for the learner.
      RuntimeError: a process cannot be started; else whatever a role raised.
    """
    with joined(address), cluster(workers=1 + rl.samplers):
        cast = _Cast(rl, Path(run).absolute(), address)
        try:
            while cast.learning:
                cast.tend()
                cast.look()
                told(cast.board.accounts())
            cast.conclude()
        finally:
            cast.end()
        return cast.came_to()


def _start_again(actor: Any) -> int:
    """Kills a process; the id of the one after it.

    Raises:
      ConnectionError, TimeoutError: it is away already, or does not answer.
    """
    import ray

    before = asked(actor.pid.remote, _MOMENT)
    ray.kill(actor, no_restart=False)

    def another() -> int:
        try:
            if (now := asked(actor.pid.remote, _MOMENT)) != before:
                return now
        except TimeoutError:
            pass
        raise ConnectionError("the next one is not there yet")

    return patiently(another, PATIENCE)


def _is_death(future: Future) -> bool:
    """Whether a process is known to have died in it."""
    from ray.exceptions import RayActorError

    return future.done() and isinstance(future.exception(), RayActorError)


def _died(future: Future) -> bool:
    """Whether a role's process died; what the role itself raised is raised here."""
    try:
        outcome(future.result)
    except ProcessDied:
        return True
    return False
