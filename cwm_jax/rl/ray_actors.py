"""What runs in the processes of Ray: the roles of a run, and how others call them."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.remote import RemoteBoard, RemotePools, patiently
from cwm_jax.rl.roles import Context, EnvironmentRole, LearnerRole, SamplerRole, board_of, compile_once, pin
from cwm_jax.training.processes import join_processes

PATIENCE = 120.0  # seconds that somebody who died may take to be there again


class Worker:
    """What runs in a process of Ray: a role, or one of its processes."""

    def __init__(self, role: str, rl: Rl, run: Path, folder: str, core: int | None):
        os.chdir(folder)
        if core is not None:
            os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
            pin(core)
        compile_once(run)
        self._rl, self._run, self._stop = rl, run, threading.Event()
        self._role = role
        self._address: str | None = None
        self._asking = threading.Lock()

    def work(self, board: Any, pools: dict[str, Any], processes: list[Any], number: int) -> None:
        """Runs the role to its end.

        Args:
          board, pools: actors.
          processes: of the role, as actors.
          number: which of them this is.
        """
        context = Context(self._run, board_of_actor(board), self._stop.is_set, _pools(pools, self._role))
        kind, _, host = self._role.partition("-")
        world = None
        if len(processes) > 1:
            first = processes[0].address.remote
            address = patiently(lambda: asked(first), PATIENCE) if number else self.address()
            world = address, len(processes), number
        learner = kind == "learner"
        join_processes((self._rl.training.mesh_shape if learner else self._rl.inference_mesh_shape).devices, world)
        role = LearnerRole(self._rl) if learner else SamplerRole(self._rl, int(host))
        role.run(context)

    def stop(self) -> None:
        """Asks the role to come to its end."""
        self._stop.set()

    def address(self) -> str:
        """Where others of a role may find its first process; while that lives, the same to all."""
        import ray

        with self._asking:
            if self._address is None:
                with socket.socket() as free:
                    free.bind(("", 0))
                    self._address = f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"
            return self._address

    def pid(self) -> int:
        return os.getpid()


class BoardWorker:
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


class PoolWorker(EnvironmentRole):
    """A pool of environments, in a process of its own."""

    def __init__(self, name: str, rl: Rl, run: Path, folder: str):
        os.chdir(folder)
        super().__init__(rl, run, name)

    def pid(self) -> int:
        return os.getpid()


class ProcessDied(ConnectionError):
    """The process that was called is gone, or is being started again."""


def outcome(get: Callable[[], Any]) -> Any:
    """What `get` gives, which waits for a call of Ray.

    Raises:
      ProcessDied: its process did.
      RuntimeError: its process cannot be started; the message tells why.
      Exception: what the call itself raised.
    """
    from ray.exceptions import RayActorError, RayTaskError

    try:
        return get()
    except RayTaskError as error:
        raise error.cause from error
    except RayActorError as error:
        if error.actor_init_failed:
            raise RuntimeError(f"a process cannot be started: {error}") from None
        raise ProcessDied(f"its process died: {type(error).__name__}") from None


def asked(call: Callable[[], Any], seconds: float | None = None) -> Any:
    """What a remote call gives; raises what `outcome` does.

    Args:
      call: makes it.
      seconds: that it may take, after which TimeoutError is raised; None for any.
    """
    import ray

    return outcome(lambda: ray.get(call(), timeout=seconds))


def board_of_actor(actor: Any) -> RemoteBoard:
    """A `BoardWorker` as everybody has it."""
    return RemoteBoard(lambda *call: asked(lambda: actor.call.remote(*call)), PATIENCE)


def _pools(actors: dict[str, Any], host: str) -> RemotePools:
    def call(pool: str, method: str, *args: Any) -> Any:
        return asked(lambda: getattr(actors[pool], method).remote(*args))

    return RemotePools(lambda: list(actors), call, PATIENCE, host)
