"""The program itself as its predictor: the true run, recorded once, stands in for a model.

So the debugger works on real runs, forwards and backwards, and a prediction can be held against what happens.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Frame, Limits, Trace, record, record_many
from cwm_jax.tracing.trace import UNCHANGED, Event
from cwm_jax.worldmodel.predictors import Future, Predicted, Until


class RealRun:
    """A `Predictor` and `TracePredictor` that runs programs and answers from their true traces.

    As far as it goes it is right, so within the limits of a model's longest output it bounds what the model can reach.

    Args:
      isolation: how far to keep them from the machine.
      limits: caps on a run; the recorder's own if None.
    """

    what_if = False

    def __init__(self, isolation: Isolation = Isolation.BUBBLEWRAP, limits: Limits | None = None):
        self._settings = limits or Limits(), isolation
        self._record = lru_cache(maxsize=4)(lambda context: record(context, *self._settings))

    def trace(self, context: str) -> Trace:
        """The true trace; the program runs when it is first asked for. Raises what `record` raises."""
        return self._record(context)

    def predict(self, contexts: Sequence[str]) -> Iterator[Trace]:
        """The true trace of each context, in order."""
        return record_many(contexts, *self._settings)

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
        """The one future that there is, as `Predictor` says.

        Raises:
          ValueError: the frames are not those of the run: a real past cannot be changed.
        """
        trace = self.trace(context)
        places = paired(trace.frames, frames).places
        if len(places) < len(frames):
            raise ValueError(
                f"the real run does not do what frame {len(places) + 1} says, and it has no other past; go back, or "
                "debug by prediction (without --real) to ask what would have been"
            )
        start = _following(trace.frames, places, leap=first == "return")
        found: list[Predicted] = []
        ended = False
        for index in range(start, len(trace.frames)):
            frame = trace.frames[index]
            shown = [name for name, value in frame.locals or () if value != UNCHANGED]
            values = tuple((name, 1.0) for name in (shown if frame.value is None else [""]))
            found.append(Predicted(frame, values=values, asked=first is not None and not found))
            if ended := until is not None and until(found):
                break
        complete = trace.complete and start + len(found) == len(trace.frames)
        cut = "" if ended or complete else f"the run was cut short ({trace.verdict}): {trace.reason}"
        return [Future(tuple(found), complete, cut)]


class Pairing(NamedTuple):
    """How far frames are those of a run.

    Attributes:
      places: for each frame, up to the first that is none of the run's, the index of the frame of the run.
      expected: index of the frame that the run has in place of that first one; None where it had ended, or all fit.
    """

    places: list[int]
    expected: int | None


def paired(real: Sequence[Frame], frames: Sequence[Frame], leaps: Collection[int] | None = None) -> Pairing:
    """Finds frames in a recorded run.

    Args:
      real: the run.
      frames: a trace of the same program, in which a return may stand for all that its call did until then.
      leaps: indices of the frames that may do so; None: every return.
    """
    ends = _ends(real)
    places: list[int] = []
    for index, frame in enumerate(frames):
        at = places[-1] if places else -1
        may_leap = frame.event == "return" and (leaps is None or index in leaps)
        following = [at + 1, *([ends[at]] if may_leap and at in ends else [])]
        fitting = [place for place in following if place < len(real) and real[place] == frame]
        if not fitting:
            return Pairing(places, following[-1] if following[-1] < len(real) else None)
        places.append(fitting[0])
    return Pairing(places, None)


def _following(real: Sequence[Frame], places: list[int], leap: bool) -> int:
    """Index of the frame behind those at `places`, or of the return of the call that is open there."""
    if leap and places:
        return _ends(real).get(places[-1], len(real))
    return places[-1] + 1 if places else 0


def _ends(frames: Sequence[Frame]) -> dict[int, int]:
    """For each frame that leaves a scope open, the index of the return that closes the scope."""
    ends: dict[int, int] = {}
    scopes: list[list[int]] = []
    for index, frame in enumerate(frames):
        if frame.event == "call" or not scopes:
            scopes.append([])
        if frame.event == "return":
            ends |= dict.fromkeys(scopes.pop(), index)
        if scopes:
            scopes[-1].append(index)
    return ends
