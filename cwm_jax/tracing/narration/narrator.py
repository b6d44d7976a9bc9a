"""The narration of a trace: one line of plain English for each step, rendered from its frames by rules."""

from cwm_jax.tracing.narration.repeats import change, loops, numbered, stretches, summary
from cwm_jax.tracing.narration.run import Run
from cwm_jax.tracing.narration.wording import closing, final_of, join, quote
from cwm_jax.tracing.trace import Trace

# Our choices.
_DEEPEST = 8  # levels of indentation; recursion goes deeper
_SHORT = 40  # characters of a value that is worth repeating beside a condition


def narrate(trace: Trace, longest_told: int = 4) -> str:
    """What a run did, step by step, in plain English; the last line is its closing sentence.

    Every statement follows from the frames and the source. It holds no control token of the trace language.

    Args:
      trace: a recorded trace, complete or not.
      longest_told: of a loop with more passes than that, only the first and the last are told, the others
        summed up. Our choice; at least 2.

    Raises:
      ValueError: frames have no line numbers or do not nest, the context does not parse, or `longest_told` < 2.
    """
    if longest_told < 2:
        raise ValueError(f"longest_told={longest_told}: the first and the last pass are always told; give 2 or more")
    if not trace.frames:
        return closing(final_of(trace)) + "\n"
    return _Narrator(trace, longest_told).text()


_NOTHING = ["no local variable changes"]
_EMPTY = ("try:", "pass", "break", "continue")  # that they change nothing need not be said


