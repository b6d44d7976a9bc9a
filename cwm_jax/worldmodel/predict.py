"""Predicting what a program does without running it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cwm_jax import config as configuration
from cwm_jax.data.prepare import VOCABULARY, DataConfig
from cwm_jax.inference.engine import Engine, EngineConfig
from cwm_jax.inference.request import Request
from cwm_jax.model.transformer import rebuilder
from cwm_jax.text.vocabulary import SentencePieceVocabulary
from cwm_jax.tracing import Trace
from cwm_jax.tracing.compact.symbols import plain
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.runs import newest_run as newest_run
from cwm_jax.training.state import trained_weights

_LONGEST_PROMPT = 4  # times the longest row trained on; beyond, memory grows and nothing right comes out


class WorldModel:
    """A trained model with its vocabulary and its form of traces.

    Attributes:
      experiment: the configuration that it was trained with.
      step: training steps of the checkpoint.
      vocabulary: its vocabulary.
      engine: answers with it.
    """

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
        trained = max(self.experiment.data.buckets)
        config = EngineConfig(max_length=(_LONGEST_PROMPT + 1) * trained)
        pages = config.slots * -(-2 * trained // config.page)  # most sequences are no longer; one of any length fits
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
        prompts = [self.vocabulary.encode_segments(self._form.context(context)) for context in contexts]
        trained = max(self.experiment.data.buckets)
        longest = _LONGEST_PROMPT * trained
        if (found := max(map(len, prompts), default=0)) > longest:
            raise ValueError(f"a program has {found:,} tokens; this model predicts those of at most {longest:,}")
        stop = (self.vocabulary.eos_id,)
        requests = [Request(tuple(prompt), trained, stop_ids=stop) for prompt in prompts]
        for context, answer in zip(contexts, self.engine.generate(requests)):
            yield self._form.trace(context, self._pieces(answer.ids))

    def _pieces(self, ids: list[int]) -> Iterator[str]:
        """Ids as pieces: control symbols by name, the plain text between them whole."""
        controls = {self.vocabulary.token_id(symbol): symbol for symbol in self._form.control_symbols}
        text: list[int] = []
        for token in ids:
            if token not in controls:
                text.append(token)
                continue
            if text:
                yield from plain(self.vocabulary.decode(text))
                text = []
            yield controls[token]
        if text:
            yield from plain(self.vocabulary.decode(text))
