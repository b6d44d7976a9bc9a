"""The compact form of a trace: what a tiny model reads and writes in place of CWM's text.

CWM's text repeats every source line and every unchanged local; a model of half a
million parameters spends its budget on copying. The compact form says the same in
about a third of the tokens, and CWM's text follows from it exactly:

- in the context, a label `<|Lk|>` stands before the k-th line of code, and `<|trace_context_start|>` in place of
  the start marker; indentation, blank lines, comments, docstrings and `else:`, which no frame needs, are left out;
- after its label, a line of the context says where control goes next (see `flow.py`): the functions that it
  calls, then the label of one line or, after a condition, of two; `<|return_sep|>` where the function ends;
- a frame names its line by that label instead of copying it; the event of a line that another pass of a loop
  comes back to is `<|again|>`;
- the locals that a line writes follow its own label, with their values even where they come out equal, and not
  the label of the next line; whoever is not listed is unchanged. Arguments stand before the label of their call;
- after what a call returned or raised stands the label of the line that goes on, and what it writes; CWM prints all
  locals in full there, so a reader keeps those of every call;
- before a value, or where a line writes none, stands how it comes about (see `workings.py`), which a reader skips.

    <|L3|><|L4|>n = 0 … <|call_sep|>s<|arg_sep|>'abc'<|L2|> <|line_sep|><|L3|>n<|arg_sep|>0 <|line_sep|><|L4|> …
    <|line_sep|><|L5|>n<|arg_sep|>0 + 1<|equals|>1 … <|return_sep|><|L6|>2 …

(without the blanks). Our choice: shown to users is CWM's text, always.
"""

import ast
import io
import tokenize
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import ClassVar

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.flow import Flow, Step
from cwm_jax.tracing.language import EVENT_TOKENS, TraceSyntaxError, compress, source_line
from cwm_jax.tracing.trace import START_MARKER_PATTERN, UNCHANGED, Frame, Trace
from cwm_jax.tracing.workings import EQUALS, PASSES, Workings

MAX_LINES = 64
LINE_LABELS = tuple(f"<|L{number}|>" for number in range(1, MAX_LINES + 1))
AGAIN = "<|again|>"  # the event of a line that begins another pass of its loop
CONTROL_SYMBOLS = (*st.TRACE_TOKENS, AGAIN, EQUALS, *LINE_LABELS, *PASSES)
_NUMBER_OF = {label: number for number, label in enumerate(LINE_LABELS, start=1)}
_EVENT_OF = {token: event for event, token in EVENT_TOKENS.items()} | {AGAIN: "line"}
_ENDS = frozenset((*_EVENT_OF, st.END_OF_TEXT))
_IS_CONTROL = frozenset(CONTROL_SYMBOLS)
NAME_END = st.ARG_SEP  # between a name and its value
VALUE_END = st.FRAME_SEP  # between one local and the next
ALL_LOCALS = st.ACTION_SEP  # the locals that follow are all there are, in this order


