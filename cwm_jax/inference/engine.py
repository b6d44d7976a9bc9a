"""Continuous batching: requests come and go between two steps, and so do weights.

An answer is a function of its request and of the weights alone, whatever else runs, up to the rounding of sums: a row
of a batch is computed without the others, and token i is drawn with randomness of (seed, i). One thread steps an
engine.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import jax
import numpy as np

from cwm_jax.inference.batches import Batches, Told, ToldPrompt
from cwm_jax.inference.cache import empty_cache
from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.programs import Programs
from cwm_jax.inference.request import Completion, Finish, QueueFull, Reason, Request, Token
from cwm_jax.inference.scheduler import Running, Scheduler
from cwm_jax.inference.weights import by_layer, check_alike
from cwm_jax.model.sharding import ShardingRules
from cwm_jax.model.transformer import Params, Transformer

_CONFIG, _RULES = EngineConfig(), ShardingRules()


@dataclass
class Counts:
    """What an engine has done so far.

    Attributes:
      read: tokens of prompts that were computed.
      made: tokens of answers.
      guessed, right: tokens that were guessed, and those of them that came out.
      swaps: of weights.
      reread: tokens of `read` that were read before, and had to be again.
      seconds_reading, seconds_making: that calls took, from one to what it gave.
    """

    read: int = 0
    made: int = 0
    guessed: int = 0
    right: int = 0
    swaps: int = 0
    reread: int = 0
    seconds_reading: float = 0.0
    seconds_making: float = 0.0


class Engine:
    """Answers requests with a model.

    Args:
      rebuild: makes the module of the weights.
      params: the weights, stacked or by layer, in matrices or in 8 bits.
      config: shapes.
      version: of the weights.
      rules: how arrays lie on the mesh in force, if there is one; then every call needs that mesh in force.

    Attributes:
      counts: of tokens and seconds.
      held: versions whose weights are kept for requests to come.
    """

    def __init__(
        self,
        rebuild: Callable[[Params], Transformer],
        params: Params,
        config: EngineConfig = _CONFIG,
        version: int = 0,
        rules: ShardingRules = _RULES,
    ):
        self.config, self.counts = config, Counts()
        self._params = by_layer(params)
        self._pinned: dict[int, Params] = {}  # by version: weights that were swapped out, and are needed yet
        self.held: frozenset[int] = frozenset()
        shape = jax.eval_shape(rebuild, self._params)
        self._vocab_size, model = shape.vocab_size, shape.config
        layout = config.layout(model)
        if model.conv and config.page < model.conv.taps:
            raise ValueError(f"EngineConfig.page={config.page} must be at least ShortConv.taps={model.conv.taps}")
        self.cache = empty_cache(model, layout, self._params["embed"].dtype, rules)
        top = min(config.top_logprobs, self._vocab_size)
        programs = Programs(rebuild, layout, rules, config.draft, config.steps, top)
        self._prefill, self._decode = programs.compiled()
        self._scheduler = Scheduler(layout, version, config.queue)
        self._batches = Batches(config)
        self._all: dict[int, Running] = {}
        self._events: deque[tuple[int, Token | Finish]] = deque()
        self._inboxes: dict[int, list[tuple[int, Token | Finish]]] = {}  # of requests of `generate`, whoever steps
        self._next = 0

    @property
    def version(self) -> int:
        """Of the weights."""
        return self._scheduler.version

    @property
    def scheduler(self) -> Scheduler:
        """Who runs and who waits."""
        return self._scheduler

    @property
    def weight_sets(self) -> int:
        """Sets of weights that the engine has: the present ones, and those that something needs yet."""
        return 1 + len(self._pinned)

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return bool(self._all or self._events)

    def compile(self, scored: bool = True) -> Iterator[float]:
        """Compiles the programs, so that no request waits for them; after each comes the share that is done.

        Args:
          scored: those that score prompts, too.
        """
        tables_BE, shapes = self._scheduler.tables_BE, self._batches.shapes()
        self.cache = self._decode(self._params, self.cache, self._batches.decode([], [], tables_BE))[0]
        calls = list(product(shapes, (False, True) if scored else (False,)))
        for done, (shape, scores) in enumerate(calls, start=1):
            yield done / (1 + len(calls))
            batch = self._batches.prefill([], [], tables_BE, shape)
            self.cache = self._prefill(self._params, self.cache, batch, scores)[0]
        yield 1.0

    def submit(self, request: Request) -> int:
        """Takes a request; the number that its tokens come out under.

        Raises:
          ValueError: it can never be answered.
          QueueFull: too many wait.
        """
        c = self.config
        total = len(request.prompt) + request.max_tokens
        if total > c.max_length:
            raise ValueError(
                f"Request.prompt has {len(request.prompt)} tokens, with max_tokens={request.max_tokens} more than "
                f"EngineConfig.max_length={c.max_length}; ask for fewer"
            )
        if len(request.stop_ids) > c.stop_ids:
            raise ValueError(f"Request.stop_ids has {len(request.stop_ids)} ids, at most {c.stop_ids} are looked for")
        for name, count in {"top_logprobs": request.top_logprobs, "prompt_logprobs": request.prompt_logprobs}.items():
            if not 0 <= (count or 0) <= c.top_logprobs:
                raise ValueError(f"Request.{name}={count} must be from 0 to {c.top_logprobs}")
        ids = np.array([*request.prompt, *dict(request.forced).values()])
        if (odd := ids[(ids < 0) | (ids >= self._vocab_size)]).size:
            raise ValueError(f"Request.prompt or forced has token {odd[0]}; ids are from 0 to {self._vocab_size - 1}")
        if request.version not in (None, self.version, *self._pinned):
            raise ValueError(f"Request.version={request.version} is not there any more; `hold` it while it is present")
        one = Running(self._next, request, list(request.prompt))
        self._scheduler.submit(one)
        self._all[one.number] = one
        self._next += 1
        return one.number

    def cancel(self, number: int) -> None:
        """Ends a request now; the next step says so. Nothing happens if it has ended already."""
        if (one := self._all.get(number)) is not None:
            self._end(one, "cancelled")
            self._let_go()

    def forget(self, numbers: Iterable[int]) -> None:
        """Ends requests of which nobody wants to hear any more: not even that they ended."""
        numbers = set(numbers)
        for number in numbers:
            self.cancel(number)
        self._events = deque(event for event in self._events if event[0] not in numbers)

    def swap(self, params: Params, version: int) -> None:
        """The next token of every sequence that is not pinned comes from these weights.

        Args:
          params: the weights.
          version: their number, above that of the present ones.

        Raises:
          ValueError: the weights are not of the same shapes, or have no higher version than the present ones.
        """
        if version <= self.version:  # caches are told apart by it
            raise ValueError(f"version={version} is not above that of the present weights, {self.version}")
        params = by_layer(params)
        check_alike(params, self._params)
        self._pinned[self.version], self._params = self._params, params
        self._scheduler.swap(version)
        self._let_go()
        self.counts.swaps += 1

    def hold(self, versions: Iterable[int]) -> None:
        """Keeps the weights of these versions for requests to come, and no others."""
        self.held = frozenset(versions)
        self._let_go()

    def step(self) -> list[tuple[int, Token | Finish]]:
        """Reads one chunk of prompts, if any must be read, then decodes; what came out, by request and in order."""
        self._scheduler.admit()
        if reading := [one for one in self._scheduler.running if not one.decoding]:
            version = reading[0].version  # all that is read at once is read by the same weights
            began = time.perf_counter()
            self._read([one for one in reading if one.version == version][: self.config.rows], version)
            self.counts.seconds_reading += time.perf_counter() - began
        began = time.perf_counter()
        for version in dict.fromkeys(one.version for one in self._scheduler.running if one.decoding):
            self._make([one for one in self._scheduler.running if one.decoding and one.version == version], version)
        self.counts.seconds_making += time.perf_counter() - began
        self._let_go()
        events = list(self._events)
        self._events.clear()
        return events

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Answers requests, in their order, as far ahead as the queue has room; nobody else may step meanwhile.

        Several may be read in turns, such as answers beside the scores of other prompts: each gets its own.
        """
        coming = enumerate(requests)
        following, turn = next(coming, None), 0
        asked: dict[int, tuple[int, Request, list[Token]]] = {}
        done: dict[int, Completion] = {}
        came: list[tuple[int, Token | Finish]] = []  # to these requests, whoever took the step
        try:
            while following or asked or done:
                while following:
                    try:
                        number = self.submit(following[1])
                    except QueueFull:
                        break
                    asked[number] = *following, []
                    self._inboxes[number] = came
                    following = next(coming, None)
                if not came:
                    for number, event in self.step():
                        self._inboxes[number].append((number, event))
                for number, event in came:
                    if isinstance(event, Token):
                        asked[number][2].append(event)
                    else:
                        del self._inboxes[number]
                        place, request, tokens = asked.pop(number)
                        done[place] = Completion(request, tuple(tokens), *event)
                came.clear()
                while turn in done:
                    yield done.pop(turn)
                    turn += 1
        finally:
            for number in asked:
                del self._inboxes[number]
            self.forget(asked)

    def _let_go(self) -> None:
        """Forgets weights that no sequence needs."""
        if self._pinned:
            needed = self._scheduler.pinned() | self.held
            self._pinned = {version: params for version, params in self._pinned.items() if version in needed}

    def _weights(self, version: int | None) -> tuple[Params, int]:
        """The weights of a version, None for the present ones, and its number."""
        if version is None or version == self.version:
            return self._params, self.version
        return self._pinned[version], version

    def _read(self, reading: list[Running], version: int | None) -> None:
        """One call of `prefill`: the next chunk of each."""
        reading, ends = self._with_room(reading, self.config.chunk)
        if not reading:
            return
        scored = any(one.request.prompt_logprobs is not None for one in reading)
        batch = self._batches.prefill(reading, ends, self._scheduler.tables_BE)
        params, version = self._weights(version)
        self.cache, ids_N, scores, of_prompts = self._prefill(params, self.cache, batch, scored)
        # Between chunks nothing is fetched, and the next one follows at once.
        ending = any(end == len(one.tokens) for one, end in zip(reading, ends))
        made = Told(ids_N, scores, batch.wanted) if ending else None
        told = ToldPrompt(*of_prompts, batch.wanted_of_prompts) if scored else None
        for row, (one, end) in enumerate(zip(reading, ends)):
            start, known, prompt = one.read, len(one.prompt_logprobs), len(one.request.prompt)
            if one.request.prompt_logprobs is not None:
                # Place i scores token start + i + 1; what is read anew has its score.
                places = slice(known - 1 - start, max(known - 1, min(end, prompt - 1)) - start)
                one.prompt_logprobs += told(one.request, version, row, places)
            self.counts.read += end - start
            self.counts.reread += max(min(end, one.furthest) - start, 0)
            one.decoding = end == len(one.tokens)
            self._scheduler.advance(one, end)
            if one.decoding:
                self._tell(one, [made(one.request, version, row)] if one.request.max_tokens else [])

    def _make(self, decoding: list[Running], version: int | None) -> None:
        """One call of `decode`."""
        decoding, ends = self._with_room(decoding, self._batches.most)
        if not decoding:
            return
        batch = self._batches.decode(decoding, ends, self._scheduler.tables_BE)
        params, version = self._weights(version)
        self.cache, result = self._decode(params, self.cache, batch)
        counts_CB, guessed_CB = jax.device_get((result.counts_CB, result.guessed_CB))
        made = Told(result.ids_CBS, result.scores, batch.wanted)
        self.counts.guessed += int(guessed_CB.sum())
        self.counts.right += int(np.maximum(counts_CB - 1, 0).sum())
        for one in decoding:
            places = [
                (step, one.slot, place) for step, count in enumerate(counts_CB[:, one.slot]) for place in range(count)
            ]
            tokens = [made(one.request, version, *place) for place in places]
            self._tell(one, tokens)

    def _with_room(self, chosen: list[Running], most: int) -> tuple[list[Running], list[int]]:
        """Those that keep their slots when each has room for its next `most` tokens, and up to where they have it."""
        ends = {}
        for one in chosen:
            if one.slot is not None:  # else one before it needed its pages
                known = len(one.tokens) if not one.decoding else one.reads
                ends[one.number] = self._scheduler.ensure(one, min(known, one.read + most))
        chosen = [one for one in chosen if one.slot is not None]
        return chosen, [ends[one.number] for one in chosen]

    def _tell(self, one: Running, tokens: list[Token]) -> None:
        """Adds what came out of a sequence to it, and ends it if that was the last."""
        one.tokens += [token.id for token in tokens]
        self._scheduler.advance(one, len(one.tokens) - 1 if tokens else one.read)
        one.furthest = max(one.furthest, one.read)
        self._events += [(one.number, token) for token in tokens]
        self.counts.made += len(tokens)
        if tokens and tokens[-1].id in one.request.stop_ids:
            self._end(one, "stop")
        elif one.made == one.request.max_tokens:
            self._end(one, "length")

    def _end(self, one: Running, reason: Reason) -> None:
        self._scheduler.leave(one)
        del self._all[one.number]
        logprobs = tuple(one.prompt_logprobs) if one.request.prompt_logprobs is not None else ()
        self._events.append((one.number, Finish(reason, logprobs)))
