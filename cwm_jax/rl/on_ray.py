"""Places the roles of a run on Ray, and makes those again that die. Ray carries control; files carry all else.

On a cluster each role goes where a machine was started for it (tpu_scripts/worker/ray.sh), by Ray's resources:

- `learner`: one of its processes on each; a machine has as many of this resource as the learner has processes.
- `sampler`: one on each.
- `environments`: pools of environments, as many as samplers, spread over them.
- The board is with Ray's own head, whose loss ends the run as well.
"""

import contextlib
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, NamedTuple

from cwm_jax.cluster import cluster, joined
from cwm_jax.files import write_json
from cwm_jax.rl.board import Accounts
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.remote import RemoteBoard, RemotePools, patiently
from cwm_jax.rl.roles import Context, EnvironmentRole, LearnerRole, SamplerRole, board_of, compile_once, pin
from cwm_jax.training.processes import join_processes

_PATIENCE = 120.0  # seconds that somebody who died may take to be there again
_LOOK = 1.0  # seconds between looks at what goes on
_GRACE = 5.0  # seconds for the processes of a learner to notice that one of them is gone
_THREADS = 64  # calls of environments at once, in a pool
_LITTLE = 0.001  # of a resource, by what takes no machine for itself


class _Worker:
    """What runs in a process of Ray: one role."""

    def __init__(self, role: str, rl: Rl, run: Path, folder: str, core: int | None):
        os.chdir(folder)
        if core is not None:
            os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
            pin(core)
        compile_once(run)
        self._rl, self._run, self._stop = rl, run, threading.Event()
        self._role = role

    def work(self, board: Any, pools: dict[str, Any], world: tuple[str, int, int] | None) -> None:
        """Runs the role to its end.

        Args:
          board, pools: actors.
          world: of a learner of several processes the address of the first, how many there are, and which this is.
        """
        context = Context(self._run, _board(board), self._stop.is_set, _pools(pools))
        kind, _, number = self._role.partition("-")
        learner = kind == "learner"
        join_processes((self._rl.training.mesh_shape if learner else self._rl.inference_mesh_shape).devices, world)
        role = LearnerRole(self._rl) if learner else SamplerRole(self._rl, int(number))
        role.run(context)

    def stop(self) -> None:
        """Asks the role to come to its end."""
        self._stop.set()

    def address(self) -> str:
        """Where others of a learner may find its first process."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def pid(self) -> int:
        return os.getpid()


class _BoardWorker:
    """The board, in a process of its own."""

    def __init__(self, rl: Rl, run: Path, folder: str):
        os.chdir(folder)
        self._board = board_of(rl, run)

    def call(self, method: str, *args: Any) -> Any:
        return getattr(self._board, method)(*args)

    def again(self) -> int:
        return self._board.again

    def pid(self) -> int:
        return os.getpid()


class _PoolWorker(EnvironmentRole):
    def __init__(self, name: str, rl: Rl, run: Path, folder: str):
        os.chdir(folder)
        super().__init__(rl, run, name)

    def pid(self) -> int:
        return os.getpid()


def _asked(call: Callable[[], Any]) -> Any:
    """What a remote call gives; ConnectionError where its process died, or is being started again."""
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    try:
        return ray.get(call())
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError as error:
        raise ConnectionError(f"its process died: {type(error).__name__}") from None


def _board(actor: Any) -> RemoteBoard:
    return RemoteBoard(lambda *call: _asked(lambda: actor.call.remote(*call)), _PATIENCE)


def _pools(actors: dict[str, Any]) -> RemotePools:
    def call(pool: str, method: str, *args: Any) -> Any:
        return _asked(lambda: getattr(actors[pool], method).remote(*args))

    return RemotePools(lambda: list(actors), call, _PATIENCE)


class _Places(NamedTuple):
    """Options of the actors of each role: what of a machine they ask for.

    Attributes:
      processes: of the learner.
      pools: of environments.
    """

    processes: int
    pools: int
    learner: dict[str, Any]
    sampler: dict[str, Any]
    env: dict[str, Any]
    board: dict[str, Any]


def _places(rl: Rl, address: str | None) -> _Places:
    """Where roles go; on this machine alone they ask for nothing.

    Raises:
      ValueError: no machine of the cluster was started for the learner.
    """
    import ray

    if address is None:
        return _Places(1, 1, {}, {}, {}, {})
    found = [int(node["Resources"].get("learner", 0)) for node in ray.nodes() if node["Alive"]]
    if not any(found):
        raise ValueError(
            f"--address {address}: no machine there has the resource 'learner'; start Ray on the learner's with "
            """--resources='{"learner": 1}', on the others with "sampler" or "environments\""""
        )
    learner, head = {"resources": {"learner": max(found)}}, {"node:__internal_head__": _LITTLE}
    env = {"resources": {"environments": _LITTLE}, "scheduling_strategy": "SPREAD"}
    return _Places(max(found), rl.samplers, learner, {"resources": {"sampler": 1}}, env, {"resources": head})


