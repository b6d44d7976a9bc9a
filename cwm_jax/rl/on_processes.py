"""Plays one role in this process, without Ray: whoever starts processes starts each role, and again where one died.

Roles find one another through the folder of the run: who is called by others listens at a port of its machine and
writes into `board/at-ROLE.json` where that is, and a key without which nobody is answered. Who may read that file is
trusted; the network need not be. Files carry all else, as with Ray.

A run has one `board`, one `learner` (of several hosts one process on each, see `join_processes`), `sampler-0` and on to
`Rl.samplers`, and pools of environments, `env` or `env-0`, `env-1`, …, any number. The learner says in `board/ended`
that the run is at its end. Then samplers measure the last weights and go, the board writes the results, all others go.
"""

import json
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

from cwm_jax.files import write_json, write_whole
from cwm_jax.rl.board import Accounts
from cwm_jax.rl.examiner import read_examinations
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.policy import leases
from cwm_jax.rl.remote import RemoteBoard, RemotePools
from cwm_jax.rl.results import restarts
from cwm_jax.rl.roles import Context, EnvironmentRole, LearnerRole, SamplerRole, board_of, compile_once
from cwm_jax.training.processes import is_first, join_processes

ROLES = ("env", "learner", "sampler")
_ANSWERS = 64  # calls at once
_PATIENCE = 1800.0  # seconds that a machine may take to come, or to come back
_SLOW = 3600.0  # seconds that an answer may take
_LOOK = 1.0  # seconds between looks at what goes on


def keep_board(rl: Rl, run: Path, told: Callable[[Accounts], None]) -> dict[str, Any]:
    """The board's process: to the end of the run. Takes and returns what `run_on_ray` does."""
    run, lock = Path(run).absolute(), threading.Lock()
    board = board_of(rl, run)

    def call(method: str, *args: Any) -> Any:
        with lock:  # one at a time
            return getattr(board, method)(*args)

    _answer(run, "board", call)
    with _asked_to_stop() as stop:
        while not _ended(run) or _sampling(run) or not _measured(rl, run):
            if stop.wait(_LOOK):
                raise KeyboardInterrupt  # as on Ray: what is there stays, no results are written
            told(call("accounts"))
    return {"restarts": restarts(run), "again": board.again, "accounts": call("accounts")}


def play(rl: Rl, run: Path, role: str) -> None:
    """The process of any other role: to the end of the run, or until SIGTERM, after which the same call goes on.

    Raises:
      ValueError: there is no such role.
      ConnectionError: the board did not come.
    """
    run = Path(run).absolute()
    kind, _, number = role.partition("-")
    if kind not in ROLES or not (number or "0").isdigit():
        raise ValueError(f"--role {role}: write board, learner, sampler-0 (1, …) or env-0 (1, …)")
    compile_once(run)
    with _asked_to_stop() as stop:
        if kind == "env":
            pool = EnvironmentRole(rl, run, role)
            _answer(run, role, lambda method, *args: getattr(pool, method)(*args))
            while not (run / "results.json").exists() and not stop.wait(_LOOK):
                pass
            (run / "board" / f"at-{role}.json").unlink(missing_ok=True)
        elif kind == "learner":
            join_processes(rl.training.mesh_shape.devices)
            LearnerRole(rl).run(Context(run, _board(run), stop.is_set))
            if is_first() and not stop.is_set():
                write_whole(run / "board" / "ended", "")
        else:
            join_processes(rl.inference_mesh_shape.devices)
            over = lambda: stop.is_set() or _ended(run)  # noqa: E731
            SamplerRole(rl, int(number or 0)).run(Context(run, _board(run), over, _pools(run, role)))


def _ended(run: Path) -> bool:
    return (run / "board" / "ended").exists()


def _measured(rl: Rl, run: Path) -> bool:
    """Whether the last weights are; whoever measures may have died, and is started again."""
    return any(one["step"] >= rl.steps for one in read_examinations(run))


def _sampling(run: Path) -> bool:
    """Whether a sampler has not gone yet."""
    return any(lease.host.startswith("sampler-") for lease in leases(run / "board", time.time()))


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, each once; after that they are as they were."""
    event, before = threading.Event(), {}

    def heard(number: int, frame: Any) -> None:
        event.set()
        signal.signal(number, before[number])

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, heard)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answer(run: Path, role: str, call: Callable[..., Any]) -> None:
    """Has threads answer calls from other processes while this one lives."""
    key = secrets.token_hex(32)
    listener = Listener((_own_address(), 0), backlog=128, authkey=key.encode())

    def work() -> None:
        while True:
            try:
                with listener.accept() as connection:
                    method, args = connection.recv()
                    try:
                        answer = True, call(method, *args)
                    except Exception as error:
                        answer = False, f"{type(error).__name__}: {error}"
                    connection.send(answer)
            except (OSError, EOFError, AuthenticationError):
                continue  # who asked is gone, or is none of ours

    for _ in range(_ANSWERS):
        threading.Thread(target=work, daemon=True).start()
    host, port = listener.address
    write_json(run / "board" / f"at-{role}.json", {"host": host, "port": port, "key": key})


def _own_address() -> str:
    """Of this machine, by which others find it; where it has no name, by which only it does."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def _asked(run: Path, role: str, method: str, *args: Any) -> Any:
    """What a call of a role gives.

    Raises:
      RuntimeError: what the call raised, in words.
      ConnectionError: its process is away, or died meanwhile.
    """
    try:
        at = json.loads((run / "board" / f"at-{role}.json").read_text())
        with Client((at["host"], at["port"]), authkey=at["key"].encode()) as connection:
            connection.send((method, args))
            if not connection.poll(_SLOW):
                raise TimeoutError("no answer")
            fine, told = connection.recv()
    except (OSError, EOFError, AuthenticationError) as error:
        raise ConnectionError(f"{role} is away: {type(error).__name__}: {error}") from None
    if not fine:
        raise RuntimeError(told)
    return told


def _board(run: Path) -> RemoteBoard:
    return RemoteBoard(lambda *call: _asked(run, "board", *call), _PATIENCE)


def _pools(run: Path, host: str) -> RemotePools:
    def names() -> list[str]:
        return [path.stem.removeprefix("at-") for path in sorted((run / "board").glob("at-env*.json"))]

    return RemotePools(names, lambda pool, *call: _asked(run, pool, *call), _PATIENCE, host)
