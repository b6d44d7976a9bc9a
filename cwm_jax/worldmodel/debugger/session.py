"""A debugging session: frames so far, commands that add to them, and every command undone by `back`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from cwm_jax.tracing import Frame
from cwm_jax.tracing.language import compress
from cwm_jax.tracing.trace import Event
from cwm_jax.worldmodel.debugger.breakpoints import Breakpoint, Breakpoints
from cwm_jax.worldmodel.debugger.evaluate import evaluate
from cwm_jax.worldmodel.debugger.going import Going
from cwm_jax.worldmodel.debugger.outcomes import EXCEPTION, RETURN, Parting, Refused, Stop
from cwm_jax.worldmodel.debugger.program import Program
from cwm_jax.worldmodel.debugger.walk import Scope, Walk
from cwm_jax.worldmodel.predictors import Future, Predicted, Predictor
from cwm_jax.worldmodel.real import RealRun, paired

_MOST_SAMPLES = 64  # futures drawn at once; nobody reads more


class Session:
    """One walk through what a program does, as a predictor says it.

    Commands raise `Refused` where they make no sense, and leave everything as it was. A step over is one forced
    prediction: nothing is said of what happens inside, so breakpoints there are not seen.

    Args:
      program: what is debugged.
      predictor: says what comes next.
      real: runs the program for `verify`.

    Attributes:
      watch: told how many frames a command has added so far; True stops the command there.
      frames: all frames so far; the first is the call of the entry.
      breakpoints: where `continue_` stops; `back` does not touch them.
      offered: what `futures` drew last.

    Raises:
      Refused: not even the first frame can be predicted. ValueError: the program cannot be, for what its message says.
    """

    def __init__(self, program: Program, predictor: Predictor, real: RealRun):
        self.program, self.predictor = program, predictor
        self.breakpoints = Breakpoints()
        self.offered: tuple[Future, ...] = ()
        self.watch: Callable[[int], bool] = lambda count: False
        self._real = real
        self._past: list[tuple[Predicted, ...]] = []
        self.frames: tuple[Predicted, ...] = ()
        self._walked = self.frames, Walk()
        going = self._going()
        if not going.one("call"):
            raise Refused(f"nothing is predicted for this program: {going.broken}")
        self.frames = self._first = tuple(going.frames)

    @property
    def at(self) -> Frame:
        """The present frame: about to run for a call or line, over for the others."""
        return self.frames[-1].frame

    @property
    def scopes(self) -> list[Scope]:
        """The open calls, the entry first."""
        return self._walk().scopes

    @property
    def ended(self) -> bool:
        """Whether the entry has returned."""
        return self._walk().ended

    @property
    def commands(self) -> int:
        """How many commands `back` can undo."""
        return len(self._past)

    def state(self, level: int = -1) -> dict[str, str]:
        """The locals of an open call by name, and for the innermost what it returns or raises just now."""
        scopes = self.scopes
        if self.at.value is None or scopes[level] is not scopes[-1]:
            return scopes[level].locals
        return scopes[level].locals | {EXCEPTION if self.at.event == "exception" else RETURN: self.at.value}

    def sure(self, level: int = -1) -> dict[str, float]:
        """The probability of each value of `state` when it was spelled."""
        scopes = self.scopes
        own = dict(self.frames[-1].values).get("")
        if self.at.value is None or own is None or scopes[level] is not scopes[-1]:
            return scopes[level].sure
        return scopes[level].sure | {EXCEPTION if self.at.event == "exception" else RETURN: own}

    def evaluate(self, expression: str, level: int = -1) -> object:
        """The value of an expression over the locals of an open call; raises `CannotEvaluate`."""
        return evaluate(expression, self.state(level))

    def step(self) -> Stop:
        """One frame on, into calls."""
        return self._move(lambda going: going.one(going.into))

    def next(self) -> Stop:
        """On to the next frame of this function or its caller; calls are stepped over, each in one prediction."""
        return self._move(lambda going: going.over_calls(lambda frame: True))

    def return_(self) -> Stop:
        """On to where the present function returns; calls on the way are stepped over."""
        return self._move(lambda going: going.over_calls(_returns))

    def out(self) -> Stop:
        """As `return_`, and one frame on, in the caller."""
        return self._move(lambda going: going.over_calls(_returns) and going.one())

    def finish(self) -> Stop:
        """On to where the present function returns, in one prediction."""
        return self._move(lambda going: going.one("return"))

    def until(self, line: int | None = None) -> Stop:
        """On to a line of this function from `line` of the context on, or its return; calls are stepped over.

        Args:
          line: None for any behind the present one, as out of a loop.
        """
        goal = self.at.line + 1 if line is None else line
        return self._move(lambda going: going.over_calls(lambda frame: _returns(frame) or frame.line >= goal))

    def continue_(self) -> Stop:
        """On to the next breakpoint, or to the end."""
        stop = self._move(lambda going: going.some(lambda frame: False, going.into, self.breakpoints))
        if stop.breakpoint is not None and self.breakpoints.by_number[stop.breakpoint].temporary:
            self.breakpoints.remove(stop.breakpoint)
        return stop

    def futures(self, samples: int = 5, temperature: float = 1.0, seed: int = 0) -> tuple[Future, ...]:
        """Ways in which the present function may go on until it returns, the likeliest first; `take` goes along one.

        Equal ones are told once. Arguments as for `Predictor.futures`.
        """
        if not 1 <= samples <= _MOST_SAMPLES or not 0 <= seed < 1 << 31:
            raise Refused(
                f"futures: draw 1 to {_MOST_SAMPLES} with a seed from 0 to 2**31 - 1, not {samples} with {seed}"
            )
        going = self._going()
        self._check(going)

        def over(new: Sequence[Predicted]) -> bool:
            events = [each.frame.event for each in new]
            return events[-1] == "return" and events.count("return") > events.count("call")

        drawn = self.predictor.futures(
            self.program.context,
            [each.frame for each in self.frames],
            first=going.into,
            until=over,
            samples=samples,
            temperature=temperature,
            seed=seed,
        )
        different = {tuple(each.frame for each in future.frames): future for future in drawn}
        self.offered = tuple(sorted(different.values(), key=lambda future: -future.logprob))
        self._offered_at = self.frames
        return self.offered

    def take(self, index: int) -> Stop:
        """Goes along one of the futures that `futures` drew here; the first has index 0."""
        if not self.offered or self._offered_at is not self.frames:
            raise Refused("no futures were drawn here; draw some first")
        if not 0 <= index < len(self.offered):
            raise Refused(f"there is no future {index + 1}; there are {len(self.offered)}")
        future = self.offered[index]
        if not future.frames:
            raise Refused(f"that future has no frames: {future.reason or 'the trace ends here'}")
        self._go_to((*self.frames, *future.frames))
        return self._stop(future.reason)

    def jump(self, line: int) -> Stop:
        """Has line `line` of the context run next, in place of the one that was to."""
        self._must_be_open_to_change()
        scope = self.scopes[-1]
        code = self.program.function(self.frames[scope.call].frame.line, tuple(scope.locals))
        if code is None or line not in (lines := self.program.lines_of(code)) or line == code.co_firstlineno:
            inside = sorted(lines - {code.co_firstlineno}) if code else []
            told = ", ".join(self.program.place(number) for number in inside) or "none"
            raise Refused(f"cannot jump to line {self.program.place(line)}; the lines of this function are: {told}")
        if self.at.event not in ("call", "line"):
            raise Refused(f"cannot jump from a {self.at.event}; step on to a line first")
        before, values = (self.frames, ()) if self.at.event == "call" else (self.frames[:-1], self.frames[-1].values)
        self._go_to((*before, self._changed("line", line, scope.locals, before, dict(values))))
        return self._stop()

    def assign(self, name: str, value: str) -> Stop:
        """Sets a local of the innermost call, or what it returns (`__return__`), to a value given as its `repr`."""
        self._must_be_open_to_change()
        frame, scope = self.at, self.scopes[-1]
        if frame.event in ("call", "line"):
            if not name.isidentifier() or name in (RETURN, EXCEPTION):
                raise Refused(f"{name!r} is no local; this function does not return or raise here")
            if frame.event == "call" and name not in scope.locals:
                raise Refused(f"{name!r} is no argument of this call; the arguments are: {', '.join(scope.locals)}")
            before = self.frames[:-1]
            state, values = scope.locals | {name: value}, dict(self.frames[-1].values) | {name: 1.0}
            self._go_to((*before, self._changed(frame.event, frame.line, state, before, values)))
        elif name == (RETURN if frame.event == "return" else EXCEPTION):
            changed = Frame(frame.event, frame.source, value=value, line=frame.line)
            last = replace(self.frames[-1], frame=changed, values=(("", 1.0),), changed=True)
            self._go_to((*self.frames[:-1], last))
        else:
            raise Refused(f"only what the function {frame.event}s can be set here; step on to a line first")
        return self._stop()

    def back(self, count: int = 1) -> None:
        """Undoes the last commands that moved or changed anything."""
        if not 1 <= count <= len(self._past):
            raise Refused(f"cannot go back {count} commands; there were {len(self._past)}")
        self.frames = self._past[-count]
        del self._past[-count:]

    def reverse_step(self) -> Stop:
        """One frame back."""
        if len(self.frames) == 1:
            raise Refused("this is the first frame")
        self._go_to(self.frames[:-1])
        return Stop("step")

    def reverse_continue(self) -> Stop:
        """Back to the last breakpoint before, or to the first frame."""
        if len(self.frames) == 1:
            raise Refused("this is the first frame")
        walk, last, stop = Walk(), 1, Stop("step", "the first frame")
        for count, each in enumerate(self.frames[:-1], start=1):
            before = {} if each.frame.event == "call" else walk.locals
            if hit := self.breakpoints.hit(each.frame, before, walk.push(each).locals):
                last, stop = count, Stop("breakpoint", hit[1], hit[0].number)
        self._go_to(self.frames[:last])
        return stop

    def reset(self) -> Stop:
        """Back to the first frame, as it was before anything was changed."""
        self._go_to(self._first)
        return Stop("step")

    def verify(self) -> Parting:
        """Holds the frames so far against the real run, in the sandbox. Raises what `record` raises."""
        trace = self._real.trace(self.program.context)
        leaps = {index for index, each in enumerate(self.frames) if each.asked}
        places, expected = paired(trace.frames, [each.frame for each in self.frames], leaps)
        index = len(places) if len(places) < len(self.frames) else None
        changed = any(each.changed for each in self.frames[: len(places) + 1])
        real = None if expected is None else trace.frames[expected]
        run = f"the real run {trace.verdict} after {len(trace.frames):,} frames"
        run = f"{run}: {trace.reason}" if trace.reason else run
        return Parting(len(self.frames), index, real, changed, run)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from cwm_jax.worldmodel.debugger.picture import picture

        return picture(self)

    def _move(self, advance: Callable[[Going], object]) -> Stop:
        going = self._going()
        self._check(going)
        advance(going)
        if len(going.frames) == len(self.frames):
            raise Refused(f"the prediction breaks off here: {going.broken}")
        self._go_to(tuple(going.frames))
        return Stop("pause") if going.paused else self._stop(going.broken, *(going.hit or ()))

    def _walk(self) -> Walk:
        if self._walked[0] is not self.frames:  # every place and every local asks for it
            self._walked = self.frames, Walk(self.frames)
        return self._walked[1]

    def _going(self) -> Going:
        return Going(self.predictor, self.program.context, self.frames, self.watch)

    def _check(self, going: Going) -> None:
        if going.walk.ended:
            raise Refused("the program has returned; go back, or reset")

    def _go_to(self, frames: tuple[Predicted, ...]) -> None:
        self._past.append(self.frames)
        self.frames = frames

    def _stop(self, broken: str = "", hit: Breakpoint | None = None, note: str = "") -> Stop:
        if hit is not None:
            return Stop("breakpoint", note, hit.number)
        if broken:
            return Stop("broken", broken)
        return Stop("end" if self.ended else "step")

    def _must_be_open_to_change(self) -> None:
        if not self.predictor.what_if:
            raise Refused("a real run cannot be changed; debug by prediction (without --real) to ask what would be")
        if self.ended:
            raise Refused("the program has returned; go back, or reset")

    def _changed(
        self,
        event: Event,
        line: int,
        state: dict[str, str],
        before: tuple[Predicted, ...],
        values: dict[str, float],
    ) -> Predicted:
        """A frame as the user wants it, after the frames `before`."""
        baseline = None
        if event == "line" and before and before[-1].frame.locals is not None:
            baseline = Walk(before).scopes[-1].locals
        frame = Frame(event, self.program.lines[line - 1], locals=compress(state, baseline), line=line)
        return Predicted(frame, values=tuple(values.items()), changed=True)


def _returns(frame: Frame) -> bool:
    return frame.event == "return"