@dataclass(frozen=True)
class Compact:
    """Writes and reads the compact form. A component: `DataConfig.form = @Compact()`."""

    control_symbols: ClassVar[tuple[str, ...]] = CONTROL_SYMBOLS

    def context(self, context: str) -> list[str]:
        """The pieces (control symbols and plain text) that a prediction starts from.

        Raises:
          ValueError: the context has more lines than there are labels.
        """
        lines = _code_lines(context)
        if len(lines) > MAX_LINES:
            raise ValueError(f"the context has {len(lines)} lines of code; the compact form labels at most {MAX_LINES}")
        pieces = [st.BEGIN_OF_TEXT]
        physical, flow, labels = context.split("\n"), Flow(context), dict(zip(lines, LINE_LABELS))
        for number, code in lines.items():
            pieces.append(labels[number])
            for called in flow.calls.get(number, ()):
                pieces += [st.CALL_SEP, labels[called]]
            for step in flow.steps.get(number, ()):
                pieces += _step(step, labels)
            pieces.append(code)
            if START_MARKER_PATTERN.search(physical[number - 1]):
                pieces.append(st.TRACE_CONTEXT_START)
        return [*pieces, st.FRAME_SEP]

    def frames(self, trace: Trace) -> list[str]:
        """The pieces of all frames, `<|end_of_text|>` last if the trace is complete. Frames need line numbers."""
        writes, scribe = _Writes(trace.context), _Scribe(trace.context)
        labels = dict(zip(_code_lines(trace.context), LINE_LABELS))
        pieces: list[str] = []
        for frame, after in zip_longest(trace.frames, trace.frames[1:]):
            working = _Working()
            if frame.locals is None:
                pieces += [EVENT_TOKENS[frame.event], labels[frame.line], *_plain(frame.value)]
                scribe.leave(frame.event)
                if not scribe.calls:
                    continue
                call = scribe.calls[-1]
                pieces.append(labels[call.line])
            else:
                if frame.event == "call" or not scribe.calls:
                    scribe.calls.append(_Call(frame.line, dict(frame.locals)))
                call = scribe.calls[-1]
                again = frame.event == "line" and scribe.again(frame.line)
                pieces.append(AGAIN if again else EVENT_TOKENS[frame.event])
                if frame.event == "call":
                    pieces += _listed(call.state)
                else:
                    working = scribe.working(frame.line, again)
                pieces.append(labels[frame.line])
                call.line = frame.line
            if after is not None and after.event == "line":
                before, call.state = call.state, _full(after, call.state)
                pieces += _changes(before, call.state, writes.between(call.line, after.line), working)
            else:
                pieces += [*working.first, *working.steps]
        return [*pieces, st.END_OF_TEXT] if trace.complete else pieces

    def event_indices(self, pieces: list[str]) -> list[int]:
        """Where in the pieces of `frames` each frame begins."""
        return [index for index, piece in enumerate(pieces) if piece in _EVENT_OF]

    def trace(self, context: str, pieces: Iterable[str]) -> Trace:
        """The trace that generated `pieces` spell, as far as they can be read.

        A trace that breaks off or cannot be read ends after its last whole frame:
        `complete` is False, the verdict `malformed`, and `reason` says what was wrong.
        """
        physical = context.split("\n")
        lines = [(number, source_line(physical[number - 1])) for number in _code_lines(context)]
        frames: list[Frame] = []
        try:
            for frame in _read_frames(_Pieces(pieces), lines):
                frames.append(frame)
        except TraceSyntaxError as error:
            return Trace(context, tuple(frames), complete=False, verdict="malformed", reason=str(error))
        return Trace(context, tuple(frames), complete=True, verdict="predicted")


def _step(step: Step, labels: dict[int, str]) -> tuple[str, ...]:
    """A way of control in the context; nothing for a line without a label."""
    if not step.line:
        return (st.RETURN_SEP,)
    label = (labels[step.line],) if step.line in labels else ()
    return (AGAIN, *label) if step.again else label


def _code_lines(context: str) -> dict[int, str]:
    """The physical lines that a frame may show, by number, without indentation and comments.

    Docstrings of functions do not run, and no event stops at `else:`.
    """
    lines = context.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(context).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(context)):
        # A docstring alone in a body is a line that runs, as is one in a class.
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and len(node.body) > 1 and ast.get_docstring(node):
            first, last = node.body[0].lineno, node.body[0].end_lineno
            if node.lineno < first and last < node.body[1].lineno:
                lines[first - 1 : last] = [""] * (last + 1 - first)
    codes = enumerate(map(str.strip, lines), start=1)
    return {number: code for number, code in codes if code and code != "else:"}


def _full(frame: Frame, state: dict[str, str]) -> dict[str, str]:
    return {name: state.get(name, value) if value == UNCHANGED else value for name, value in frame.locals}


