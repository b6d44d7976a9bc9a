"""Answers token by token, for readers that decide while they read how much they want."""

from collections import deque
from collections.abc import Iterator, Sequence

from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Finish, Reason, Request, Token


class Streams:
    """Answers to requests that are made together, each read at its own pace; nobody else may step the engine meanwhile.

    Attributes:
      numbers: of the requests, in their order.
    """

    def __init__(self, engine: Engine, requests: Sequence[Request]):
        """Submits the requests; raises what `Engine.submit` raises."""
        self._engine = engine
        self._made: dict[int, deque[Token]] = {}
        self._ended: dict[int, Reason] = {}
        try:
            for request in requests:
                self._made[engine.submit(request)] = deque()
        except BaseException:
            self.close()
            raise
        self.numbers = tuple(self._made)

    def tokens(self, number: int) -> Iterator[Token]:
        """The tokens of one answer, each as soon as it is there."""
        made = self._made[number]
        while made or number not in self._ended:
            if made:
                yield made.popleft()
            else:
                self._step()

    def finish(self, number: int) -> Reason | None:
        """Why an answer ended; None while it goes on."""
        return self._ended.get(number)

    def close(self) -> None:
        """Ends what still runs and leaves nothing of it in the engine."""
        self._engine.forget(self._made.keys() - self._ended.keys())

    def _step(self) -> None:
        for number, event in self._engine.step():
            if isinstance(event, Finish):
                self._ended[number] = event.reason
            else:
                self._made[number].append(event)
