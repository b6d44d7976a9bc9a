"""Going on from frames: what every forward command of a session is made of."""

from collections.abc import Callable, Sequence

from cwm_jax.tracing import Frame
from cwm_jax.tracing.trace import Event
from cwm_jax.worldmodel.debugger.breakpoints import Breakpoint, Breakpoints
from cwm_jax.worldmodel.debugger.walk import Walk
from cwm_jax.worldmodel.predictors import Predicted, Predictor

MAX_FRAMES = 10_000  # of a session, as many as a recorded trace may have


class Going:
    """Frames so far, and more of them as they are asked for.

    Attributes:
      frames: all of them.
      walk: the calls that are open.
      broken: why there is no next frame, where the prediction broke off.
      paused: whether whoever watches stopped it.
      hit: the breakpoint that ended it and a note, where one did.
    """

    def __init__(self, predictor: Predictor, context: str, frames: Sequence[Predicted], watch: Callable[[int], bool]):
        self.frames = list(frames)
        self.walk = Walk(frames)
        self.broken = ""
        self.paused = False
        self.hit: tuple[Breakpoint, str] | None = None
        self._predictor, self._context, self._watch = predictor, context, watch

    @property
    def at(self) -> Frame:
        return self.frames[-1].frame

    @property
    def into(self) -> Event | None:
        """The event that goes into a call, where one was just made."""
        return "line" if self.frames and self.at.event == "call" else None

    def one(self, first: Event | None = None) -> bool:
        """One frame on; whether there was one."""
        return self.some(lambda frame: True, first)

    def some(
        self, until: Callable[[Frame], bool], first: Event | None = None, stops: Breakpoints | None = None
    ) -> bool:
        """On to the frame that `until` says, or that hits one of `stops`; whether it came to that."""
        if self.walk.ended or self.broken or self.paused:
            return False
        done = False

        def stop(new: Sequence[Predicted]) -> bool:
            nonlocal done
            frame = new[-1].frame
            before = {} if frame.event == "call" else self.walk.locals
            scope = self.walk.push(new[-1])
            self.frames.append(new[-1])
            self.paused = self._watch(len(new))
            if stops is not None:
                self.hit = stops.hit(frame, before, scope.locals)
            done = until(frame) or self.hit is not None
            return done or self.paused or self.walk.ended or len(self.frames) >= MAX_FRAMES

        frames = [each.frame for each in self.frames]
        (future,) = self._predictor.futures(self._context, frames, first=first, until=stop)
        if not done and not self.paused and not self.walk.ended:
            early = "it ends before the entry has returned" if future.complete else ""
            self.broken = future.reason or early or f"a session has at most {MAX_FRAMES:,} frames"
        return done

    def over_calls(self, until: Callable[[Frame], bool]) -> bool:
        """As `some`, with the calls on the way stepped over, each in one prediction."""
        first = self.into
        while self.some(lambda frame: frame.event == "call" or until(frame), first):
            if self.at.event != "call":
                return True
            if not self.one("return"):
                return False
            first = None
        return False
