"""Documents of a folder of traces that `prepare` made: CWM's own text, or what the traces say in plain English."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from cwm_jax.data.documents import Part, Text
from cwm_jax.files import digest_of
from cwm_jax.text.special_tokens import (
    BEGIN_OF_TEXT,
    CALL_SEP,
    END_OF_TEXT,
    FRAME_SEP,
    RETURN_SEP,
    TASK_IDS,
    TASK_SEP,
    TRACE_TOKENS,
)
from cwm_jax.tracing.hidden import hidden_segments
from cwm_jax.tracing.language import EVENT_TOKENS, segments
from cwm_jax.tracing.narration import Rewrite, Rewriter, final_of, final_value, narrate
from cwm_jax.tracing.store import RecordSlice, Stored, finished_datasheet, record_slices
from cwm_jax.tracing.tasks import task_segments

_KINDS = ("trace", "step-over", "episode", "tasks", "tasks-step-over")
_EVENTS = {*EVENT_TOKENS.values(), *TASK_IDS} - {TASK_SEP}
_RECORDS_PER_PART = 500  # some seconds of work


@dataclass(frozen=True)
class _TraceFolder:
    """What documents of a folder of traces have in common."""

    folder: str
    kinds: tuple[str, ...] = _KINDS
    context_weight: float = 0.0

    def __post_init__(self):
        name = type(self).__name__
        if not self.kinds or not set(self.kinds) <= set(_KINDS):
            raise ValueError(f"{name}.kinds={self.kinds} must be some of {_KINDS}")
        if not 0 <= self.context_weight <= 1:
            raise ValueError(f"{name}.context_weight={self.context_weight} must be from 0 to 1")

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Those that the documents hold."""
        tasks = any(count for kind, count in self.found().items() if kind.startswith("tasks"))
        return (*TRACE_TOKENS, *TASK_IDS) if tasks else TRACE_TOKENS

    @property
    def python(self) -> str:
        """That ran the programs."""
        return finished_datasheet(self.folder)["python"]

    def found(self) -> dict[str, int]:
        """How many traces of each kind there are to read; raises as `read_stored`."""
        counts = finished_datasheet(self.folder)["kinds"]
        return {kind: counts.get(kind, 0) for kind in self.kinds}

    def parts(self, dropped: Counter) -> list[Part]:
        """The work; nothing is read yet but the bytes. Raises as `read_stored`."""
        slices = list(record_slices(self.folder, _RECORDS_PER_PART))
        marks = {path: digest_of(path) for path in dict.fromkeys(one.path for one in slices)}
        return [_Records(self, one, f"{marks[one.path]} {one.records.start}") for one in slices]


class _Records(NamedTuple):
    """A part: some records of one file.

    Attributes:
      source: what makes documents of them.
      records: those that are read.
      mark: names the bytes.
    """

    source: "RecordedTraces | Narrations"
    records: RecordSlice
    mark: str

    def texts(self, dropped: Counter) -> Iterator[Text]:
        """The documents; see `Part`."""
        for stored in self.records.read():
            if stored.kind in self.source.kinds and (text := self.source.text(stored, dropped)):
                yield text


@dataclass(frozen=True)
class RecordedTraces(_TraceFolder):
    """The traces of a folder in CWM's text, runs of tasks in that of its extension.

    In an episode the return event that answers a call at once is given: whoever steps over a call asks for it.

    Attributes:
      folder: of the traces.
      kinds: of `trace`, `step-over`, `episode`, `tasks` and `tasks-step-over`, those that are read.
      context_weight: loss weight of the source context, from 0 to 1 (our choice: 0, the context is given).
      hidden: with the hidden state, where it was recorded.
    """

    hidden: bool = False

    def text(self, stored: Stored, dropped: Counter) -> Text:
        """The document of a trace."""
        spell = task_segments if stored.kind.startswith("tasks") else hidden_segments if self.hidden else segments
        pieces = list(spell(stored.trace))
        # Elsewhere a generator that goes on and yields at once was not stepped over.
        given = _answered(pieces) if stored.kind not in ("trace", "tasks") else set()
        context = pieces.index(FRAME_SEP) + 1
        weights = [self.context_weight] * context + [float(n not in given) for n in range(context, len(pieces))]
        return Text(tuple(zip(pieces, weights)), stored.origin, stored.kind)


def _answered(pieces: list[str]) -> set[int]:
    """Where a return event stands that answers a call of its task at once."""
    found, task, before = set(), "", {}
    for index, piece in enumerate(pieces):
        if piece == TASK_SEP:
            task = pieces[index + 1]
        elif piece in _EVENTS:
            if (before.get(task), piece) == (CALL_SEP, RETURN_SEP):
                found.add(index)
            before[task] = piece
    return found


@dataclass(frozen=True)
class Narrations(_TraceFolder):
    """What the traces of a folder say, in plain English, each after its source context (our choice of form).

    A narration is kept where the final value that it states is that of the trace.

    Attributes:
      folder: of the traces.
      kinds: of `trace`, `step-over` and `episode`, those that are told.
      context_weight: loss weight of the source context, from 0 to 1 (our choice: 0, the context is given).
      share: of these traces, drawn by their context.
      longest_told: loops with more passes are summed up; see `narrate`.
      rewriter: has a language model tell them anew, and what it cannot is left out. None: by rules alone.
    """

    kinds: tuple[str, ...] = ("trace",)
    share: float = 1.0
    longest_told: int = 4
    rewriter: Rewriter | None = None

    def __post_init__(self):
        super().__post_init__()
        if tasks := [kind for kind in self.kinds if kind.startswith("tasks")]:
            raise ValueError(f"Narrations.kinds holds {tasks}, which no rule tells yet; leave them out")
        if not 0 < self.share <= 1:
            raise ValueError(f"Narrations.share={self.share} must be above 0 and at most 1")
        if self.longest_told < 2:
            raise ValueError(f"Narrations.longest_told={self.longest_told} must be at least 2")

    def text(self, stored: Stored, dropped: Counter) -> Text | None:
        """The document of a trace; None where it is not drawn, or cannot be told, which is counted."""
        trace = stored.trace
        if Random(f"narration {trace.context}").random() >= self.share:
            return None
        try:
            told = Rewrite(narrate(trace, self.longest_told), "kept")
        except (ValueError, RecursionError):
            dropped["narration: the rules cannot tell it"] += 1
            return None
        if self.rewriter:
            told = self.rewriter.rewrite(trace, told.text)
        if told.fate != "kept" or final_value(told.text) != final_of(trace):
            dropped[f"narration: {'disagrees' if told.fate == 'kept' else told.fate}"] += 1
            return None
        pieces = (BEGIN_OF_TEXT, f"{trace.context.rstrip()}\n\n", told.text, END_OF_TEXT)
        weights = (self.context_weight, self.context_weight, 1.0, 1.0)
        return Text(tuple(zip(pieces, weights)), stored.origin, "narration")
