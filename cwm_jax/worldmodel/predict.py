"""Predicting what a program does without running it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from cwm_jax import config as configuration
from cwm_jax.checkpoints.training import Checkpoints
from cwm_jax.data.prepare import VOCABULARY
from cwm_jax.inference.generate import Generator
from cwm_jax.model.sharding import MeshShape
from cwm_jax.model.transformer import rebuilder
from cwm_jax.text.vocabulary import SentencePieceVocabulary
from cwm_jax.tracing import Trace
from cwm_jax.tracing.compact.symbols import plain
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.state import abstract_state

_LONGEST_PROMPT = 4  # times the longest row trained on; beyond, memory grows and nothing right comes out


class WorldModel:
    """A trained model with its vocabulary and its form of traces.

    Attributes:
      experiment: the configuration that it was trained with.
      step: training steps of the checkpoint.
      vocabulary: its vocabulary.
    """

    def __init__(self, run: Path):
        """Loads the newest checkpoint of a run's folder.

        Raises:
          FileNotFoundError: the folder is no run, or holds no checkpoint yet.
        """
        run = Path(run)
        if not (run / "config.gin").exists():
            raise FileNotFoundError(f"{run} holds no config.gin; name the folder that `train --out` wrote")
        self.experiment = configuration.load([run / "config.gin"], [], Experiment)
        self.vocabulary = SentencePieceVocabulary.load(run / "data" / VOCABULARY)
        self._form = self.experiment.data.form
        self.step, params = _load_params(run, self.experiment, self.vocabulary.vocab_size)
        rebuild = rebuilder(self.experiment.model, self.vocabulary.vocab_size)
        self._generator = Generator(rebuild, params, self.vocabulary.eos_id)

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
        for context, ids in zip(contexts, self._generator(prompts, [trained] * len(prompts))):
            yield self._form.trace(context, self._pieces(ids))

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


def _load_params(run: Path, experiment: Experiment, vocab_size: int):
    """Step and weights of the newest whole checkpoint, on one device."""
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = abstract_state(experiment, vocab_size, MeshShape().build())
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state)
    with Checkpoints(run / "checkpoints", 1) as checkpoints:
        if checkpoints.latest is None:
            raise FileNotFoundError(f"{run / 'checkpoints'} holds no checkpoint yet; train first")
        step, loaded = checkpoints.restore(shapes)
        return step, loaded.params


def newest_run(root: Path = Path("runs")) -> Path:
    """The run under `root` whose checkpoint was written last.

    Raises:
      FileNotFoundError: there is none.
    """
    found = [folder.parent for folder in Path(root).glob("*/checkpoints") if any(folder.iterdir())]
    if not found:
        raise FileNotFoundError(f"no checkpoint under {root}/; make one with `make run`, or name one with --checkpoint")
    return max(found, key=lambda run: (run / "checkpoints").stat().st_mtime)
