"""CWM's own text as a form in which a model reads and writes traces; beside it stands the compact one."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.language import EVENT_OF, Reader, TraceSyntaxError, frame_segments, parse_frame, plain_text
from cwm_jax.tracing.lines import LineNumbers
from cwm_jax.tracing.told import Told
from cwm_jax.tracing.trace import UNCHANGED, Frame, Trace


@dataclass(frozen=True)
class CwmText:
    """Writes and reads CWM's text (paper §2.2), piece by piece.

    Plain text may be read in several pieces. Line numbers, which the text does not tell, are found by
    `tracing/lines.py`.
    """

    control_symbols: ClassVar[tuple[str, ...]] = st.TRACE_TOKENS
    frame_ends: ClassVar[tuple[str, ...]] = (st.FRAME_SEP,)

    def context(self, context: str) -> list[str]:
        """The pieces that a prediction starts from.

        Raises:
          ValueError: a control token stands in the context.
        """
        return [st.BEGIN_OF_TEXT, st.TRACE_CONTEXT_START, plain_text(context, "the context"), st.FRAME_SEP]

    def prefix(self, context: str, frames: Sequence[Frame]) -> list[str]:
        """The pieces of `frames` that stand before whatever follows them."""
        return [piece for frame in frames for piece in frame_segments(frame)]

    def frames(self, trace: Trace) -> list[str]:
        """The pieces of all frames, `<|end_of_text|>` last if the trace is complete."""
        pieces = self.prefix(trace.context, trace.frames)
        return [*pieces, st.END_OF_TEXT] if trace.complete else pieces

    def told(self, context: str, pieces: Iterable[str], known: Sequence[Frame] = ()) -> Iterator[Told]:
        """The frames that `pieces` spell and where, one by one, each as soon as it is closed.

        Args:
          context: the program.
          pieces: of all frames.
          known: the first of them, with their line numbers.

        Raises:
          TraceSyntaxError: where they stop being readable, or break off before `<|end_of_text|>`.
        """
        number, given = LineNumbers(context), iter(known)
        own: list[str] = []
        for index, piece in enumerate(pieces):
            own.append(piece)
            if own == [st.END_OF_TEXT]:
                return
            if piece == st.FRAME_SEP:
                frame = _frame(own)
                if (before := next(given, None)) is not None:
                    frame = replace(frame, line=before.line)
                if (line := number(frame)) is None:
                    raise TraceSyntaxError(f"the program has no line {frame.source.strip()[:60]!r}")
                yield _places(replace(frame, line=line), own, index + 1 - len(own))
                own = []
        raise TraceSyntaxError("the trace breaks off")

    def event_indices(self, pieces: list[str]) -> list[int]:
        """Where in the pieces of `frames` each frame begins."""
        return [index for index, piece in enumerate(pieces) if piece in EVENT_OF]

    def trace(self, context: str, pieces: Iterable[str]) -> Trace:
        """The trace that generated `pieces` spell.

        A frame that cannot be read has neither locals nor value, and those after it keep their places, as the metrics
        of paper Table 9 count them; `complete` is then False, as it is for a trace that breaks off, the verdict
        `malformed`, and `reason` says what was wrong first.
        """
        number = LineNumbers(context)
        frames: list[Frame] = []
        wrong, rest = "", [*pieces]
        while st.FRAME_SEP in rest:
            end = rest.index(st.FRAME_SEP) + 1
            try:
                frame = _frame(rest[:end])
            except ValueError as error:
                frame = _broken(rest[:end])
                wrong = wrong or f"frame {len(frames) + 1}: {error}"
            frames.append(replace(frame, line=number(frame)))
            rest = rest[end:]
        if not wrong and rest != [st.END_OF_TEXT]:
            wrong = f"the text ends in {''.join(rest)[:40]!r}" if rest else "the trace breaks off"
        if wrong:
            return Trace(context, tuple(frames), complete=False, verdict="malformed", reason=wrong)
        return Trace(context, tuple(frames), complete=True, verdict="predicted")


def _frame(pieces: list[str]) -> Frame:
    """The frame that pieces spell, its closing symbol included; raises ValueError where they spell none."""
    reader = Reader("".join(_checked(pieces)))
    if reader.peek() not in EVENT_OF:
        raise TraceSyntaxError(f"expected an event, found {reader.peek()!r}")
    frame = parse_frame(reader)
    if reader.peek() is not None:
        raise TraceSyntaxError(f"expected the end of the frame, found {reader.peek()!r}")
    return frame


def _checked(pieces: list[str]) -> Iterator[str]:
    """The pieces, plain text whole and known to spell no control token."""
    for control, some in groupby(pieces, key=st.TRACE_TOKENS.__contains__):
        if control:
            yield from some
            continue
        try:
            yield plain_text("".join(some), "predicted text")
        except ValueError as error:
            raise TraceSyntaxError(str(error)) from None


def _broken(pieces: list[str]) -> Frame:
    """What can be told of a frame that cannot be read: its event, and its source line if it has one."""
    source = ""
    if st.ACTION_SEP in pieces:
        for piece in pieces[pieces.index(st.ACTION_SEP) + 1 :]:
            if piece in st.TRACE_TOKENS:
                break
            source += piece
    return Frame(EVENT_OF.get(pieces[0], "line"), source)


def _places(frame: Frame, pieces: list[str], start: int) -> Told:
    """Where a frame is spelled, of which the first piece has index `start`."""
    action = pieces.index(st.ACTION_SEP)
    if frame.locals is None:
        end = pieces.index(st.ARG_SEP)
        values = {"": range(start + end + 1, start + len(pieces))}
    else:
        end = len(pieces) - 1
        values = {
            name: range(start + place.start, start + place.stop)
            for name, place in _values(pieces[1:action], 1)
            if dict(frame.locals)[name] != UNCHANGED
        }
    return Told(frame, [start, *range(start + action + 1, start + end)], values)


def _values(pieces: list[str], start: int) -> Iterator[tuple[str, range]]:
    """By name the pieces in which each value of a JSON object of strings is spelled, its last quote included."""
    text = "".join(pieces)
    starts, offset = [], 0
    for piece in pieces:
        starts.append(offset)
        offset += len(piece)
    at = text.index("{") + 1
    while (quote := text.find('"', at)) >= 0:
        name, at = json.decoder.scanstring(text, quote + 1)
        first = text.index('"', at)
        _, at = json.decoder.scanstring(text, first + 1)
        inside = [index for index, begin in enumerate(starts) if begin < at and begin + len(pieces[index]) > first]
        yield name, range(start + inside[0], start + inside[-1] + 1)
