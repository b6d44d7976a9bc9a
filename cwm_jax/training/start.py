"""Where a run starts: from random weights, from weights on disk, or from where an earlier run ended. Each a component.

What a run continues counts on in its schedule: `steps` of the optimiser and `tokens` seen before the first step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from cwm_jax.checkpoints.training import Checkpoints
from cwm_jax.checkpoints.weights import SHAPE, WeightsReader, stacked
from cwm_jax.model.transformer import ModelConfig, Params


@dataclass(frozen=True)
class FreshStart:
    """From random weights, which the model initialises."""

    steps: ClassVar[int] = 0
    tokens: ClassVar[int] = 0

    def weights(self, model: ModelConfig, shapes: Params, fresh: Callable[[], Params]) -> Params:
        return fresh()


@dataclass(frozen=True)
class Weights:
    """From weights that lie in a folder; the optimiser starts anew.

    Attributes:
      folder: that `convert --to orbax` or `export` wrote, or of an earlier run, whose newest checkpoint counts.
    """

    folder: str
    steps: ClassVar[int] = 0
    tokens: ClassVar[int] = 0

    @property
    def of_run(self) -> bool:
        """Whether the folder is that of a run, which `state.py` reads."""
        return (Path(self.folder) / "config.gin").exists()

    def weights(self, model: ModelConfig, shapes: Params, fresh: Callable[[], Params]) -> Params:
        """All weights, in the dtype on disk.

        Args:
          model: the shape they must have.
          shapes: shape and sharding of each.
          fresh: not called.

        Raises:
          FileNotFoundError: the folder holds no weights.
          ValueError: they are damaged, or of another shape of model.
        """
        reader = WeightsReader(Path(self.folder))
        there = reader.index
        self.check(there.model, there.vocab_size, model, shapes)

        def place(name: str, array: np.ndarray) -> jax.Array:
            sharding = (shapes["blocks"] | shapes)[name].sharding
            return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])

        return stacked(reader, place)

    def check(self, there: ModelConfig, vocab_size: int, model: ModelConfig, shapes: Params) -> None:
        """Raises ValueError where weights of one shape are not those of `model`."""
        fields = [(name, getattr(there, name), getattr(model, name)) for name in SHAPE]
        fields += [("vocab_size", vocab_size, shapes["embed"].shape[0])]
        if wrong := [f"{name} {found} there, {wanted} here" for name, found, wanted in fields if found != wanted]:
            raise ValueError(f"Weights.folder={self.folder} holds another model: {'; '.join(wrong)}")


@dataclass(frozen=True)
class Continue:
    """From the last checkpoint of an earlier run, optimiser state and place on the schedule included.

    The two numbers stand here and are not read from the run, so that a configuration alone tells its learning rates.

    Attributes:
      run: its folder.
      steps: its length.
      tokens: what it had seen at its end.
    """

    run: str
    steps: int
    tokens: int

    def load(self, shapes: Any) -> Any:
        """The earlier run's state, laid out as `shapes` says.

        Raises:
          FileNotFoundError: the run has no checkpoint.
          ValueError: it has not come to its end.
        """
        with Checkpoints(Path(self.run) / "checkpoints", 1) as checkpoints:
            if checkpoints.latest is None:
                raise FileNotFoundError(f"Continue.run={self.run} holds no checkpoint; train it first")
            if checkpoints.latest != self.steps:
                raise ValueError(
                    f"Continue.run={self.run} is at step {checkpoints.latest:,}, Continue.steps={self.steps:,}; "
                    "train it to its end, or set the number"
                )
            return checkpoints.restore(shapes)[1]
