"""A checkpoint of this machine as a model."""

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal

from cwm_jax.data.corpus import TESTS
from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Completion, Request, Token
from cwm_jax.inference.streams import Streams
from cwm_jax.model.transformer import rebuilder
from cwm_jax.text.pieces import fragments_of_ids, pieces_of_ids
from cwm_jax.training.trained import trained
from cwm_jax.worldmodel.models.forms import form_of
from cwm_jax.worldmodel.models.model import Ask, CannotDo, Forced, Question, Said

_LONGEST_PROMPT = 4  # times the longest row trained on; beyond, memory grows and nothing right comes out


class LocalModel:
    """A `Model` that answers with the newest checkpoint of a run, or with exported weights.

    Attributes:
      step: training steps of the checkpoint.
      vocabulary: its vocabulary.
      engine: answers with it.
    """

    def __init__(self, folder: Path):
        """Loads it; raises as `trained`."""
        folder = Path(folder)
        found = trained(folder)
        self.vocabulary, self.step, self.longest = found.vocabulary, found.step, found.longest
        self.form = form_of(found.vocabulary)
        rebuild = rebuilder(found.model, found.vocabulary.vocab_size)
        config = EngineConfig(max_length=(_LONGEST_PROMPT + 1) * self.longest)
        # Most sequences are no longer than two rows; one of any length fits.
        pages = config.slots * math.ceil(2 * self.longest / config.page)
        self.engine = Engine(rebuild, found.params, replace(config, pages=pages))
        self._turn = threading.RLock()  # one thread steps an engine
        kind = "run" if (folder / "config.gin").exists() else "model"
        self.subject = f"the {kind} {folder.resolve().name}"
        self.name = f"{self.subject}, step {self.step:,}"
        self.identity = found.identity
        tests = folder / "data" / TESTS
        self.tests = tests if tests.exists() else None

    def complete(self, asks: Sequence[Ask]) -> Iterator[Said]:
        """The answers, at most as long as the longest row trained on."""
        prepared = [self._request(ask) for ask in asks]
        with self._turn:
            answers = self.engine.generate(one for one in prepared if isinstance(one, Request))
            for one in prepared:
                yield Said(reason=one) if isinstance(one, str) else self._said(next(answers))

    @contextmanager
    def speak(self, asks: Sequence[Ask]) -> Iterator[list["_Speaking"]]:
        """The answers while they are made, as `Model` says; meanwhile other threads wait for their turn."""
        requests = []
        for ask in asks:
            requests.append(request := self._request(ask))
            if isinstance(request, str):
                raise ValueError(request)
        with self._turn, closing(Streams(self.engine, requests)) as streams:
            yield [_Speaking(self, streams, number) for number in streams.numbers]

    def _request(self, ask: Ask) -> Request | str:
        """What the engine is asked, or why it cannot be."""
        try:
            ids = self.vocabulary.encode_segments(ask.pieces)
        except ValueError as error:
            return str(error)
        if ids[:1] != [self.vocabulary.bos_id]:
            ids.insert(0, self.vocabulary.bos_id)
        room = _LONGEST_PROMPT * self.longest
        if len(ids) > room:
            return f"the prompt has {len(ids):,} tokens; this checkpoint reads at most {room:,}"
        symbols = [stop for stop in ask.stop if stop in self.form.control_symbols]
        stops = {self.vocabulary.eos_id, *map(self.vocabulary.token_id, symbols)}
        limit = min(ask.max_tokens, self.longest)
        return Request(tuple(ids), limit, ask.temperature, ask.top_p, ask.seed, stop_ids=tuple(stops))

    def _said(self, answer: Completion) -> Said:
        pieces = list(pieces_of_ids(self.vocabulary, self.form.control_symbols, _scored(answer.tokens)))
        texts, logprobs = zip(*pieces) if pieces else ((), ())
        return Said(texts, len(answer.tokens), "stop" if answer.finish == "stop" else "length", logprobs)

    def answer(self, questions: Sequence[Question]) -> Iterator[Said]:
        raise CannotDo("a checkpoint of traces holds no conversation; serve one that does and name it with --endpoint")

    def force(self, documents: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Iterator[list[Forced] | str]:
        """For each document how the model takes each piece; the engine scores it as a prompt."""
        spelled: list[tuple[int, list[int]]] = []  # ids of what is given, and of each piece how many
        requests: list[Request | str] = []
        for given, pieces in documents:
            encoded = [self.vocabulary.encode_segments([piece]) for piece in pieces]
            prompt = self.vocabulary.encode_segments(given)
            spelled.append((len(prompt), list(map(len, encoded))))
            ids, room = [*prompt, *(token for some in encoded for token in some)], self.engine.config.max_length
            fits = len(ids) <= room
            told = f"the trace has {len(ids):,} tokens; this checkpoint reads at most {room:,}"
            requests.append(Request(tuple(ids), 0, prompt_logprobs=0) if fits else told)
        with self._turn:
            answers = self.engine.generate(one for one in requests if isinstance(one, Request))
            for (start, sizes), request in zip(spelled, requests):
                if isinstance(request, str):
                    yield request
                    continue
                scores = next(answers).prompt_logprobs
                ends = [start, *(start + end for end in accumulate(sizes))]
                parts = [scores[first:end] for first, end in pairwise(ends)]
                yield [Forced(sum(one.logprob for one in part), all(one.rank == 1 for one in part)) for part in parts]

    def count(self, text: str) -> int:
        return len(self.vocabulary.encode(text))


class _Speaking:
    """A `Spoken` of the engine."""

    def __init__(self, model: LocalModel, streams: Streams, number: int):
        self._model, self._streams, self._number = model, streams, number
        self.finish: Literal["stop", "length", ""] = ""

    def __iter__(self) -> Iterator[tuple[str, float]]:
        scored = _scored(self._streams.tokens(self._number))
        yield from fragments_of_ids(self._model.vocabulary, self._model.form.control_symbols, scored)
        self.finish = "stop" if self._streams.finish(self._number) == "stop" else "length"


def _scored(tokens: Iterable[Token]) -> Iterator[tuple[int, float]]:
    return ((token.id, token.logprob) for token in tokens)
