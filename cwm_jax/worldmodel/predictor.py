"""What says the traces of programs whole: a model, or the programs themselves."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cwm_jax.tracing import Trace

if TYPE_CHECKING:
    from cwm_jax.worldmodel.predict import WorldModel


class TracePredictor(Protocol):
    """Says what programs will do from first to last; `WorldModel` and `RealRun` are such."""

    def predict(self, contexts: Sequence[str]) -> Iterator[Trace]:
        """The trace of each context, in order; one that breaks off has `complete` False."""


def model_of(checkpoint: Path | None, needed: bool = True) -> "WorldModel | None":
    """The model of a run's folder, by default the newest; None where there is none and none is needed.

    Raises:
      FileNotFoundError: there is no model although one is named or needed.
      ValueError: as `WorldModel`.
    """
    from cwm_jax.training.runs import newest_run
    from cwm_jax.worldmodel.predict import WorldModel

    try:
        run = checkpoint or newest_run()
    except FileNotFoundError:
        if needed:
            raise
        return None
    return WorldModel(run)
