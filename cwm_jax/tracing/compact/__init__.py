"""The compact form of a trace: what a tiny model reads and writes in place of CWM's text.

CWM's text repeats every source line and every unchanged local; a model of half a
million parameters spends its budget on copying. The compact form says the same in
about a third of the tokens, and CWM's text follows from it exactly:

- in the context, a label `<|Lk|>` stands before the k-th line of code, and `<|trace_context_start|>` in place of
  the start marker; indentation, blank lines, comments, docstrings and `else:`, which no frame needs, are left out;
- after its label, a line of the context says where control goes next (see `tracing/flow.py`): the functions that it
  calls, then the label of one line or, after a condition, of two; `<|return_sep|>` where the function ends;
- a frame names its line by that label instead of copying it; the event of a line that another pass of a loop
  comes back to is `<|again|>`;
- the locals that a line writes follow its own label and `<|set|>`, with their values even where they come out equal,
  and not the label of the next line; whoever is not listed is unchanged. Arguments follow the label of their call;
- after what a call returned or raised stands the label of the line that goes on, and what it writes; CWM prints all
  locals in full there, so a reader keeps those of every call;
- before `<|set|>`, or where a line writes nothing, stands how it comes about (see `workings.py`), which a reader skips.

Nothing of this is learnt or run: all that is added to a context follows from its text.

    <|L3|><|L4|>n = 0 … <|call_sep|><|L2|>s<|arg_sep|>'abc' <|line_sep|><|L3|><|set|>n<|arg_sep|>0 <|line_sep|><|L4|> …
    <|line_sep|><|L5|>n<|arg_sep|>0 + 1<|set|>n<|arg_sep|>1 … <|return_sep|><|L6|>2 …

(without the blanks). Our choice: shown to users is CWM's text, always.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.compact.read import read_frames, read_told
from cwm_jax.tracing.compact.source import read_source
from cwm_jax.tracing.compact.symbols import CONTROL_SYMBOLS, EVENT_OF
from cwm_jax.tracing.compact.write import context_pieces, frame_pieces, prefix_pieces
from cwm_jax.tracing.language import TraceSyntaxError
from cwm_jax.tracing.told import Told
from cwm_jax.tracing.trace import Frame, Trace


@dataclass(frozen=True)
class Compact:
    """Writes and reads the compact form. A component: `DataConfig.form = @Compact()`."""

    control_symbols: ClassVar[tuple[str, ...]] = CONTROL_SYMBOLS
    frame_ends: ClassVar[tuple[str, ...]] = (*EVENT_OF, st.END_OF_TEXT)  # where a frame ends, if not before

    def context(self, context: str) -> list[str]:
        """The pieces (control symbols and plain text) that a prediction starts from.

        Raises:
          ValueError: the context does not parse, marks no function, or has more than `MAX_LINES` lines of code.
        """
        return list(context_pieces(read_source(context)))

    def frames(self, trace: Trace) -> list[str]:
        """The pieces of all frames, `<|end_of_text|>` last if the trace is complete. Frames need line numbers.

        Raises:
          ValueError: as `context`.
        """
        pieces = list(frame_pieces(read_source(trace.context), trace.frames))
        return [*pieces, st.END_OF_TEXT] if trace.complete else pieces

    def prefix(self, context: str, frames: Sequence[Frame]) -> list[str]:
        """The pieces of `frames` that stand before whatever follows them; frames need line numbers.

        They begin the pieces of every trace that begins with these frames.

        Raises:
          ValueError: as `context`.
        """
        return list(prefix_pieces(read_source(context), frames))

    def told(self, context: str, pieces: Iterable[str], known: Sequence[Frame] = ()) -> Iterator[Told]:
        """The frames that `pieces` spell and where, one by one, each as soon as enough pieces are there.

        Args:
          context: the program.
          pieces: of all frames.
          known: not looked at: pieces tell the lines.

        Raises:
          TraceSyntaxError: where they stop being readable, or break off before `<|end_of_text|>`.
        """
        return read_told(read_source(context), pieces)

    def event_indices(self, pieces: list[str]) -> list[int]:
        """Where in the pieces of `frames` each frame begins."""
        return [index for index, piece in enumerate(pieces) if piece in EVENT_OF]

    def trace(self, context: str, pieces: Iterable[str]) -> Trace:
        """The trace that generated `pieces` spell, as far as they can be read.

        A trace that breaks off or cannot be read ends after its last whole frame:
        `complete` is False, the verdict `malformed`, and `reason` says what was wrong.
        """
        frames: list[Frame] = []
        try:
            for frame in read_frames(read_source(context), pieces):
                frames.append(frame)
        except TraceSyntaxError as error:
            return Trace(context, tuple(frames), complete=False, verdict="malformed", reason=str(error))
        return Trace(context, tuple(frames), complete=True, verdict="predicted")
