"""Drives rollouts: requests go to an engine, acts to threads, and what comes back goes on at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Completion, Finish, Request, Token
from cwm_jax.rl.rollout import Act, Failed, Rollout
from cwm_jax.rl.trajectory import Trajectory


@dataclass
class _Waiting:
    """A rollout that waits for tokens."""

    rollout: Rollout
    key: Any
    request: Request
    tokens: list[Token]


class Driver:
    """Any number of rollouts on one engine. One thread drives; acts run on others.

    Args:
      engine: draws tokens.
      threads: acts at once; most only wait. 0: none, each is done at once where it is asked for, so that the same
        seeds give the same rollouts in the same order.
      seconds: that an act may take, after which its episode has failed. (What does not end by itself keeps its thread.)
    """

    def __init__(self, engine: Engine, threads: int = 32, seconds: float = 600.0):
        self._engine, self._seconds = engine, seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="act") if threads else None
        self._drawing: dict[int, _Waiting] = {}
        self._acting: dict[Future, tuple[Rollout, Any, float]] = {}
        self._done: list[tuple[Any, Trajectory]] = []

    @property
    def count(self) -> int:
        """Rollouts that have not ended."""
        return len(self._drawing) + len(self._acting)

    @property
    def drawing(self) -> int:
        """Rollouts that wait for tokens."""
        return len(self._drawing)

    def add(self, key: Any, rollout: Rollout, now: float) -> None:
        """Begins a rollout; its trajectory comes out under `key`."""
        self._on(rollout, key, lambda: next(rollout), now)

    def turn(self, now: float, patience: float = 0.0) -> list[tuple[Any, Trajectory]]:
        """One step of the engine, or where nothing is drawn, a wait of at most `patience` seconds for an act.

        Returns:
          What has ended.
        """
        if self._engine.busy:
            for number, event in self._engine.step():
                self._heard(number, event, now)
            patience = 0.0
        if self._acting:
            ready, _ = wait(self._acting, patience, FIRST_COMPLETED)
            for future in ready:
                rollout, key, _ = self._acting.pop(future)
                if (error := future.exception()) is None:
                    self._on(rollout, key, lambda r=rollout, f=future: r.send(f.result()), now)
                else:
                    told = Failed(f"{type(error).__name__}: {error}")
                    self._on(rollout, key, lambda r=rollout, told=told: r.throw(told), now)
            for future, (rollout, key, until) in list(self._acting.items()):
                if now > until:
                    del self._acting[future]
                    future.cancel()
                    told = Failed(f"no answer within {self._seconds:g} s")
                    self._on(rollout, key, lambda r=rollout, told=told: r.throw(told), now)
        done, self._done = self._done, []
        return done

    def drop(self, unwanted: Callable[[Any], bool]) -> None:
        """Gives up the rollouts whose keys are not wanted any more."""
        numbers = [number for number, one in self._drawing.items() if unwanted(one.key)]
        for number in numbers:
            self._drawing.pop(number).rollout.close()
        self._engine.forget(numbers)
        for future, (rollout, key, _) in list(self._acting.items()):
            if unwanted(key):
                del self._acting[future]
                rollout.close()

    def close(self) -> Iterator[Any]:
        """Gives up all rollouts; their keys."""
        for one in self._drawing.values():
            one.rollout.close()
            yield one.key
        for rollout, key, _ in self._acting.values():
            rollout.close()
            yield key
        self._engine.forget(self._drawing)
        self._drawing.clear()
        self._acting.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _heard(self, number: int, event: Token | Finish, now: float) -> None:
        one = self._drawing[number]
        if isinstance(event, Token):
            one.tokens.append(event)
            return
        del self._drawing[number]
        answer = Completion(one.request, tuple(one.tokens), event.reason)
        self._on(one.rollout, one.key, lambda: one.rollout.send(answer), now)

    def _on(self, rollout: Rollout, key: Any, go: Callable[[], Request | Act], now: float) -> None:
        """Lets a rollout go on to what it waits for next."""
        while True:
            try:
                wanted = go()
            except StopIteration as end:
                self._done.append((key, end.value))
                return
            if isinstance(wanted, Request):
                self._drawing[self._engine.submit(wanted)] = _Waiting(rollout, key, wanted, [])
                return
            if self._pool is not None:
                self._acting[self._pool.submit(wanted.call)] = rollout, key, now + self._seconds
                return
            try:
                result = wanted.call()
            except Exception as error:
                told = Failed(f"{type(error).__name__}: {error}")
                go = lambda told=told: rollout.throw(told)  # noqa: E731
            else:
                go = lambda result=result: rollout.send(result)  # noqa: E731
