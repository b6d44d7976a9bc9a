"""Board and pools of environments from another process; however calls get there, the adapter knows."""

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, TypeVar

from cwm_jax.envs.env import Task, Transition
from cwm_jax.rl.board import Accounts, Ticket

_AGAIN = 0.2  # seconds until who is away is asked again

T = TypeVar("T")


def patiently(call: Callable[[], T], patience: float) -> T:
    """What a call gives; where it raises ConnectionError it is made again, for so many seconds."""
    until = time.monotonic() + patience
    while True:
        try:
            return call()
        except ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(_AGAIN)


class RemoteBoard:
    """The board; while it is being started again, everybody waits for it.

    Args:
      call: `call(method, *args)` calls it, and raises ConnectionError where it is away.
      patience: seconds that it may be away.
    """

    def __init__(self, call: Callable[..., Any], patience: float):
        self._call, self._patience = call, patience

    def lease(self, worker: str, step: int | None = None) -> Ticket | None:
        return self._asked("lease", worker, step)

    def renew(self, worker: str, uids: Sequence[str]) -> list[str]:
        return self._asked("renew", worker, list(uids))

    def give_back(self, worker: str) -> None:
        self._asked("give_back", worker)

    def accounts(self) -> Accounts:
        return self._asked("accounts")

    def _asked(self, method: str, *args: Any) -> Any:
        return patiently(lambda: self._call(method, *args), self._patience)


class RemotePools:
    """Pools of environments as one: each new episode goes to the next that is there, and dies with it.

    Args:
      names: of the pools that are known now.
      call: `call(pool, method, *args)` calls one, and raises ConnectionError where it is away.
      patience: seconds that a new episode waits for a pool.
      host: who calls them.
    """

    def __init__(self, names: Callable[[], Sequence[str]], call: Callable[..., Any], patience: float, host: str):
        self._names, self._call, self._patience, self._turn = names, call, patience, count()
        self._host, self._life = host, secrets.token_hex(8)

    def start(self, env: str, held_out: bool, task: Task) -> tuple[tuple[str, int], Transition, int]:
        turn = next(self._turn)

        def anywhere() -> tuple[tuple[str, int], Transition, int]:
            names = self._names()
            for place in range(len(names)):
                pool = names[(turn + place) % len(names)]
                with contextlib.suppress(ConnectionError):
                    number, said, room = self._call(pool, "start", env, held_out, task, self._host, self._life)
                    return (pool, number), said, room
            raise ConnectionError("there is no pool of environments")

        return patiently(anywhere, self._patience)

    def step(self, episode: tuple[str, int], action: Sequence[int]) -> tuple[Transition, int]:
        pool, number = episode
        return self._call(pool, "step", number, action)

    def close(self, episode: tuple[str, int]) -> None:
        pool, number = episode
        with contextlib.suppress(ConnectionError):
            self._call(pool, "close", number)
