"""Board and pools of environments from another process; however calls get there, the adapter knows."""

import contextlib
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from cwm_jax.envs.env import Task, Transition
from cwm_jax.rl.board import Accounts, Ticket

_AGAIN = 0.2  # seconds until pools are looked for again


class RemoteBoard:
    """The board.

    Args:
      call: `call(method, *args)` calls it; while it is being started again, everybody waits for it.
    """

    def __init__(self, call: Callable[..., Any]):
        self._call = call

    def lease(self, worker: str, step: int | None = None) -> Ticket | None:
        return self._call("lease", worker, step)

    def renew(self, worker: str, uids: Sequence[str]) -> list[str]:
        return self._call("renew", worker, list(uids))

    def give_back(self, worker: str) -> None:
        self._call("give_back", worker)

    def accounts(self) -> Accounts:
        return self._call("accounts")


class RemotePools:
    """Pools of environments as one: each new episode goes to the next that is there, and dies with it.

    Args:
      names: of the pools that are known now.
      call: `call(pool, method, *args)` calls one, and raises ConnectionError where it is away.
      patience: seconds that a new episode waits for a pool.
    """

    def __init__(self, names: Callable[[], Sequence[str]], call: Callable[..., Any], patience: float):
        self._names, self._call, self._patience, self._turn = names, call, patience, count()

    def start(self, env: str, held_out: bool, task: Task) -> tuple[tuple[str, int], Transition, int]:
        until, turn = time.monotonic() + self._patience, next(self._turn)
        while time.monotonic() < until:
            names = self._names()
            for place in range(len(names)):
                pool = names[(turn + place) % len(names)]
                with contextlib.suppress(ConnectionError):
                    number, said, room = self._call(pool, "start", env, held_out, task)
                    return (pool, number), said, room
            time.sleep(_AGAIN)
        raise ConnectionError("there is no pool of environments")

    def step(self, episode: tuple[str, int], action: Sequence[int]) -> tuple[Transition, int]:
        pool, number = episode
        return self._call(pool, "step", number, action)

    def close(self, episode: tuple[str, int]) -> None:
        pool, number = episode
        with contextlib.suppress(ConnectionError):
            self._call(pool, "close", number)
