"""What says the traces of programs: a model, or the programs themselves."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cwm_jax.tracing import Isolation, Limits, Trace, record_many


class Predictor(Protocol):
    """Says what programs will do; `WorldModel` is one."""

    def predict(self, contexts: Sequence[str]) -> Iterator[Trace]:
        """The trace of each context, in order; one that breaks off has `complete` False."""


class RealRollout:
    """The baseline: runs each program for real, within limits, and says what it did.

    What it says is right as far as it goes, so it bounds what a model's rollout of that many frames can be good for.
    """

    def __init__(self, frames: int = 512, isolation: Isolation = Isolation.BUBBLEWRAP):
        """`frames`: the longest trace, as a model's longest output would be."""
        self._limits = Limits(max_frames=frames, wall_seconds=5.0, cpu_seconds=5)
        self._isolation = isolation

    def predict(self, contexts: Sequence[str]) -> Iterator[Trace]:
        """The trace of each context, in order."""
        return record_many(contexts, self._limits, self._isolation)


def predictor_of(checkpoint: Path | None, needed: bool) -> Predictor | None:
    """The model of a run's folder, by default the newest; None where there is none and none is needed.

    Raises:
      FileNotFoundError: there is no model although one is named or needed.
      ValueError: as `WorldModel`.
    """
    from cwm_jax.worldmodel.predict import WorldModel, newest_run

    try:
        run = checkpoint or newest_run()
    except FileNotFoundError:
        if needed:
            raise
        return None
    return WorldModel(run)
