"""Places the roles of a run on Ray, and makes those again that die. Ray carries control; files carry all else."""

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import Any

import jax

from cwm_jax.cluster import cluster, joined
from cwm_jax.envs.env import Task, Transition
from cwm_jax.files import write_json
from cwm_jax.rl.board import Accounts, Board, Ticket
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.roles import Context, EnvironmentRole, LearnerRole, SamplerRole, pin

_AGAIN = 0.2  # seconds until somebody who is being started again is asked again
_PATIENCE = 120.0  # seconds that such a start may take
_LOOK = 1.0  # seconds between looks at what goes on
_THREADS = 64  # calls of environments at once


class _Worker:
    """What runs in a process of Ray: one role."""

    def __init__(self, role: str, rl: Rl, run: Path, folder: str, core: int | None):
        os.chdir(folder)
        if core is not None:
            os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
            pin(core)
        # Who is started again has compiled all this before.
        jax.config.update("jax_compilation_cache_dir", str(run / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
        self._rl, self._run, self._stop = rl, run, threading.Event()
        self._role = role

    def work(self, board: Any, pool: Any) -> None:
        """Runs the role to its end."""
        context = Context(self._run, _Board(board), self._stop.is_set, _Pool(pool) if pool is not None else None)
        kind, _, number = self._role.partition("-")
        role = LearnerRole(self._rl) if kind == "learner" else SamplerRole(self._rl, int(number))
        role.run(context)

    def stop(self) -> None:
        """Asks the role to come to its end."""
        self._stop.set()

    def pid(self) -> int:
        return os.getpid()


class _BoardWorker:
    """The board, in a process of its own."""

    def __init__(self, rl: Rl, run: Path, folder: str):
        os.chdir(folder)
        tasks = {name: [task.name for task in one.env.tasks()] for name, one in rl.playgrounds().items()}
        self._board = Board(run, rl.curriculum.order(tasks), rl.admission, rl.ttl)

    def call(self, method: str, *args: Any) -> Any:
        return getattr(self._board, method)(*args)

    def again(self) -> int:
        return self._board.again

    def pid(self) -> int:
        return os.getpid()


class _PoolWorker(EnvironmentRole):
    def __init__(self, rl: Rl, run: Path, folder: str):
        os.chdir(folder)
        super().__init__(rl, run)

    def pid(self) -> int:
        return os.getpid()


def _asked(call: Callable[[], Any], again: bool = True) -> Any:
    """What a remote call gives; where its process is being started again, it is asked once more."""
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return ray.get(call())
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:
            if not again or time.monotonic() > until:
                raise ConnectionError(f"its process died: {type(error).__name__}") from None
            time.sleep(_AGAIN)


class _Board:
    """The board from another process; while it is being started again, everybody waits for it."""

    def __init__(self, actor: Any):
        self._actor = actor

    def lease(self, worker: str, step: int | None = None) -> Ticket | None:
        return _asked(lambda: self._actor.call.remote("lease", worker, step))

    def renew(self, worker: str, uids: Sequence[str]) -> list[str]:
        return _asked(lambda: self._actor.call.remote("renew", worker, list(uids)))

    def give_back(self, worker: str) -> None:
        _asked(lambda: self._actor.call.remote("give_back", worker))

    def accounts(self) -> Accounts:
        return _asked(lambda: self._actor.call.remote("accounts"))


class _Pool:
    """The pool of environments from another process. An episode dies with it; a new one waits until it is there."""

    def __init__(self, actor: Any):
        self._actor = actor

    def start(self, env: str, held_out: bool, task: Task) -> tuple[int, Transition, int]:
        return _asked(lambda: self._actor.start.remote(env, held_out, task))

    def step(self, episode: int, action: Sequence[int]) -> tuple[Transition, int]:
        return _asked(lambda: self._actor.step.remote(episode, action), again=False)

    def close(self, episode: int) -> None:
        with contextlib.suppress(ConnectionError):
            _asked(lambda: self._actor.close.remote(episode), again=False)


def run_on_ray(rl: Rl, run: Path, address: str | None, told: Callable[[Accounts], None]) -> dict[str, Any]:
    """Runs to the learner's end, whoever dies meanwhile; interrupted, everybody comes to an end and loses nothing.

    Args:
      rl: the configuration.
      run: folder of the run, which all machines share.
      address: of a cluster; None for one of this machine.
      told: hears of the accounts now and then.

    Returns:
      `restarts` by role, `again`, tickets that went to somebody else, and the last `accounts`.
    """
    import ray
    from ray.exceptions import RayActorError

    run, folder = Path(run).absolute(), os.getcwd()
    cores = os.cpu_count() or 1
    pinned = address is None and cores > 1
    names = ["learner", *(f"sampler-{number}" for number in range(rl.samplers))]
    with joined(address), cluster(workers=len(names)):
        forever = {"max_restarts": -1, "max_task_retries": 0}
        board = ray.remote(_BoardWorker).options(num_cpus=0, **forever).remote(rl, run, folder)
        pool = ray.remote(_PoolWorker).options(num_cpus=0, max_concurrency=_THREADS, **forever).remote(rl, run, folder)
        worker = ray.remote(_Worker).options(num_cpus=1, max_concurrency=3, **forever)
        actors = {
            name: worker.remote(name, rl, run, folder, number if pinned else None) for number, name in enumerate(names)
        }
        restarts: Counter[str] = Counter()
        board_client = _Board(board)
        watched = {"board": board, "env": pool, **actors}
        pids: dict[str, int] = {}

        def look() -> None:
            for name, actor in watched.items():
                with contextlib.suppress(RayActorError, ray.exceptions.GetTimeoutError):
                    pid = ray.get(actor.pid.remote(), timeout=0.5)
                    restarts[name] += pids.get(name, pid) != pid
                    pids[name] = pid
            write_json(run / "board" / "roles.json", pids)

        begun = {actors[name].work.remote(board, None if name == "learner" else pool): name for name in names}
        running = {reference.future(): name for reference, name in begun.items()}
        look()
        try:
            while "learner" in running.values():
                ended, _ = wait(running, _LOOK, FIRST_COMPLETED)
                for future in ended:
                    name = running.pop(future)
                    if _died(future):
                        running[actors[name].work.remote(board, None if name == "learner" else pool).future()] = name
                look()
                accounts = board_client.accounts()
                told(accounts)
        finally:
            for actor in actors.values():
                actor.stop.remote()
            wait(running, _PATIENCE)
        for future in running:
            _died(future)
        return {"restarts": dict(restarts), "again": ray.get(board.again.remote()), "accounts": board_client.accounts()}


def _died(future: Any) -> bool:
    """Whether a role's process died; what the role itself raised is raised here."""
    from ray.exceptions import RayActorError, RayTaskError

    try:
        future.result()
    except RayActorError:
        return True
    except RayTaskError as error:
        raise error.cause from error
    return False
