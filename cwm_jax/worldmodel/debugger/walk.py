"""The calls that are open at a frame, with their locals in full."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cwm_jax.tracing.trace import UNCHANGED
from cwm_jax.worldmodel.predictors import Predicted


@dataclass
class Scope:
    """A call that has not returned.

    Attributes:
      call: index of the frame that began it.
      at: index of its latest frame.
      line: number of the line in the context that it is at.
      locals: by name the `repr` of each local, as last seen.
      sure: by name the probability of the value when it was spelled last.
    """

    call: int
    at: int
    line: int
    locals: dict[str, str] = field(default_factory=dict)
    sure: dict[str, float] = field(default_factory=dict)


class Walk:
    """Goes along frames and knows which calls are open.

    Attributes:
      scopes: the open calls, the entry first; a call that returns at the latest frame is still among them.
      length: frames walked along.
      ended: whether the entry was left.
    """

    def __init__(self, frames: Iterable[Predicted] = ()):
        self.scopes: list[Scope] = []
        self.length = 0
        self._returned = False
        for frame in frames:
            self.push(frame)

    @property
    def ended(self) -> bool:
        return self._returned and len(self.scopes) == 1

    @property
    def depth(self) -> int:
        """How many calls are open once the latest frame is over."""
        return len(self.scopes) - self._returned

    @property
    def locals(self) -> dict[str, str]:
        """Those of the call that goes on unless another begins; empty where none does."""
        open_ = self.scopes[:-1] if self._returned else self.scopes
        return open_[-1].locals if open_ else {}

    def push(self, predicted: Predicted) -> Scope:
        """Goes on to a frame; the scope that it belongs to."""
        frame = predicted.frame
        if self._returned:
            self.scopes.pop()
        if frame.event == "call" or not self.scopes:
            self.scopes.append(Scope(self.length, self.length, frame.line))
        scope = self.scopes[-1]
        scope.at, scope.line = self.length, frame.line
        if frame.locals is not None:
            before = scope.locals
            scope.locals = {n: before.get(n, v) if v == UNCHANGED else v for n, v in frame.locals}
            scope.sure |= predicted.values
        self._returned = frame.event == "return"
        self.length += 1
        return scope
