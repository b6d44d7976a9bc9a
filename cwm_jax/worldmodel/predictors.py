"""Who predicts: traces whole, or what may come next after frames that are given, and how sure that is."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cwm_jax.tracing import Frame, Trace
from cwm_jax.tracing.trace import Event


@dataclass(frozen=True)
class Predicted:
    """A frame, and how it came about.

    Attributes:
      frame: the frame; it has a line number.
      sure: probability of its event and line given all before, from 0 to 1.
      values: by name the probability of each value that was spelled for it, given what stands before the value; "" is
        what is returned or raised. Locals that are not named are said to be unchanged.
      asked: whether its event was asked for, not the predictor's choice.
      changed: whether the user changed it.
    """

    frame: Frame
    sure: float = 1.0
    values: tuple[tuple[str, float], ...] = ()
    asked: bool = False
    changed: bool = False


Until = Callable[[Sequence[Predicted]], bool]  # asked about the new frames after each of them; True ends them there


@dataclass(frozen=True)
class Future:
    """One way in which frames go on.

    Attributes:
      frames: what follows, up to where `until` ended it.
      complete: whether the trace ended, that is the entry scope was left.
      reason: why it broke off; empty where it ended or was ended.
      logprob: natural logarithm of the probability of all that was predicted, under the untempered distribution.
    """

    frames: tuple[Predicted, ...]
    complete: bool = False
    reason: str = ""
    logprob: float = 0.0

    @property
    def probability(self) -> float:
        return math.exp(self.logprob)


class Predictor(Protocol):
    """Whoever says what a program does next: a world model, or the program itself.

    Attributes:
      what_if: whether it knows how things go on from frames that the program does not take.
    """

    what_if: bool

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
        """Ways in which a trace goes on.

        Args:
          context: source with a marked entry.
          frames: the trace so far, with line numbers.
          first: the event of the first new frame; None leaves it open. `return` directly after a call steps over it.
          until: ends a future; asked after every frame of every sample. None: at the end of the trace.
          samples: how many are drawn; fewer come back where there are no more.
          temperature: 0 for the likeliest, 1 for the predictor's own distribution.
          seed: of the first sample; the others take those that follow.

        Raises:
          ValueError: the context cannot be predicted, or nothing is known of what follows these frames.
        """


class TracePredictor(Protocol):
    """Says what programs will do from first to last; `WorldModel` and `RealRun` are such, too."""

    def predict(self, contexts: Sequence[str]) -> Iterator[Trace]:
        """The trace of each context, in order; one that breaks off has `complete` False."""