def _changes(
    before: dict[str, str], after: dict[str, str], written: Iterable[str], working: "_Working"
) -> Iterator[str]:
    """What a line does to the locals: those it writes, the first after its working; or all, where some vanish."""
    listed = {name: value for name, value in after.items() if before.get(name) != value or name in written}
    if list({**before, **listed}) != list(after):  # a local was deleted, or a new one is not the last
        yield from [*working.first, *working.steps, ALL_LOCALS, *_listed(after)]
        return
    yield from working.first
    if not listed:
        yield from working.steps
        return
    (name, value), *others = listed.items()
    yield from (name, NAME_END)
    steps = working.steps[:-1] if working.steps[-1:] == [value] else working.steps
    yield from steps
    if steps and steps[-1] != EQUALS:
        yield EQUALS
    yield from _plain(value)
    for name, value in others:
        yield from (VALUE_END, name, NAME_END, *_plain(value))


def _listed(locals_: dict[str, str]) -> Iterator[str]:
    for index, (name, value) in enumerate(locals_.items()):
        if index:
            yield VALUE_END
        yield from (name, NAME_END, *_plain(value))


def _plain(value: str) -> tuple[str, ...]:
    """A value as pieces none of which is a control symbol, even where some `__repr__` spells one."""
    return (value[:1], value[1:]) if value in _IS_CONTROL else (value,)


class _Pieces:
    """Takes pieces one by one and joins runs of plain text."""

    def __init__(self, pieces: Iterable[str]):
        self._pieces = list(pieces)
        self._next = 0

    def control(self) -> str:
        if self._next == len(self._pieces):
            raise TraceSyntaxError("the trace breaks off")
        piece = self._pieces[self._next]
        if piece not in _IS_CONTROL:
            raise TraceSyntaxError(f"expected a control symbol, found {piece[:40]!r}")
        self._next += 1
        return piece

    def plain(self) -> str:
        start = self._next
        while self._next < len(self._pieces) and self._pieces[self._next] not in _IS_CONTROL:
            self._next += 1
        return "".join(self._pieces[start : self._next])

    def until(self, symbols: Container[str]) -> list[str]:
        """The pieces before the next of `symbols`."""
        start = self._next
        while self._next < len(self._pieces) and self._pieces[self._next] not in symbols:
            self._next += 1
        return self._pieces[start : self._next]


def _read_frames(pieces: _Pieces, lines: list[tuple[int, str]]) -> Iterator[Frame]:
    calls: list[dict[str, str]] = []  # the locals of each call that has not returned
    shown: dict[str, str] | None = None  # the locals of the frame before; None where it has none
    changes: list[str] = []
    while (token := pieces.control()) != st.END_OF_TEXT:
        if token not in _EVENT_OF:
            raise TraceSyntaxError(f"expected an event, found {token}")
        event = _EVENT_OF[token]
        before_label = pieces.until(_NUMBER_OF)
        if event == "call" or not calls:
            calls.append({})
            shown = None
            changes = before_label
        elif before_label:
            raise TraceSyntaxError(f"expected the label of a line, found {before_label[0][:40]!r}")
        number, source = _line(pieces.control(), lines)
        if event in ("call", "line"):
            calls[-1] = _apply(changes, calls[-1])
            yield Frame(event, source, locals=compress(calls[-1], shown), line=number)
            shown = calls[-1]
        else:
            yield Frame(event, source, value=pieces.plain(), line=number)
            shown = None
            if event == "return":
                calls.pop()
            if calls:
                _line(pieces.control(), lines)  # where the call that goes on was
        changes = pieces.until(_ENDS)


def _read_locals(pieces: list[str]) -> dict[str, str]:
    """The locals that a list spells, each with its last step as the value."""
    found = {}
    for entry in _split(pieces, VALUE_END):
        if NAME_END not in entry:
            raise TraceSyntaxError(f"expected a local and its value, found {''.join(entry)[:40]!r}")
        end = entry.index(NAME_END)
        found[_last_text(entry[:end])] = _last_text(entry[end:])
    return found


def _apply(changes: list[str], state: dict[str, str]) -> dict[str, str]:
    """The locals after a line that does `changes`."""
    if ALL_LOCALS in changes:
        state, changes = {}, changes[changes.index(ALL_LOCALS) + 1 :]
    return {**state, **_read_locals(changes)} if NAME_END in changes else state


