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
        """The trace that generated `pieces` spell, as far as they can be read; the rest as for the compact form."""
        frames: list[Frame] = []
        try:
            reader = Reader("".join(p if p in st.TRACE_TOKENS else plain_text(p, "predicted text") for p in pieces))
            while reader.peek() in EVENT_OF:
                frames.append(parse_frame(reader))
            reader.expect(st.END_OF_TEXT)
        except ValueError as error:
            return Trace(context, tuple(frames), complete=False, verdict="malformed", reason=str(error))
        return Trace(context, tuple(frames), complete=True, verdict="predicted")
