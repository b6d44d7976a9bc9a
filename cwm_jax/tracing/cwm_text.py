"""CWM's own text as a form in which a model reads and writes traces; beside it stands the compact one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.language import (
    EVENT_OF,
    Reader,
    frame_segments,
    parse_frame,
    plain_text,
)
from cwm_jax.tracing.trace import Frame, Trace


@dataclass(frozen=True)
class CwmText:
    """Writes and reads CWM's text (paper §2.2), piece by piece."""

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

    def event_indices(self, pieces: list[str]) -> list[int]:
        """Where in the pieces of `frames` each frame begins."""
        return [index for index, piece in enumerate(pieces) if piece in EVENT_OF]

    def trace(self, context: str, pieces: Iterable[str]) -> Trace:
        """The trace that generated `pieces` spell.

        A frame that cannot be read has neither locals nor value, and those after it keep their places, as the metrics
        of paper Table 9 count them; `complete` is then False, as it is for a trace that breaks off, the verdict
        `malformed`, and `reason` says what was wrong first.
        """
        frames: list[Frame] = []
        wrong, rest = "", [*pieces]
        while st.FRAME_SEP in rest:
            end = rest.index(st.FRAME_SEP) + 1
            try:
                frames.append(_frame(rest[:end]))
            except ValueError as error:
                frames.append(_broken(rest[:end]))
                wrong = wrong or f"frame {len(frames)}: {error}"
            rest = rest[end:]
        if not wrong and rest != [st.END_OF_TEXT]:
            wrong = f"the text ends in {''.join(rest)[:40]!r}" if rest else "the trace breaks off"
        if wrong:
            return Trace(context, tuple(frames), complete=False, verdict="malformed", reason=wrong)
        return Trace(context, tuple(frames), complete=True, verdict="predicted")


def _frame(pieces: list[str]) -> Frame:
    """The frame that pieces spell, its closing symbol included."""
    checked = (piece if piece in st.TRACE_TOKENS else plain_text(piece, "predicted text") for piece in pieces)
    reader = Reader("".join(checked))
    if reader.peek() not in EVENT_OF:
        raise ValueError(f"expected an event, found {reader.peek()!r}")
    frame = parse_frame(reader)
    if reader.peek() is not None:
        raise ValueError(f"expected the end of the frame, found {reader.peek()!r}")
    return frame


def _broken(pieces: list[str]) -> Frame:
    """What can be told of a frame that cannot be read: its event, and its source line if it has one."""
    after = pieces[pieces.index(st.ACTION_SEP) + 1] if st.ACTION_SEP in pieces else st.FRAME_SEP
    return Frame(EVENT_OF.get(pieces[0], "line"), "" if after in st.TRACE_TOKENS else after)
