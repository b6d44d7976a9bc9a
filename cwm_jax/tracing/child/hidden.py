"""Hidden state: what the locals of a frame do not show, beside each snapshot of them.

The program is compiled and run as it is without this. It is observed between its instructions, by no code of its own.
"""

import gc
import types
from collections.abc import Iterator

import tracer
from aliases import aliases
from loops import Loops, Stack
from remaining import COPIED, RANGES, REVERSED_LIST, SEQUENCES, remaining
from stack import code_and_stack, object_at
from values import TEXTS, Renderer, identity, nameless, to_json

ALIASES = "is"  # no variable can have this name, nor that of a loop
MOST_CHARS = 100  # of one value; our choice
MOST_ITEMS = 8  # of a list or tuple that is not shown in full
NESTING = 3  # of lists and tuples with objects of the program in them, shown item by item
ITERATORS = {*SEQUENCES, *RANGES, *COPIED, REVERSED_LIST, reversed, zip, enumerate, map, filter}


def make_tracer(entry: types.CodeType, lines: list, caps: dict, render, run):
    """The trace function of `tracer.py`, whose records of calls and lines have the hidden state as their last item."""
    return tracer.make_tracer(entry, lines, caps, render, run, HiddenState(render, "\n".join(lines), caps))


class HiddenState(tracer.Snapshots):
    """Snapshots with a second object beside the locals, by the same rule for what is unchanged.

    All of them together have as many characters as the trace may have; when those are used up, no more are taken.
    """

    def __init__(self, render, context: str, caps: dict):
        super().__init__(render)
        self._caps = caps
        self._room = caps["max_trace_chars"]
        self._loops = Loops(context.removeprefix("\ufeff"))
        self._stacks: dict[types.CodeType, dict[int, Stack]] = {}
        self._show = _Show()
        self._shown: dict[str, str] = {}

    def forget(self) -> None:
        super().forget()
        self.beside, self._shown = "", {}

    def take(self, frame: types.FrameType) -> str:
        text = super().take(frame)
        collects = gc.isenabled()
        gc.disable()  # that the program's garbage goes when it would without us
        try:
            self._observe(frame)
        finally:
            if collects:
                gc.enable()
        return text

    def _observe(self, frame: types.FrameType) -> None:
        try:
            shown = self._hidden(frame)
        except (RuntimeError, ValueError):  # another thread changes a container; a place of the stack is empty
            self.beside, self._shown = "", {}
            return
        pairs = [
            f"{to_json(key)}: {to_json('..' if self._shown.get(key) == text else text)}" for key, text in shown.items()
        ]
        beside = f",{{{', '.join(pairs)}}}"
        self._room -= len(beside)
        self.beside, self._shown = (beside, shown) if self._room >= 0 else ("", {})

    def _hidden(self, frame: types.FrameType) -> dict[str, str]:
        """By name: the iterators of running loops, outer ones first, those that variables hold, and aliases."""
        variables = [(name, value) for name, value in self._items(frame.f_locals) if type(name) is str]
        shown, running = {}, set()
        for name, iterator in self._running(frame):
            while name in shown:  # such as `for _ in range(2)` in itself
                name += "'"
            shown[name] = remaining(iterator, self._caps["items"], self._show)
            running.add(identity(iterator))
        for name, value in variables:
            if type(value) in ITERATORS and identity(value) not in running:
                shown[name] = remaining(value, self._caps["items"], self._show)
        if shared := aliases(variables, self._caps["depth"], self._caps["places"], self._show):
            shown[ALIASES] = shared
        return shown

    def _running(self, frame: types.FrameType) -> Iterator[tuple[str, object]]:
        """The loops that run in this frame, each with its iterator."""
        code, start, top = code_and_stack(frame)
        if (stacks := self._stacks.get(code)) is None:
            stacks = self._stacks[code] = self._loops.stacks(code)
        stack = stacks.get(frame.f_lasti, ())
        bottom = len({*code.co_varnames, *code.co_cellvars}) + len(code.co_freevars)
        if bottom + len(stack) == top:
            yield from ((name, object_at(start, bottom + at)) for at, name in enumerate(stack) if name)


class _Show(Renderer):
    """The text of a value within `MOST_CHARS`, or the start of it, without a `__repr__` of the program's own."""

    def __init__(self):
        super().__init__(MOST_CHARS, None, self._cut)
        self._nesting = NESTING

    def __call__(self, value: object, name: str = "") -> str:
        try:
            return super().__call__(value, name)
        except _Long:
            kind = type(value)
            if kind in TEXTS:
                return f"{value[:MOST_CHARS]!r}..."
            return self._item_by_item(value, kind)

    def _foreign(self, value: object, kind: type, subject: str) -> str:
        return repr(value) if kind is type else self._item_by_item(value, kind)

    def _item_by_item(self, value: object, kind: type) -> str:
        brackets = {list: "[]", tuple: "()"}.get(kind)
        if brackets is None or not self._nesting:
            return nameless(kind)
        self._nesting -= 1
        shown = [self(item) for item in value[:MOST_ITEMS]] + ["..."] * (len(value) > MOST_ITEMS)
        self._nesting += 1
        return f"{brackets[0]}{', '.join(shown)}{',' * (kind is tuple and len(shown) == 1)}{brackets[1]}"

    def _cut(self, verdict: str, detail: str) -> None:
        raise _Long


class _Long(Exception):
    pass
