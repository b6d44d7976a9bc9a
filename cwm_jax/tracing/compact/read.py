"""Pieces -> frames: the reading half of the compact form."""

from collections.abc import Container, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.compact.source import Source
from cwm_jax.tracing.compact.symbols import ALL_LOCALS, EVENT_OF, IS_CONTROL, NAME_END, SET, VALUE_END
from cwm_jax.tracing.language import TraceSyntaxError, compress
from cwm_jax.tracing.told import Told
from cwm_jax.tracing.trace import Frame

_ENDS = frozenset((*EVENT_OF, st.END_OF_TEXT))
_ARGUMENTS_END = _ENDS | {ALL_LOCALS}


def read_frames(source: Source, pieces: Iterable[str]) -> Iterator[Frame]:
    """The frames that pieces spell, up to `<|end_of_text|>`.

    Raises:
      TraceSyntaxError: where they stop being readable.
    """
    return (told.frame for told in read_told(source, pieces))


def read_told(source: Source, pieces: Iterable[str]) -> Iterator[Told]:
    """As `read_frames`, with places. Takes no more pieces than it needs to be sure of a frame."""
    reader = _Reader(source, pieces)
    calls: list[dict[str, str]] = []  # the locals of each call that has not returned
    shown: dict[str, str] | None = None  # the locals of the frame before; None where it has none
    changes = _Listing([], 0)
    while (token := reader.control()) != st.END_OF_TEXT:
        if token not in EVENT_OF:
            raise TraceSyntaxError(f"expected an event, found {token}")
        event = EVENT_OF[token]
        number = reader.line()
        text = source.shown[number - 1]
        head = range(reader.next - 2, reader.next)
        if event == "call" or not calls:
            calls.append({})
            shown = None
        if event == "call":
            arguments = reader.until(_ARGUMENTS_END)
            calls[-1] = shown = arguments.locals()
            yield Told(Frame(event, text, locals=tuple(shown.items()), line=number), head, arguments.places())
        elif event == "line":
            calls[-1] = changes.applied_to(calls[-1])
            yield Told(
                Frame(event, text, locals=compress(calls[-1], shown), line=number), head, changes.written().places()
            )
            shown = calls[-1]
        else:
            value = reader.until(IS_CONTROL)
            places = {"": range(head.stop, reader.next)}
            yield Told(Frame(event, text, value="".join(value.pieces), line=number), head, places)
            shown = None
            if event == "return":
                calls.pop()
            if calls:
                reader.line()  # where the call that goes on was
        changes = reader.until(_ENDS)


class _Listing(NamedTuple):
    """Consecutive pieces and the index of the first: locals, or what a line does to them."""

    pieces: list[str]
    start: int

    def locals(self) -> dict[str, str]:
        """Names and values, where the pieces list nothing else."""
        return {
            name: _last_text(self.pieces[value.start - self.start : value.stop - self.start])
            for name, value in self._entries()
        }

    def places(self) -> dict[str, range]:
        """Where each value stands, in a listing of arguments."""
        return dict(self._entries())

    def written(self) -> "_Listing":
        """What stands behind the working: all locals, or those that a line writes; nothing where it writes none."""
        mark = ALL_LOCALS if ALL_LOCALS in self.pieces else SET
        if mark not in self.pieces:
            return _Listing([], self.start)
        first = self.pieces.index(mark) + 1
        return _Listing(self.pieces[first:], self.start + first)

    def applied_to(self, state: dict[str, str]) -> dict[str, str]:
        """The locals after a line that does this."""
        written = self.written().locals()
        return written if ALL_LOCALS in self.pieces else {**state, **written}

    def _entries(self) -> Iterator[tuple[str, range]]:
        """Each name, and the indices of what stands behind its end."""
        start = 0
        for entry in _split(self.pieces, VALUE_END) if self.pieces else ():
            if NAME_END not in entry:
                raise TraceSyntaxError(f"expected a local and its value, found {''.join(entry)[:40]!r}")
            end = entry.index(NAME_END)
            yield _last_text(entry[:end]), range(self.start + start + end + 1, self.start + start + len(entry))
            start += len(entry) + 1


class _Reader:
    """Takes pieces one by one, none before it is asked for.

    Attributes:
      next: index of the piece that is taken next.
    """

    def __init__(self, source: Source, pieces: Iterable[str]):
        self._number_of = {label: number for number, label in source.labels.items()}
        self._coming = iter(pieces)
        self._ahead: list[str] = []
        self.next = 0

    def control(self) -> str:
        if (piece := self._peek()) is None:
            raise TraceSyntaxError("the trace breaks off")
        if piece not in IS_CONTROL:
            raise TraceSyntaxError(f"expected a control symbol, found {piece[:40]!r}")
        return self._take()

    def line(self) -> int:
        """The number of the line that the next piece labels."""
        label = self.control()
        if label not in self._number_of:
            raise TraceSyntaxError(f"expected the label of one of {len(self._number_of)} lines, found {label}")
        return self._number_of[label]

    def until(self, symbols: Container[str]) -> _Listing:
        """The pieces before the next of `symbols`."""
        start, pieces = self.next, []
        while (piece := self._peek()) is not None and piece not in symbols:
            pieces.append(self._take())
        return _Listing(pieces, start)

    def _peek(self) -> str | None:
        if not self._ahead:
            self._ahead += islice(self._coming, 1)
        return self._ahead[0] if self._ahead else None

    def _take(self) -> str:
        self.next += 1
        return self._ahead.pop()


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