def _last_text(pieces: list[str]) -> str:
    """The plain text after the last control symbol."""
    start = max((index + 1 for index, piece in enumerate(pieces) if piece in _IS_CONTROL), default=0)
    return "".join(pieces[start:])


def _split(pieces: list[str], separator: str) -> Iterator[list[str]]:
    start = 0
    for index, piece in enumerate(pieces):
        if piece == separator:
            yield pieces[start:index]
            start = index + 1
    yield pieces[start:]


def _line(label: str, lines: list[tuple[int, str]]) -> tuple[int, str]:
    """Number and text of the line that a label names."""
    index = _NUMBER_OF.get(label)
    if index is None or index > len(lines):
        raise TraceSyntaxError(f"expected the label of one of {len(lines)} lines, found {label}")
    return lines[index - 1]


class _Scribe:
    """Follows the calls of a trace; says which lines begin another pass of a loop, and writes the workings.

    Attributes:
      calls: the calls that have not returned.
    """

    def __init__(self, context: str):
        self._flow, self._workings = Flow(context), Workings(context)
        self.calls: list[_Call] = []

    def again(self, line: int) -> bool:
        """Whether going to `line` begins another pass of its loop."""
        return self._flow.again(self.calls[-1].line, line)

    def working(self, line: int, again: bool) -> "_Working":
        """The working of `line`, where the innermost call is now."""
        call = self.calls[-1]
        if isinstance(loop := self._flow.loops.get(line), ast.For):
            return _Working(first=self._loop(call, loop, again))
        return _Working(steps=self._workings.of(line, call.state))

    def leave(self, event: str) -> None:
        """Follows a return or an exception."""
        if event == "return" and self.calls:
            self.calls.pop()

    def _loop(self, call: "_Call", loop: ast.For, again: bool) -> list[str]:
        """What a `for` yields, where it starts; then the number of the pass, or of elements where there is no more."""
        line = loop.lineno
        if again:
            call.passes[line] = call.passes.get(line, len(PASSES)) + 1
            return list(PASSES[call.passes[line] : call.passes[line] + 1])
        call.passes.pop(line, None)
        if not (counted := self._workings.loop(loop.iter, call.state)):
            return []
        call.passes[line] = 0
        return [*counted, EQUALS, PASSES[0]]


@dataclass(frozen=True)
class _Working:
    """What stands before the name of the first local that a line writes, and what before its value."""

    first: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


@dataclass
class _Call:
    """A call that has not returned: its last line, its locals, and the pass that each of its loops is in."""

    line: int
    state: dict[str, str] = field(default_factory=dict)
    passes: dict[int, int] = field(default_factory=dict)


class _Writes:
    """Which locals the statement on a line writes, read off the syntax tree of the context."""

    def __init__(self, context: str):
        self._names: dict[int, set[str]] = {}
        self._loops: dict[int, tuple[set[str], int, int]] = {}  # for line -> targets, first and last line of the body
        for node in ast.walk(ast.parse(context)):
            if isinstance(node, ast.For):
                self._loops[node.lineno] = (set(_stored(node.target)), node.body[0].lineno, node.body[-1].end_lineno)
            elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.NamedExpr)):
                self._names.setdefault(node.lineno, set()).update(_stored(node))

    def between(self, line: int, after: int) -> set[str]:
        """The locals to list when a call goes from one line to another."""
        if line in self._loops:
            targets, first, last = self._loops[line]
            return targets if first <= after <= last else set()
        return self._names.get(line, set())


def _stored(node: ast.AST) -> Iterator[str]:
    """Names that a statement binds or whose object it changes (`x = `, `x[0] = `, `x.append()`)."""
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        elif isinstance(child, (ast.Subscript, ast.Attribute)) and isinstance(child.ctx, ast.Store):
            yield from _base(child)
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and isinstance(node, ast.Expr):
            yield from _base(child.func)


def _base(node: ast.expr) -> Iterator[str]:
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id
