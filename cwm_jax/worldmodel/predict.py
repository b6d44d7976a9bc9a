"""Predicting what a program does without running it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

from cwm_jax import config as configuration
from cwm_jax.data.prepare import VOCABULARY, DataConfig
from cwm_jax.inference.engine import Engine, EngineConfig
from cwm_jax.inference.request import Request, Token
from cwm_jax.inference.streams import Streams
from cwm_jax.model.transformer import rebuilder
from cwm_jax.text.pieces import pieces_of_ids
from cwm_jax.text.vocabulary import SentencePieceVocabulary
from cwm_jax.tracing import Frame, Trace
from cwm_jax.tracing.language import EVENT_TOKENS, TraceSyntaxError
from cwm_jax.tracing.trace import Event
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.state import trained_weights
from cwm_jax.worldmodel.futures import Future, Predicted, Until

_LONGEST_PROMPT = 4  # times the longest row trained on; beyond, memory grows and nothing right comes out


class WorldModel:
    """A trained model with its vocabulary and its form of traces. A `Predictor`.

    Attributes:
      experiment: the configuration that it was trained with.
      step: training steps of the checkpoint.
      vocabulary: its vocabulary.
      engine: answers with it.
    """

    what_if = True

    def __init__(self, run: Path):
        """Loads the newest checkpoint of a run's folder.

        Raises:
          FileNotFoundError: the folder is no run, or holds no checkpoint yet.
          ValueError: its data was prepared elsewhere, so that its vocabulary and form of traces are not known here.
        """
        run = Path(run)
        if not (run / "config.gin").exists():
            raise FileNotFoundError(f"{run} holds no config.gin; name the folder that `train --out` wrote")
        self.experiment = configuration.load([run / "config.gin"], [], Experiment)
        if not isinstance(self.experiment.data, DataConfig):
            raise ValueError(f"{run} learnt rows prepared elsewhere; name a run that recorded its own programs")
        self.vocabulary = SentencePieceVocabulary.load(run / "data" / VOCABULARY)
        self._form = self.experiment.data.form
        self.step, params = trained_weights(run, self.experiment, self.vocabulary.vocab_size)
        rebuild = rebuilder(self.experiment.model, self.vocabulary.vocab_size)
        self._trained = max(self.experiment.data.buckets)
        config = EngineConfig(max_length=(_LONGEST_PROMPT + 1) * self._trained)
        # Most sequences are no longer than two rows; one of any length fits.
        pages = config.slots * math.ceil(2 * self._trained / config.page)
        self.engine = Engine(rebuild, params, replace(config, pages=pages))

    def predict(self, contexts: Sequence[str]) -> Iterator[Trace]:
        """The predicted trace of each context, in order.

        A prediction that breaks off, for one when it is longer than any row the model was trained on, or that cannot
        be read has `complete` False, verdict `malformed` and the frames before the break.

        Args:
          contexts: sources with a marked entry.

        Raises:
          ValueError: a context is no program, or is far longer than what the model was trained on.
        """
        requests = [self._request(self._form.context(context)) for context in contexts]
        for context, answer in zip(contexts, self.engine.generate(requests)):
            yield self._form.trace(context, (piece for piece, _ in self._pieces(answer.tokens)))

    def futures(
        self,
        context: str,
        frames: Sequence[Frame],
        *,
        first: Event | None = None,
        until: Until | None = None,
        samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Future]:
        """How the model goes on from given frames, as `Predictor` says; the samples are drawn together."""
        given = self._form.prefix(context, frames)
        given += [EVENT_TOKENS[first]] if first else []
        asked = self._request([*self._form.context(context), *given])
        requests = [replace(asked, temperature=temperature, seed=seed + index) for index in range(samples)]
        with closing(Streams(self.engine, requests)) as streams:
            return [
                self._future(context, given, len(frames), first is not None, streams, number, until)
                for number in streams.numbers
            ]

    def _future(
        self,
        context: str,
        given: list[str],
        known: int,
        asked: bool,
        streams: Streams,
        number: int,
        until: Until | None,
    ) -> Future:
        """One future, read while it is made, and no further than `until` lets it come."""
        scores = [0.0] * len(given)  # log-probabilities of the pieces

        def pieces() -> Iterator[str]:
            yield from given
            for piece, score in self._pieces(streams.tokens(number)):
                scores.append(score)
                yield piece

        def sure(places: range) -> float:
            return math.exp(sum(scores[places.start : places.stop]))

        found: list[Predicted] = []
        complete, reason = False, ""
        try:
            for told in islice(self._form.told(context, pieces()), known, None):
                values = tuple((name, sure(places)) for name, places in told.values.items())
                found.append(Predicted(told.frame, sure(told.head), values, asked=asked and not found))
                if until is not None and until(found):
                    break
            else:
                complete = True
        except TraceSyntaxError as error:
            reason = str(error)
            if streams.finish(number) == "length":
                reason = f"it takes more than the {self._trained:,} tokens that the model was trained on"
        return Future(tuple(found), complete, reason, sum(scores))

    def _request(self, pieces: Sequence[str]) -> Request:
        """Asks for the likeliest continuation; raises ValueError where the pieces are far more than was trained on."""
        ids, longest = self.vocabulary.encode_segments(pieces), _LONGEST_PROMPT * self._trained
        if len(ids) > longest:
            raise ValueError(f"a program has {len(ids):,} tokens; this model predicts those of at most {longest:,}")
        return Request(tuple(ids), self._trained, stop_ids=(self.vocabulary.eos_id,))

    def _pieces(self, tokens: Iterable[Token]) -> Iterator[tuple[str, float]]:
        """The pieces that tokens spell, with log-probabilities."""
        scored = ((token.id, token.logprob) for token in tokens)
        return pieces_of_ids(self.vocabulary, self._form.control_symbols, scored)
