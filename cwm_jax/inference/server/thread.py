"""The one thread that owns the engine, and how the event loop talks to it.

The loop puts orders into a queue, which the thread carries out between two steps; what comes out of a step goes to the
loop in one call. Nobody waits for a client: what a slow one leaves unread is bounded, and beyond that it is cancelled.
"""

import asyncio
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence

from cwm_jax.inference.request import Finish, Request, Token
from cwm_jax.inference.served import Served

Event = tuple[int, Token | Finish]


class TooSlow(Exception):
    """A client left more unread than it may."""


class EngineFailed(Exception):
    """The engine stopped, with an error or because it was told to; nothing will be answered any more."""


class Answers:
    """The answers to some requests as they grow, for one reader: `async for events in answers`.

    An event is the index of its request and a token, or the end. The iteration is over when all have ended; it raises
    TooSlow, EngineFailed, or TimeoutError after `seconds`.
    """

    def __init__(self, thread: "EngineThread", numbers: Sequence[int], seconds: float, unread: float):
        self._thread, self._most = thread, unread
        self._indices = {number: index for index, number in enumerate(numbers)}
        self._unread: deque[Event] = deque()
        self._news = asyncio.Event()
        self._until = asyncio.get_running_loop().time() + seconds
        self._error: Exception | None = None

    def add(self, number: int, event: Token | Finish) -> None:
        """Takes what came out under a number."""
        self._unread.append((self._indices[number], event))
        if isinstance(event, Finish):
            del self._indices[number]
        elif len(self._unread) > self._most and self._error is None:
            self.fail(TooSlow(f"{len(self._unread)} tokens waited to be read; read faster or ask for less at once"))
            self.close()
        self._news.set()

    def fail(self, error: Exception) -> None:
        """Has the reader meet an error."""
        self._error = error
        self._news.set()

    def cancel(self, index: int) -> None:
        """Ends one answer early; its end is told."""
        self._thread.cancel([number for number, one in self._indices.items() if one == index])

    def close(self) -> None:
        """Ends all answers that go on; the reader goes away."""
        self._thread.forget(self._indices)

    async def __aiter__(self):
        while True:
            if self._indices and asyncio.get_running_loop().time() >= self._until:
                raise TimeoutError  # also where its reader is what takes long
            if self._error is not None:
                raise self._error
            if self._unread:
                events = list(self._unread)
                self._unread.clear()
                yield events
            elif not self._indices:
                return
            else:
                async with asyncio.timeout_at(self._until):
                    await self._news.wait()
                self._news.clear()


class EngineThread:
    """Steps an engine as long as there is work.

    Args:
      served: whose engine.
      unread: tokens of a stream that may wait for its reader.

    Attributes:
      failed: the error that ended it.
    """

    def __init__(self, served: Served, unread: int):
        self.failed: Exception | None = None
        self._served, self._engine = served, served.engine
        c = served.engine.config
        self._unread = max(unread, 2 * c.slots * c.steps * (1 + c.draft.tokens))
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._answers: dict[int, Answers] = {}  # this and the next of the loop alone
        self._asked: set[asyncio.Future[Answers]] = set()
        self._on_failure: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, on_failure: Callable[[], None] = lambda: None) -> None:
        """Starts it; from within the loop that will talk to it.

        Args:
          on_failure: called in the loop when the engine stops with an error.
        """
        self._loop, self._on_failure = asyncio.get_running_loop(), on_failure
        self._thread.start()

    def stop(self) -> None:
        """Ends it after the step in hand."""
        self._orders.put(None)
        self._thread.join()

    async def submit(self, requests: Sequence[Request], seconds: float, streamed: bool) -> Answers:
        """Has all of the requests answered, or none, within some seconds.

        Args:
          streamed: whether a client reads them as they come; else the server gathers them, and is never too slow.

        Raises:
          ValueError: one can never be answered.
          QueueFull: too many wait.
          EngineFailed: there is no engine any more.
        """
        if self.failed:
            raise EngineFailed(str(self.failed))
        taken: asyncio.Future[Answers] = self._loop.create_future()
        self._asked.add(taken)
        taken.add_done_callback(self._asked.discard)
        unread = self._unread if streamed else math.inf
        self._orders.put(lambda: self._take(requests, lambda numbers: Answers(self, numbers, seconds, unread), taken))
        try:
            return await taken
        except asyncio.CancelledError:
            if taken.done() and not taken.cancelled() and taken.exception() is None:
                taken.result().close()  # they began just now, and nobody will read them
            raise

    def give_up(self, reason: str) -> None:
        """Has all readers meet an error at once."""
        for answers in set(self._answers.values()):
            answers.fail(EngineFailed(reason))
            answers.close()
        self._refuse(EngineFailed(reason))

    def cancel(self, numbers: Sequence[int]) -> None:
        """Ends requests; their readers are told."""
        self._orders.put(lambda: [self._engine.cancel(number) for number in numbers])

    def forget(self, numbers: Sequence[int]) -> None:
        """Ends requests whose reader is gone."""
        if numbers := [number for number in list(numbers) if self._answers.pop(number, None)]:
            self.cancel(numbers)

    def _take(
        self,
        requests: Sequence[Request],
        answers: Callable[[Sequence[int]], Answers],
        taken: "asyncio.Future[Answers]",
    ) -> None:
        """In the thread: submits all or none."""
        numbers: list[int] = []
        try:
            for request in requests:
                numbers.append(self._engine.submit(request))
        except Exception as error:  # theirs alone, whatever it is
            for number in numbers:
                self._engine.cancel(number)
            self._tell(lambda error=error: taken.done() or taken.set_exception(error))
        else:
            self._tell(lambda: self._begin(numbers, answers, taken))

    def _begin(
        self, numbers: Sequence[int], answers: Callable[[Sequence[int]], Answers], taken: "asyncio.Future[Answers]"
    ) -> None:
        """In the loop, before anything of these requests can arrive: has somebody read them."""
        if taken.done():  # whoever asked has gone, or was refused meanwhile
            self.cancel(numbers)
            return
        made = answers(numbers)
        self._answers |= dict.fromkeys(numbers, made)
        taken.set_result(made)

    def _refuse(self, error: EngineFailed) -> None:
        """In the loop: tells those who wait to begin."""
        for taken in list(self._asked):
            if not taken.done():
                taken.set_exception(error)

    def _deliver(self, events: Sequence[Event]) -> None:
        """In the loop: hands out what a step made; what nobody reads any more is dropped."""
        for number, event in events:
            if (answers := self._answers.get(number)) is not None:
                if isinstance(event, Finish):
                    del self._answers[number]
                answers.add(number, event)

    def _run(self) -> None:
        try:
            with self._served.in_force():
                while self._follow_orders():
                    if events := self._engine.step():
                        self._tell(lambda events=events: self._deliver(events))
        except Exception as error:  # whatever the devices raise: all who wait must hear of it
            self.failed = error
            self._tell(self._fail)

    def _follow_orders(self) -> bool:
        """Carries out what was ordered, waiting for an order if there is no work; False to stop."""
        while not (self._engine.busy and self._orders.empty()):
            if (order := self._orders.get()) is None:
                return False
            order()
        return True

    def _fail(self) -> None:
        """In the loop: tells everybody."""
        error = EngineFailed(f"{type(self.failed).__name__}: {self.failed}")
        try:
            for answers in set(self._answers.values()):
                answers.fail(error)
            self._refuse(error)
            self._answers.clear()
        finally:
            self._on_failure()

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop has gone, and everybody in it
            self._orders.put(None)
