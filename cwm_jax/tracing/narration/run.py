"""The calls of a trace as a tree, and what each frame changed."""

from collections import defaultdict
from dataclasses import dataclass, field

from cwm_jax.tracing.language import resolve, source_lines
from cwm_jax.tracing.narration.syntax import Block, Code, Syntax
from cwm_jax.tracing.trace import Trace


@dataclass(frozen=True)
class Call:
    """One stay in a piece of code, from a call frame to the next return frame of its own.

    Attributes:
      code: what was called.
      parent: index of the call that it happened in; None for the entry.
      during: the frame of the parent that it happened after; None for the entry.
      depth: calls around it.
      nested: how many of these are of the same code.
      resumed: whether it goes on where the code paused.
      frames: indices of its own frames.
    """

    code: Code
    parent: int | None
    during: int | None
    depth: int
    nested: int
    resumed: bool
    frames: list[int] = field(default_factory=list)


class Run:
    """A trace as its narrator sees it.

    Attributes:
      states: the full locals at each frame; for a return or exception those of its call's frame before.
      lines: the source lines by number, without indentation.
      calls: every call, in order.
      call_of: for each frame the index of the call that it belongs to.
      following: for each frame the index of the next one of the same call, or None.
    """

    def __init__(self, trace: Trace):
        """Reads `trace`.

        Raises:
          ValueError: its frames carry no line numbers or do not nest, or its context does not parse.
        """
        if any(frame.line is None for frame in trace.frames):
            raise ValueError("frames have no line numbers; narrate a recorded trace, not one parsed from text")
        self.frames = trace.frames
        self.syntax = Syntax(trace.context)
        self.lines = dict(enumerate(map(str.strip, source_lines(trace.context)), start=1))
        self.states = resolve(trace)
        self.calls: list[Call] = []
        self.call_of: list[int] = []
        self._entered: dict[int, list[Code]] = defaultdict(list)
        self.following: list[int | None] = [None] * len(trace.frames)
        self._read()

    def _read(self) -> None:
        stack: list[int] = []
        open_calls: dict[Code, int] = {}
        for index, frame in enumerate(self.frames):
            if frame.event == "call":
                code = self.syntax.called(frame.line, self.states[index])
                parent = stack[-1] if stack else None
                during = self.calls[parent].frames[-1] if stack else None
                if stack:
                    self._entered[during].append(code)
                resumed = code.pauses and code.kind == "function" and frame.line != code.first
                self.calls.append(Call(code, parent, during, len(stack), open_calls.get(code, 0), resumed))
                open_calls[code] = open_calls.get(code, 0) + 1
                stack.append(len(self.calls) - 1)
            elif not stack:
                raise ValueError(f"frame {index} ({frame.event}) belongs to no call; a trace begins with a call frame")
            call = self.calls[stack[-1]]
            self.call_of.append(stack[-1])
            if call.frames:
                self.following[call.frames[-1]] = index
                if frame.locals is None:
                    self.states[index] = self.states[call.frames[-1]]
            call.frames.append(index)
            if frame.event == "return":
                stack.pop()
                open_calls[call.code] -= 1

    def entered_from(self, index: int) -> list[str]:
        """The names of the code that frame `index` called, each once."""
        return list(dict.fromkeys(code.name for code in self._entered[index]))

    def call(self, index: int) -> Call:
        """The call that frame `index` belongs to."""
        return self.calls[self.call_of[index]]

    def block(self, index: int) -> Block | None:
        """The block whose head the line frame `index` stands on. Code inside a line has none."""
        frame = self.frames[index]
        if frame.event != "line" or self.call(index).code.kind == "inline":
            return None
        return self.syntax.blocks.get(frame.line)

    def entered(self, index: int) -> bool | None:
        """Whether control went from line frame `index`, on a block's head, into the body; None if not to be told."""
        block, after = self.block(index), self.following[index]
        if block is None or after is None or block.body == block.head:
            return None
        frame = self.frames[after]
        if frame.event == "line" and not block.in_head(frame.line):
            inside = block.in_body(frame.line)
            return inside if inside or block.sure else None
        return False if frame.event == "return" and block.sure else None

    def changes(self, index: int) -> list[tuple[str, str | None, str | None]]:
        """`changed` from frame `index` to the next line of its call; nothing where no line follows."""
        after = self.following[index]
        if after is None or self.frames[after].event != "line":
            return []
        return changed(self.states[index], self.states[after])


def changed(old: dict[str, str], new: dict[str, str]) -> list[tuple[str, str | None, str | None]]:
    """`(name, before, after)` of each local that differs; None where it is unbound."""
    names = dict.fromkeys([*old, *new])
    return [(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]