class _Narrator:
    """Tells one trace."""

    def __init__(self, trace: Trace, longest_told: int):
        self._run = Run(trace)
        self._final = final_of(trace)
        self._skipped = stretches(self._run, longest_told)
        self._passes = {
            start: number
            for call in self._run.calls
            for block, starts in loops(self._run, call)
            if numbered(call, block)
            for number, start in enumerate(starts, start=1)
        }
        self._lines: list[str] = []

    def text(self) -> str:
        tell = {"call": self._call, "line": self._line, "return": self._return, "exception": self._exception}
        index = 0
        while index < len(self._run.frames):
            if stretch := self._skipped.get(index):
                for sentence in summary(self._run, stretch):
                    self._say(index, sentence)
                index = stretch.starts[-1]
            tell[self._run.frames[index].event](index)
            index += 1
        return "\n".join([*self._lines, closing(self._final)]) + "\n"

    def _say(self, index: int, sentence: str) -> None:
        depth = self._run.call(index).depth
        deep = f"(depth {depth}) " if depth > _DEEPEST else ""
        self._lines.append("  " * min(depth, _DEEPEST) + deep + sentence[0].upper() + sentence[1:])

    def _place(self, index: int) -> str:
        frame = self._run.frames[index]
        return f"line {frame.line}, {quote(frame.source.strip())}"

    def _call(self, index: int) -> None:
        call, state = self._run.call(index), dict(self._run.states[index])
        code, over = call.code, state.pop(".0", None)
        if call.resumed:
            verb = f"goes on from {self._place(index)}"
        elif code.pauses and (code.kind == "inline" or code.first == code.last):
            verb = "is entered"
        else:
            verb = "starts"
        if call.nested:
            others = "another call" if call.nested == 1 else f"{call.nested} other calls"
            verb += f" inside {others} of itself"
        given = [f"{quote(name)} = {quote(value)}" for name, value in state.items()]
        clauses = [f"{code.name} {verb}"]
        if over is not None:
            clauses.append(f"going over {quote(over)}")
        if given or over is None:
            clauses.append(f"with {join(given) or 'no local variables'}")
        self._say(index, ", ".join(clauses) + "".join(f"; {effect}" for effect in self._effects(index)) + ".")

    def _line(self, index: int) -> None:
        frame, after = self._run.frames[index], self._run.following[index]
        if after == index + 1 and self._run.frames[after].event == "return":
            told = [*self._control(index), self._ending(after)]
        elif after == index + 1 and self._run.frames[after].event == "line":
            told = self._effects(index) or _NOTHING * (frame.source.strip() not in _EMPTY)
        else:
            told = []
        called = index + 1 < len(self._run.frames) and self._run.frames[index + 1].event == "call"
        self._say(index, self._place(index) + (": " + "; ".join(told) + "." if told else ":" if called else "."))

    def _return(self, index: int) -> None:
        if not (self._run.frames[index - 1].event == "line" and self._run.following[index - 1] == index):
            self._say(index, self._ending(index) + ".")
        step = self._run.call(index).during
        if step is None or self._run.following[step] != index + 1 or self._run.frames[index + 1].event != "line":
            return
        effects = self._effects(step) or _NOTHING
        where = f"back in {self._run.call(step).code.name}, line {self._run.frames[step].line}"
        self._say(step, f"{where}: {'; '.join(effects)}.")

    def _exception(self, index: int) -> None:
        run, value = self._run, quote(self._run.frames[index].value)
        if run.frames[index - 1].event == "return":
            told = f"the exception {value} reaches {self._place(index)}"
        elif run.frames[index - 1].event == "call":
            told = f"the exception {value} comes up on {self._place(index)}"
        else:
            told = f"line {run.frames[index].line} raises {value}"
        self._say(index, "; ".join([told, *self._effects(index)]) + ".")

    def _ending(self, index: int) -> str:
        """How the call of the return frame `index` ends, as far as its frames tell."""
        run, call, frame = self._run, self._run.call(index), self._run.frames[index]
        before = call.frames[-2]
        if frame.value == "None" and self._left_by_exception(index, before):
            return f"{call.code.name} is left by the exception"
        failed = any(run.frames[own].event == "exception" for own in call.frames)
        known = index == len(run.frames) - 1 and self._final.how == "returned"
        if call.code.kind == "class" or (frame.value == "None" and failed and not known):
            return f"{call.code.name} ends"
        verb = "returns"
        if call.code.pauses:
            simple = frame.line in run.syntax.yields and call.code.kind == "function"
            ran = run.frames[before].event == "line" and run.frames[before].line == frame.line
            verb = "yields" if simple and ran else "hands back"
        name = "it" if call.code.kind == "inline" and before == index - 1 else call.code.name
        return f"{name} {verb} {quote(frame.value)}"

    def _left_by_exception(self, index: int, before: int) -> bool:
        frames = self._run.frames
        if index == len(frames) - 1:
            return self._final.how == "raised"
        after = frames[index + 1]
        raised = frames[before].event == after.event == "exception"
        return before == index - 1 and raised and frames[before].value == after.value

    def _effects(self, index: int) -> list[str]:
        """What came of frame `index`, once the next line of its call is reached: control, then variables."""
        run, bound = self._run, ()
        block = run.block(index)
        if block and block.kind == "for" and run.entered(index):
            bound = block.names
        changes = [change(*item) for item in run.changes(index) if item[0] not in bound]
        return self._control(index) + changes

    def _control(self, index: int) -> list[str]:
        """Where control goes from the head of a condition or loop."""
        run, block = self._run, self._run.block(index)
        if block is None or (entered := run.entered(index)) is None:
            return []
        begins = f"pass {self._passes[index]} begins" if index in self._passes else "the body is entered"
        if block.kind == "for":
            if not entered:
                return ["the loop is over"]
            after = run.states[run.following[index]]
            bound = [f"{quote(name)} = {quote(after[name])}" for name in block.names if name in after]
            return [begins + (f" with {join(bound)}" if bound else "")]
        state = run.states[index]
        read = [name for name in block.names if name in state and len(state[name]) <= _SHORT]
        values = ", ".join(f"{quote(name)} is {quote(state[name])}" for name in read)
        outcome = f"the condition is {'true' if entered else 'false'}{values and f' ({values})'}"
        if block.kind == "if":
            return [outcome]
        return [outcome, begins if entered else "the loop is over"]
