"""Weights in use: those of a run of `train`, or of a folder of weights, with all that asking them takes."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cwm_jax.checkpoints.weights import INDEX, WeightsReader, stacked
from cwm_jax.model.transformer import ModelConfig, Params
from cwm_jax.text.load import load_fitting
from cwm_jax.text.vocabulary import Vocabulary
from cwm_jax.training.state import experiment_of, trained_weights


class Trained(NamedTuple):
    """A model as its folder holds it.

    Attributes:
      model: its shape.
      vocabulary: of its text.
      longest: tokens of the longest row that it was trained on.
      step: of training that it comes from; 0 where nobody tells.
      params: the weights, float32, on one device, adapters merged.
    """

    model: ModelConfig
    vocabulary: Vocabulary
    longest: int
    step: int
    params: Params

    @property
    def identity(self) -> str:
        """Tells them from others, of the same name, vocabulary and step too."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(self.params):
            digest.update(np.ascontiguousarray(leaf))
        return f"{self.vocabulary.fingerprint} {self.step} {digest.hexdigest()[:16]}"


def trained(folder: Path) -> Trained:
    """The newest checkpoint of a run, or a folder of weights that a run was exported to, with its vocabulary.

    Raises:
      FileNotFoundError: there is no such thing, no checkpoint yet, or no vocabulary.
      ValueError: it is damaged, or does not tell how long its rows were, as weights that were converted.
    """
    folder = Path(folder)
    if (folder / "config.gin").exists():
        experiment = experiment_of(folder)
        size = experiment.data.size_of_vocabulary(folder)
        vocabulary = load_fitting(folder / "data", size)
        step, params = trained_weights(folder, experiment, size)
        return Trained(experiment.model, vocabulary, max(experiment.data.buckets), step, params)
    if not (folder / INDEX).exists():
        raise FileNotFoundError(
            f"{folder} is neither the folder of a run, with its config.gin, nor one of weights, with {INDEX}; name one "
            "that `train --out` or `export` wrote"
        )
    reader = WeightsReader(folder)
    index = reader.index
    if index.longest is None:
        raise ValueError(
            f"{folder} does not tell how long its rows were, as converted weights: serve them and name the server, "
            "--endpoint URL; those of a run `export` anew"
        )
    vocabulary = load_fitting(folder, index.vocab_size)
    params = stacked(reader, lambda name, array: jnp.asarray(array, jnp.float32))
    return Trained(index.model, vocabulary, index.longest, index.step, params)
