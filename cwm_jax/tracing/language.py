"""The trace language (CWM paper §2.2): a `Trace` as text and back, and its full states."""

import json
import re
from collections.abc import Iterator

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.trace import START_MARKER_PATTERN, UNCHANGED, Event, Frame, Trace

EVENT_TOKENS: dict[Event, str] = {
    "call": st.CALL_SEP,
    "line": st.LINE_SEP,
    "return": st.RETURN_SEP,
    "exception": st.EXCEPTION_SEP,
}
_LINE_END = re.compile(r"\r\n|\r|\n")
EVENT_OF = {token: event for event, token in EVENT_TOKENS.items()}


class TraceSyntaxError(ValueError):
    """The text is not a trace; the message says where it stops being one."""


def render(trace: Trace) -> str:
    """The exact text of a trace, `<|begin_of_text|>` to `<|end_of_text|>`.

    Raises:
      ValueError: a control token stands in the source, where the text could not
        be told from its own separators.
    """
    return "".join(segments(trace))


def segments(trace: Trace) -> Iterator[str]:
    """The text of a trace cut so that each piece is one control token or plain text."""
    yield st.BEGIN_OF_TEXT
    yield st.TRACE_CONTEXT_START
    yield plain_text(trace.context, "the context")
    yield st.FRAME_SEP
    for frame in trace.frames:
        yield from frame_segments(frame)
    if trace.complete:
        yield st.END_OF_TEXT


def frame_segments(frame: Frame) -> Iterator[str]:
    """The pieces of one frame, its closing `<|frame_sep|>` included."""
    yield EVENT_TOKENS[frame.event]
    if frame.event in ("call", "line"):
        yield to_json(dict(frame.locals))
        yield st.ACTION_SEP
        yield plain_text(frame.source, "a source line")
    else:
        yield st.ACTION_SEP
        yield plain_text(frame.source, "a source line")
        yield st.ARG_SEP
        yield to_json(frame.value)
    yield st.FRAME_SEP


def to_json(value: dict[str, str] | str) -> str:
    """`json.dumps` with its default separators; `<|` is escaped so that no value forms a control token."""
    return json.dumps(value).replace("<|", "\\u003c|")


def plain_text(text: str, what: str, control: re.Pattern = st.TRACE_TOKEN_PATTERN) -> str:
    """`text` itself, once it is known to hold no control token; `what` names it in the error."""
    if found := control.search(text):
        raise ValueError(f"{what} holds the control token {found[0]!r}; write it in two pieces to trace this program")
    return text


def parse(text: str) -> Trace:
    """The trace that `text` spells; the inverse of `render`.

    Raises:
      TraceSyntaxError: with the position of the first piece that does not fit.
    """
    reader = Reader(text)
    reader.expect(st.BEGIN_OF_TEXT)
    reader.expect(st.TRACE_CONTEXT_START)
    context = reader.plain()
    reader.expect(st.FRAME_SEP)
    frames = []
    while reader.peek() in EVENT_OF:
        frames.append(parse_frame(reader))
    complete = reader.peek() == st.END_OF_TEXT
    if complete:
        reader.expect(st.END_OF_TEXT)
    if reader.peek() is not None:
        raise TraceSyntaxError(f"expected a frame or the end at character {reader.offset}, found {reader.peek()!r}")
    return Trace(context, tuple(frames), complete)


def parse_frame(reader: "Reader") -> Frame:
    """The frame that begins here."""
    event = EVENT_OF[reader.take()]
    if event in ("call", "line"):
        values = reader.json(dict)
        reader.expect(st.ACTION_SEP)
        source = reader.plain()
        reader.expect(st.FRAME_SEP)
        return Frame(event, source, locals=tuple(values.items()))
    reader.expect(st.ACTION_SEP)
    source = reader.plain()
    reader.expect(st.ARG_SEP)
    value = reader.json(str)
    reader.expect(st.FRAME_SEP)
    return Frame(event, source, value=value)


class Reader:
    """Walks over the pieces of a text: control tokens and the plain text between them."""

    def __init__(self, text: str, control: re.Pattern = st.TRACE_TOKEN_PATTERN):
        self._control = control
        self._pieces: list[str] = []
        end = 0
        for match in control.finditer(text):
            if match.start() > end:
                self._pieces.append(text[end : match.start()])
            self._pieces.append(match[0])
            end = match.end()
        if end < len(text):
            self._pieces.append(text[end:])
        self._next = 0
        self.offset = 0

    def peek(self) -> str | None:
        return self._pieces[self._next] if self._next < len(self._pieces) else None

    def take(self) -> str:
        piece = self.peek()
        if piece is None:
            raise TraceSyntaxError(f"the text ends too early, after {self.offset} characters")
        self._next += 1
        self.offset += len(piece)
        return piece

    def expect(self, token: str) -> None:
        at = self.offset
        if (piece := self.take()) != token:
            raise TraceSyntaxError(f"expected {token} at character {at}, found {piece[:40]!r}")

    def plain(self) -> str:
        """The plain text here; empty where a control token follows at once."""
        if self.peek() is None or self._control.fullmatch(self.peek()):
            return ""
        return self.take()

    def json(self, kind: type) -> dict[str, str] | str:
        at = self.offset
        raw = self.plain()
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise TraceSyntaxError(f"not JSON at character {at}: {raw[:60]!r} ({error})") from None
        strings = value.values() if isinstance(value, dict) else [value]
        if not isinstance(value, kind) or not all(isinstance(item, str) for item in strings):
            raise TraceSyntaxError(f"expected JSON strings at character {at}, found {raw[:60]!r}")
        return value


def resolve(trace: Trace) -> list[dict[str, str]]:
    """The full locals at every frame: each `".."` replaced by the value that it stands for.

    Return and exception frames carry no locals of their own and get `{}`. A `".."`
    with no value before it that it could mean stands for itself: some `__repr__` returned it.
    """
    resolved: list[dict[str, str]] = []
    baseline: dict[str, str] = {}
    for frame in trace.frames:
        state = dict(frame.locals or ())
        if frame.event == "line":
            for name, value in state.items():
                if value == UNCHANGED:
                    state[name] = baseline.get(name, value)
        baseline = state
        resolved.append(state)
    return resolved


def compress(state: dict[str, str], baseline: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Locals as a frame shows them: `".."` for what equals `baseline` (None after a call or return: all in full)."""
    if baseline is None:
        return tuple(state.items())
    return tuple((name, UNCHANGED if baseline.get(name) == value else value) for name, value in state.items())


def source_lines(context: str) -> list[str]:
    """Every physical line of the context as frames show it, cut where CPython cuts: at LF, CR LF and CR."""
    return [source_line(line) for line in _LINE_END.split(context)]


def marked_line(context: str) -> int:
    """The number of the line that carries the start marker; 0 where none does."""
    lines = enumerate(_LINE_END.split(context), start=1)
    return next((number for number, line in lines if START_MARKER_PATTERN.search(line)), 0)


def source_line(line: str) -> str:
    """A physical line of the context as frames show it: start marker removed, newline kept."""
    return START_MARKER_PATTERN.sub("", line.removesuffix("\n")) + "\n"
