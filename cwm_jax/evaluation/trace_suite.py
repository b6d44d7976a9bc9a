"""Whole traces: the nine metrics of paper Table 9, by length and by type of value, free-running and teacher-forced.

Free-running, the model goes on from its own frames; teacher-forced, every frame is asked for with the real ones before
it. Where the two part with length, errors pile up; where they agree, single steps are what is not learnt. In the
compact form the pieces of a frame also tell what its line does, and how: teacher-forced, that has to be right, too.
"""

import ast
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from cwm_jax.evaluation.constructs import constructs
from cwm_jax.evaluation.cruxeval import read_rows
from cwm_jax.evaluation.metrics import exact, failure_category, macro_average, trace_metrics
from cwm_jax.evaluation.scores import by_length, calibration, shares, summary
from cwm_jax.evaluation.truth import true_traces
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Trace, parse, resolve
from cwm_jax.tracing.store import finished_datasheet, read_stored, record_digests
from cwm_jax.tracing.trace import UNCHANGED
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.models.model import CannotDo, Forced, Form, Model
from cwm_jax.worldmodel.predict import Outcome, predicted

_LONG = 8192  # tokens of a trace (paper Table 8)
_PUBLISHED = dict(  # of the released 32B model at CRUXEval (paper Table 9)
    output_match=0.880, valid_format=0.996, state_exact=0.969, action_exact=0.965, valid_json=1.0,
    state_key_match=0.991, state_key_value_match=0.981, state_tokens=11.7, action_tokens=11.2,
)  # fmt: skip


class TestProgram(NamedTuple):
    """A program whose trace is predicted.

    Attributes:
      id: its own.
      context: the program.
      truth: its trace, where it was kept: code that needs its package does not run here.
      kind: which of several test sets, or kinds of traces, it is one of.
    """

    id: str
    context: str
    truth: Trace | None = None
    kind: str = ""


@dataclass(frozen=True)
class CruxEvalPrograms:
    """The programs of CRUXEval, each called by a marked `main`."""

    name: ClassVar[str] = "cruxeval"
    title: ClassVar[str] = "CRUXEval programs"
    published: ClassVar[dict[str, float] | None] = _PUBLISHED

    def items(self, model: Model) -> list[TestProgram]:
        return [TestProgram(row.id, wrap(row.code, "f", row.input)) for row in read_rows()]


@dataclass(frozen=True)
class OwnPrograms:
    """The test sets that were recorded with a run's training data."""

    name: ClassVar[str] = "own"
    title: ClassVar[str] = "test programs of the run"
    published: ClassVar[dict[str, float] | None] = None

    def items(self, model: Model) -> list[TestProgram]:
        if model.tests is None:
            raise CannotDo(f"{model.name} comes without test sets of its own; name a run with --checkpoint")
        return [
            TestProgram(f"{path.stem} {test['name']}", test["context"], _kept(test), path.stem)
            for path in sorted(model.tests.glob("*.jsonl"))
            for test in map(json.loads, path.read_text().splitlines())
        ]


@dataclass(frozen=True)
class KeptTraces:
    """A folder of traces that `prepare` recorded: of functions, of contests, of the tests of projects.

    Attributes:
      folder: of the traces, which no model that is measured has learnt from.
      digest: tells these from what the folder may hold later.
      most: of each kind; evenly over all, as those of one program stand together (our choice, for an hour or less).
    """

    folder: str
    digest: str
    most: int = 400

    published: ClassVar[dict[str, float] | None] = None

    @classmethod
    def of(cls, folder: str, most: int = 400) -> "KeptTraces":
        """Those that the folder holds now; raises FileNotFoundError where it holds none, or is not finished."""
        return cls(folder, hashlib.sha256(" ".join(record_digests(folder)).encode()).hexdigest()[:16], most)

    @property
    def name(self) -> str:
        return f"in-{Path(self.folder).resolve().name}"

    @property
    def title(self) -> str:
        return f"those recorded in {Path(self.folder).resolve().name}"

    def items(self, model: Model) -> list[TestProgram]:
        """Raises CannotDo where all are runs of several tasks, or steps over calls; ValueError: a file is damaged."""
        kinds = finished_datasheet(self.folder)["kinds"]
        found, seen = [], Counter()
        for stored in read_stored(self.folder):
            number, count = seen[stored.kind], kinds[stored.kind]
            seen[stored.kind] += 1
            most = min(self.most, count)
            if stored.kind in ("trace", "episode") and number * most // count < (number + 1) * most // count:
                name = f"{stored.kind} {number} {stored.origin}"
                found.append(TestProgram(name, stored.trace.context, stored.trace, stored.kind))
        if not found:
            raise CannotDo(f"{self.folder} holds {dict(kinds)}: none that is whole and of one task")
        return found