class _Cast:
    """The actors of a run, and what they do.

    Attributes:
      restarts: of each role.
      board: as everybody has it.
    """

    def __init__(self, rl: Rl, run: Path, address: str | None):
        import ray

        places, folder, cores = _places(rl, address), os.getcwd(), os.cpu_count() or 1
        forever = {"max_restarts": -1, "max_task_retries": 0}

        def made(kind: type, where: dict[str, Any], *args: Any, **more: Any) -> Any:
            return ray.remote(kind).options(**forever, **where, **more).remote(*args)

        self._run, self.restarts, self._pids = run, Counter[str](), dict[str, int]()
        self._board = made(_BoardWorker, places.board, rl, run, folder, num_cpus=0)
        self._pools = {
            name: made(_PoolWorker, places.env, name, rl, run, folder, num_cpus=0, max_concurrency=_THREADS)
            for name in ("env", *(f"env-{number}" for number in range(1, places.pools)))
        }
        self._learners = ["learner", *(f"learner-{number}" for number in range(1, places.processes))]
        names = [*self._learners, *(f"sampler-{number}" for number in range(rl.samplers))]
        pinned = address is None and cores > 1
        self._actors = {
            name: made(
                _Worker, places.learner if name in self._learners else places.sampler, name, rl, run, folder,
                number if pinned else None, num_cpus=1, max_concurrency=3,
            )
            for number, name in enumerate(names)
        }  # fmt: skip
        self._running: dict[Future, str] = {}
        self.board = _board(self._board)
        self._learn()
        for name in names[len(self._learners) :]:
            self._work(name)
        self.look()

    def _learn(self) -> None:
        """Has all processes of the learner begin, as one world of JAX."""
        first = self._actors["learner"]
        address = patiently(lambda: _asked(first.address.remote), _PATIENCE) if len(self._learners) > 1 else ""
        for number, name in enumerate(self._learners):
            self._work(name, (address, len(self._learners), number) if address else None)

    def _work(self, name: str, world: tuple[str, int, int] | None = None) -> None:
        pools = {} if name in self._learners else self._pools
        self._running[self._actors[name].work.remote(self._board, pools, world).future()] = name

    @property
    def learning(self) -> bool:
        """Whether the run has not come to its end."""
        return any(name in self._learners for name in self._running.values())

    def tend(self) -> None:
        """Waits a moment for somebody to end; who died begins again, of the learner all processes.

        Raises:
          What a role raised.
        """
        ended, _ = wait(self._running, _LOOK, FIRST_COMPLETED)
        found = {future: self._running.pop(future) for future in ended}
        broken = [one for one, name in found.items() if name in self._learners and one.exception()]
        if broken:
            # Who lost another process may fail before that one's death is told here.
            broken = sorted(broken + self._end_learners(), key=_died_first)
            if _died(broken[0]):
                self._learn()
        for future, name in found.items():
            if name not in self._learners and _died(future):
                self._work(name)

    def _end_learners(self) -> list[Future]:
        """Ends what is left of a learner that lost a process; those that end by themselves meanwhile."""
        import ray

        rest = {future: name for future, name in self._running.items() if name in self._learners}
        ended, waiting = wait(rest, _GRACE)
        for future in waiting:
            ray.kill(self._actors[rest[future]], no_restart=False)
        wait(waiting, _PATIENCE)
        for future in rest:
            del self._running[future]
        return [future for future in ended if future.exception()]

    def look(self) -> None:
        """Counts who was started again; `board/roles.json` tells their processes."""
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        for name, actor in {"board": self._board, **self._pools, **self._actors}.items():
            with contextlib.suppress(RayActorError, GetTimeoutError):
                pid = ray.get(actor.pid.remote(), timeout=0.5)
                self.restarts[name] += self._pids.get(name, pid) != pid
                self._pids[name] = pid
        write_json(self._run / "board" / "roles.json", self._pids)

    def end(self) -> None:
        """Asks everybody to come to an end, and waits for it."""
        for actor in self._actors.values():
            actor.stop.remote()
        wait(self._running, _PATIENCE)

    def came_to(self) -> dict[str, Any]:
        """What `run_on_ray` returns; raises what a role raised."""
        for future in self._running:
            _died(future)
        again = patiently(lambda: _asked(self._board.again.remote), _PATIENCE)
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
    """
    with joined(address), cluster(workers=1 + rl.samplers):
        cast = _Cast(rl, Path(run).absolute(), address)
        try:
            while cast.learning:
                cast.tend()
                cast.look()
                told(cast.board.accounts())
        finally:
            cast.end()
        return cast.came_to()


def _died_first(future: Future) -> bool:
    from ray.exceptions import RayActorError

    return not isinstance(future.exception(), RayActorError)


def _died(future: Future) -> bool:
    """Whether a role's process died; what the role itself raised is raised here."""
    from ray.exceptions import RayActorError, RayTaskError

    try:
        future.result()
    except RayActorError:
        return True
    except RayTaskError as error:
        raise error.cause from error
    return False
