"""One engine on the devices of several processes: the first decides, all make the same calls in the same order.

Before a step and around a swap the first process tells the others what was called since: one control word (rl.md, G.6).
So all take new weights between the same two steps. What an engine does follows from its calls alone, and every process
computes its part of each program; nothing else has to be agreed on.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.engine import Counts, Engine
from cwm_jax.inference.request import Finish, Request, Token
from cwm_jax.inference.scheduler import Scheduler
from cwm_jax.training.processes import told_by_first


class Loader(Protocol):
    """Weights on their way into the engine of a process."""

    def begin(self, publication: Any) -> None:
        """Begins to read them."""

    def finish(self) -> Any:
        """Swaps the engine's weights for what was read, in all processes or in none."""


class LeaderEngine:
    """The engine of the first process, used as an `Engine`; the others are in `follow`. Its mesh must be in force.

    Its weights are swapped by a `Loader` that tells the others when it begins and when it finishes.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._calls: list[tuple[str, tuple]] = []

    @property
    def config(self) -> EngineConfig:
        return self._engine.config

    @property
    def counts(self) -> Counts:
        return self._engine.counts

    @property
    def scheduler(self) -> Scheduler:
        return self._engine.scheduler

    @property
    def version(self) -> int:
        return self._engine.version

    @property
    def weight_sets(self) -> int:
        return self._engine.weight_sets

    @property
    def busy(self) -> bool:
        return self._engine.busy

    def submit(self, request: Request) -> int:
        number = self._engine.submit(request)  # what cannot be answered is told to nobody
        self._calls.append(("submit", (request,)))
        return number

    def cancel(self, number: int) -> None:
        self._calls.append(("cancel", (number,)))
        self._engine.cancel(number)

    def forget(self, numbers: Iterable[int]) -> None:
        numbers = tuple(numbers)
        self._calls.append(("forget", (numbers,)))
        self._engine.forget(numbers)

    def hold(self, versions: Iterable[int]) -> None:
        if (versions := frozenset(versions)) != self._engine.held:  # it is called again and again
            self._calls.append(("hold", (versions,)))
            self._engine.hold(versions)

    def step(self) -> list[tuple[int, Token | Finish]]:
        self.tell("step")
        return self._engine.step()

    def leave(self) -> None:
        """Lets the others go."""
        self.tell("leave")

    def tell(self, name: str, *args: Any) -> None:
        """Has the others make a call, after those that were made here since the last word; they wait for it now."""
        told_by_first([*self._calls, (name, args)])
        self._calls.clear()


def follow(engine: Engine, loading: Loader) -> Iterator[list[tuple[int, Token | Finish]]]:
    """Any other process: makes the calls of the first until that leaves; what came out of each step.

    Args:
      engine: made as that of the first process was.
      loading: brings it weights, as that of the first process does.
    """
    while True:
        for name, args in told_by_first(None):
            if name == "leave":
                return
            if name == "step":
                yield engine.step()
            else:
                getattr(loading if name in ("begin", "finish") else engine, name)(*args)