@dataclass(frozen=True)
class TraceSuite:
    """The traces of programs, a `Suite`."""

    programs: CruxEvalPrograms | OwnPrograms | KeptTraces

    @property
    def name(self) -> str:
        return f"traces-{self.programs.name}"

    @property
    def title(self) -> str:
        return f"traces: {self.programs.title}"

    published: ClassVar[None] = None

    def items(self, model: Model) -> list[TestProgram]:
        return self.programs.items(model)

    def records(self, model: Model, items: Sequence[TestProgram], isolation: Isolation) -> Iterator[dict[str, Any]]:
        run = iter(true_traces(tuple(item.context for item in items if item.truth is None), isolation))
        truths = [item.truth or next(run) for item in items]
        outcomes = predicted(model, [_start(truth) for truth in truths], _LONG)
        for item, actual, outcome, forced in zip(items, truths, outcomes, _forced(model, truths), strict=True):
            guess, right = outcome.trace, exact(outcome.trace, actual)
            yield {
                "id": item.id,
                "right": right,
                "reason": "" if right else failure_category(guess, actual),
                "said": outcome.reason,
                "tokens": outcome.tokens,
                "frames": len(actual.frames),
                "kind": item.kind,
                "metrics": trace_metrics(guess, actual, model.count),
                "values": values_by_type(guess, actual),
                "constructs": constructs(item.context),
                "free": [index < len(guess.frames) and guess.frames[index] == frame
                         for index, frame in enumerate(actual.frames)],
                "forced": forced,
                "sure": _sure_and_right(model.form, outcome, actual, len(_start(actual)[1])),
            }  # fmt: skip

    def score(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        found = summary(records) | {"metrics": macro_average(record["metrics"] for record in records)}
        if self.programs.published:
            found["published_metrics"] = self.programs.published
        values: Counter[str] = Counter()
        totals: Counter[str] = Counter()
        for record in records:
            for name, (right, n) in record["values"].items():
                values[name] += right
                totals[name] += n
        found["values_by_type"] = shares({name: (values[name], totals[name]) for name in totals})
        found["by_kind"] = _rights((record["kind"], record["right"]) for record in records if record["kind"])
        found["by_construct"] = _rights((name, one["right"]) for one in records for name in one["constructs"])
        found["by_place"] = _by_place(records)
        if sure := [(p, right) for record in records for p, right in record["sure"]]:
            found["frame_calibration"] = calibration(sure)
        if reasons := Counter(record["said"] for record in records if record["said"]):
            found["breaks_off"] = dict(reasons.most_common())
        if reasons := Counter(record["forced"] for record in records if isinstance(record["forced"], str)):
            found["not_forced"] = dict(reasons.most_common())
        return found


def _kept(test: dict[str, Any]) -> Trace | None:
    """The trace that a test holds; None where it does not tell its lines, for programs that can be run again."""
    if "lines" not in test:
        return None
    trace = parse(test["text"])
    frames = (replace(frame, line=line) for frame, line in zip(trace.frames, test["lines"], strict=True))
    return replace(trace, frames=tuple(frames))


def _start(truth: Trace) -> tuple[str, tuple]:
    """A program without arguments starts from its call frame, as CWM's prompts do; others have it predicted."""
    first = truth.frames[0]
    return truth.context, (first,) if not first.locals else ()


def _sure_and_right(form: Form, outcome: Outcome, actual: Trace, given: int) -> list[tuple[float, bool]]:
    """Of each predicted frame up to the first wrong one how sure the model was, and whether it is right.

    Behind that one it speaks of another run.
    """
    pairs = []
    for guess, frame, probability in list(zip(outcome.frames, actual.frames, outcome.sure(form)))[given:]:
        pairs.append((probability, guess == frame))
        if guess != frame:
            break
    return pairs


def _forced(model: Model, truths: Sequence[Trace]) -> Iterator[dict[str, list] | str]:
    """How the model takes each frame of each real trace, or why nobody knows."""
    documents: list[tuple[list[str], list[str]] | str] = []
    for truth in truths:
        try:
            documents.append((model.form.context(truth.context), model.form.frames(truth)))
        except ValueError as error:
            documents.append(f"cannot be written: {error}")
    taken = model.force([document for document in documents if not isinstance(document, str)])
    cannot = ""
    for document in documents:
        if isinstance(document, str) or cannot:
            yield cannot or document
            continue
        try:
            pieces = next(taken)
        except CannotDo as error:
            cannot = str(error)
            yield cannot
            continue
        yield pieces if isinstance(pieces, str) else _by_frame(model.form.event_indices(document[1]), pieces)


def _by_frame(starts: list[int], pieces: list[Forced]) -> dict[str, list]:
    """For each frame `right`, whether greedy decoding says all of its pieces (None: unknown), and its `probability`."""
    spans = [pieces[start:end] for start, end in zip(starts, [*starts[1:], len(pieces)])]
    firsts = [[one.first for one in span] for span in spans]
    return {
        "right": [False if False in some else None if None in some else True for some in firsts],
        "probability": [math.exp(sum(one.logprob for one in span)) for span in spans],
    }


def values_by_type(guess: Trace, actual: Trace) -> dict[str, tuple[int, int]]:
    """By type (right, all): the values that frames of `actual` spell, held against those in the same places of `guess`.

    Values that are unchanged do not count; a predicted one does where it is right, unchanged or not.
    """
    counts: dict[str, list[bool]] = defaultdict(list)
    states = resolve(guess)
    for index, frame in enumerate(actual.frames):
        there = guess.frames[index] if index < len(guess.frames) else None
        if frame.value is not None:
            counts[_type(frame.value)].append(there is not None and there.value == frame.value)
        for name, value in frame.locals or ():
            if value != UNCHANGED:
                counts[_type(value)].append(there is not None and states[index].get(name) == value)
    return {name: (sum(rights), len(rights)) for name, rights in counts.items()}


def _type(value: str) -> str:
    """The type of a `repr`; `other` for what is no literal."""
    try:
        return type(ast.literal_eval(value)).__name__
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return "other"


def _rights(found: Iterable[tuple[str, bool]]) -> list[dict[str, Any]]:
    """How many traces of each name are right."""
    rights: dict[str, list[bool]] = defaultdict(list)
    for name, right in found:
        rights[name].append(right)
    return shares({name: (sum(some), len(some)) for name, some in rights.items()})


def _by_place(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Frames right by their place in the trace: free-running, teacher-forced, and the mean probability of the latter.

    `at_least` says that some frames are not known to be right, for log-probabilities that tell no ranks.
    """
    free = [(place, float(right)) for one in records for place, right in enumerate(one["free"], start=1)]
    known = [one["forced"] for one in records if not isinstance(one["forced"], str)]
    forced = [(place, right) for one in known for place, right in enumerate(one["right"], start=1)]
    sure = [(place, p) for one in known for place, p in enumerate(one["probability"], start=1)]
    rows = {row["frames"]: {"place": row["frames"], "n": row["n"], "free": row["score"]} for row in by_length(free)}
    for row in by_length([(place, float(right is True)) for place, right in forced]):
        rows[row["frames"]]["forced"] = row["score"]
    for row in by_length(sure):
        rows[row["frames"]]["probability"] = row["score"]
    for row in by_length([(place, float(right is None)) for place, right in forced]):
        if row["score"]:
            rows[row["frames"]]["at_least"] = True
    return list(rows.values())
