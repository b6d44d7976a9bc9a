"""Pieces -> frames: the reading half of the compact form."""

from collections.abc import Container, Iterable, Iterator

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.compact.source import Source
from cwm_jax.tracing.compact.symbols import ALL_LOCALS, EVENT_OF, IS_CONTROL, NAME_END, SET, VALUE_END
from cwm_jax.tracing.language import TraceSyntaxError, compress
from cwm_jax.tracing.trace import Frame

_ENDS = frozenset((*EVENT_OF, st.END_OF_TEXT))


def read_frames(source: Source, pieces: Iterable[str]) -> Iterator[Frame]:
    """The frames that pieces spell, up to `<|end_of_text|>`.

    Raises:
      TraceSyntaxError: where they stop being readable.
    """
    reader = _Reader(source, pieces)
    calls: list[dict[str, str]] = []  # the locals of each call that has not returned
    shown: dict[str, str] | None = None  # the locals of the frame before; None where it has none
    changes: list[str] = []
    while (token := reader.control()) != st.END_OF_TEXT:
        if token not in EVENT_OF:
            raise TraceSyntaxError(f"expected an event, found {token}")
        event = EVENT_OF[token]
        number = reader.line()
        text = source.shown[number - 1]
        if event == "call" or not calls:
            calls.append({})
            shown = None
        if event == "call":
            arguments = reader.until(_ENDS)
            end = arguments.index(ALL_LOCALS) if ALL_LOCALS in arguments else len(arguments)
            arguments, changes = arguments[:end], arguments[end:]
            calls[-1] = shown = _locals(arguments)
            yield Frame(event, text, locals=tuple(shown.items()), line=number)
            continue
        if event == "line":
            calls[-1] = _apply(changes, calls[-1])
            yield Frame(event, text, locals=compress(calls[-1], shown), line=number)
            shown = calls[-1]
        else:
            yield Frame(event, text, value=reader.plain(), line=number)
            shown = None
            if event == "return":
                calls.pop()
            if calls:
                reader.line()  # where the call that goes on was
        changes = reader.until(_ENDS)


class _Reader:
    """Takes pieces one by one and joins runs of plain text."""

    def __init__(self, source: Source, pieces: Iterable[str]):
        self._number_of = {label: number for number, label in source.labels.items()}
        self._pieces = list(pieces)
        self._next = 0

    def control(self) -> str:
        if self._next == len(self._pieces):
            raise TraceSyntaxError("the trace breaks off")
        piece = self._pieces[self._next]
        if piece not in IS_CONTROL:
            raise TraceSyntaxError(f"expected a control symbol, found {piece[:40]!r}")
        self._next += 1
        return piece

    def line(self) -> int:
        """The number of the line that the next piece labels."""
        label = self.control()
        if label not in self._number_of:
            raise TraceSyntaxError(f"expected the label of one of {len(self._number_of)} lines, found {label}")
        return self._number_of[label]

    def plain(self) -> str:
        return "".join(self.until(IS_CONTROL))

    def until(self, symbols: Container[str]) -> list[str]:
        """The pieces before the next of `symbols`."""
        start = self._next
        while self._next < len(self._pieces) and self._pieces[self._next] not in symbols:
            self._next += 1
        return self._pieces[start : self._next]


def _apply(changes: list[str], state: dict[str, str]) -> dict[str, str]:
    """The locals after a line that does `changes`; what stands before them is a working."""
    if ALL_LOCALS in changes:
        return _locals(changes[changes.index(ALL_LOCALS) + 1 :])
    return {**state, **_locals(changes[changes.index(SET) + 1 :])} if SET in changes else state


def _locals(pieces: list[str]) -> dict[str, str]:
    """Names and values that pieces list."""
    found = {}
    for entry in _split(pieces, VALUE_END) if pieces else ():
        if NAME_END not in entry:
            raise TraceSyntaxError(f"expected a local and its value, found {''.join(entry)[:40]!r}")
        end = entry.index(NAME_END)
        found[_last_text(entry[:end])] = _last_text(entry[end:])
    return found


def _last_text(pieces: list[str]) -> str:
    """The plain text after the last control symbol."""
    start = max((index + 1 for index, piece in enumerate(pieces) if piece in IS_CONTROL), default=0)
    return "".join(pieces[start:])


def _split(pieces: list[str], separator: str) -> Iterator[list[str]]:
    start = 0
    for index, piece in enumerate(pieces):
        if piece == separator:
            yield pieces[start:index]
            start = index + 1
    yield pieces[start:]
