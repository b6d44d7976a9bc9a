"""CRUXEval: what does a function return, and which arguments make it return that, each in four modes (paper Table 8).

Output by traces as the paper has it: the marked `main` calls the function, its call frame is given, and the value of
the outermost return is the answer; a single step has the event after that frame given, too. Input by traces is our
choice, as the paper has none: the function itself carries the marker, an assertion below it names the output, the
model draws call frames, and of those the first is taken from whose frame a predicted run returns that output.
"""

import ast
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from cwm_jax.evaluation import words
from cwm_jax.evaluation.judge import Verdict, gives, returns
from cwm_jax.evaluation.metrics import equal_values
from cwm_jax.evaluation.scores import summary
from cwm_jax.evaluation.truth import starting_frame, true_traces
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Frame
from cwm_jax.tracing.trace import START_MARKER
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.models.model import Ask, Model, Question, Said
from cwm_jax.worldmodel.predict import Draw, Outcome, predicted

ROWS = Path("experiments/data/benchmarks/cruxeval.jsonl")
_SHORT, _LONG = 512, 8192  # tokens of an answer: language and single step, reasoning and full trace (paper Table 8)
_TOGETHER = 32  # rows of which call frames are drawn at once


class Row(NamedTuple):
    """One problem: `f`, defined by `code`, called with the arguments `input` returns the literal `output`."""

    id: str
    code: str
    input: str
    output: str


def read_rows(path: Path = ROWS) -> list[Row]:
    """The problems of CRUXEval's own JSON lines file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Row(**{name: value for name, value in json.loads(line).items() if name in Row._fields}) for line in lines]


class Answer(NamedTuple):
    """What a model answers.

    Attributes:
      value: a value, or arguments; None where there is no answer.
      tokens: that it took.
      reason: why there is none.
      confidence: the probability of the value's text given all before, where the model tells.
    """

    value: str | None
    tokens: int = 0
    reason: str = ""
    confidence: float | None = None


class Task(Protocol):
    """What is asked of a function.

    Attributes:
      name: of the task.
    """

    name: str

    def problem(self, row: Row) -> str:
        """The question in words."""

    def read(self, text: str) -> str | None:
        """The answer that a text states."""

    def by_trace(self, model: Model, rows: Sequence[Row], *, step: bool) -> Iterator[Answer]:
        """Answers read off predicted traces, of a single step or full."""

    def judge(self, row: Row, answer: str, isolation: Isolation) -> Verdict:
        """Whether the answer is right."""


@dataclass(frozen=True)
class Output:
    """What does it return?"""

    name: ClassVar[str] = "output"

    def problem(self, row: Row) -> str:
        return words.output_problem(row.code, row.input)

    def read(self, text: str) -> str | None:
        return words.value_in(text)

    def by_trace(self, model: Model, rows: Sequence[Row], *, step: bool) -> Iterator[Answer]:
        contexts = [wrap(row.code, "f", row.input) for row in rows]
        starts = [(context, (starting_frame(context),)) for context in contexts]
        for outcome in predicted(model, starts, _SHORT if step else _LONG, step=step):
            yield _told(outcome)

    def judge(self, row: Row, answer: str, isolation: Isolation) -> Verdict:
        return returns(row.output, answer, isolation)


@dataclass(frozen=True)
class Input:
    """With which arguments does it return this?

    Attributes:
      samples: call frames drawn for each function; the first is the likeliest.
    """

    samples: int = 8
    name: ClassVar[str] = "input"

    def problem(self, row: Row) -> str:
        return words.input_problem(row.code, row.output)

    def read(self, text: str) -> str | None:
        return words.arguments_in(text)

    def by_trace(self, model: Model, rows: Sequence[Row], *, step: bool) -> Iterator[Answer]:
        waiting = iter(rows)
        while some := list(islice(waiting, _TOGETHER)):
            yield from self._by_trace(model, some, step)

    def _by_trace(self, model: Model, rows: Sequence[Row], step: bool) -> Iterator[Answer]:
        contexts = [_with_output(row) for row in rows]
        drawn = predicted(
            model,
            [(context, ()) for context in contexts for _ in range(self.samples)],
            _SHORT,
            first="call",
            draws=[Draw(float(sample > 0), sample) for _ in rows for sample in range(self.samples)],
        )
        calls = [list(islice(drawn, self.samples)) for _ in rows]
        frames = [
            list(dict.fromkeys(frame for one in some for frame in one.frames[:1] if frame.locals)) for some in calls
        ]
        starts = [(context, (frame,)) for context, some in zip(contexts, frames) for frame in some]
        outcomes = predicted(model, starts, _SHORT if step else _LONG, step=step)
        for row, some, distinct in zip(rows, calls, frames):
            ends = list(islice(outcomes, len(distinct)))
            tokens = sum(one.tokens for one in (*some, *ends))
            if not distinct:
                yield Answer(None, tokens, some[0].reason or "no arguments")
                continue
            fitting = (i for i, one in enumerate(ends) if one.value and equal_values(one.value, row.output))
            chosen = next(fitting, 0)
            yield Answer(_arguments(row.code, distinct[chosen]), tokens, "", ends[chosen].confidence)

    def judge(self, row: Row, answer: str, isolation: Isolation) -> Verdict:
        return gives(row.code, answer, row.output, isolation)


def _told(outcome: Outcome) -> Answer:
    return Answer(outcome.value, outcome.tokens, outcome.reason, outcome.confidence)


def _function(code: str) -> ast.FunctionDef:
    return next(node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef) and node.name == "f")


def _with_output(row: Row) -> str:
    """The context in which `f` itself is marked and an assertion, which is not run, names the output."""
    function = _function(row.code)
    lines = row.code.rstrip("\n").split("\n")
    lines[function.lineno - 1] = lines[function.lineno - 1].rstrip() + START_MARKER
    names = ", ".join(argument.arg for argument in (*function.args.posonlyargs, *function.args.args))
    return "\n" + "\n".join(lines) + f"\nassert f({names}) == {row.output}\n"


def _arguments(code: str, frame: Frame) -> str:
    """The argument list that makes a call frame."""
    parameters, values = _function(code).args, dict(frame.locals or ())
    stars = {parameters.vararg.arg: "*"} if parameters.vararg else {}
    stars |= {parameters.kwarg.arg: "**"} if parameters.kwarg else {}
    stars |= {argument.arg: f"{argument.arg}=" for argument in parameters.kwonlyargs}
    return ", ".join(f"{stars.get(name, '')}{value}" for name, value in values.items())


class Mode(Protocol):
    """A way of asking.

    Attributes:
      name: of the mode; `title` for people.
      published: accuracy of the released 32B model at output (paper Table 8).
    """

    name: str
    title: str
    published: float | None

    def answers(self, task: Task, model: Model, rows: Sequence[Row]) -> Iterator[Answer]:
        """An answer for each row."""


@dataclass(frozen=True)
class Language:
    """In words, answered at once, greedily."""

    name: ClassVar[str] = "language"
    title: ClassVar[str] = "language, no reasoning"
    published: ClassVar[float] = 0.666

    def answers(self, task: Task, model: Model, rows: Sequence[Row]) -> Iterator[Answer]:
        asks = [Ask((task.problem(row),), _SHORT, stop=(words.CLOSE,)) for row in rows]
        return (_read(said, task.read, said.text.partition(words.CLOSE)[0]) for said in model.complete(asks))


@dataclass(frozen=True)
class Reasoning:
    """In words, after thinking; drawn as CWM's reasoning evaluations are: temperature 1, top-p 0.95."""

    name: ClassVar[str] = "reasoning"
    title: ClassVar[str] = "language, with reasoning"
    published: ClassVar[float] = 0.943

    def answers(self, task: Task, model: Model, rows: Sequence[Row]) -> Iterator[Answer]:
        questions = [
            Question(words.REASONING, task.problem(row).removesuffix(words.OPEN + "\n"), _LONG) for row in rows
        ]
        return (_read(said, task.read, said.text) for said in model.answer(questions))


@dataclass(frozen=True)
class SingleStep:
    """By a trace that goes from the call frame to the return frame at once."""

    name: ClassVar[str] = "step"
    title: ClassVar[str] = "trace, single step"
    published: ClassVar[float] = 0.581

    def answers(self, task: Task, model: Model, rows: Sequence[Row]) -> Iterator[Answer]:
        return task.by_trace(model, rows, step=True)


@dataclass(frozen=True)
class FullTrace:
    """By a trace of every line."""

    name: ClassVar[str] = "trace"
    title: ClassVar[str] = "trace, full"
    published: ClassVar[float] = 0.877

    def answers(self, task: Task, model: Model, rows: Sequence[Row]) -> Iterator[Answer]:
        return task.by_trace(model, rows, step=False)


def _read(said: Said, read: Callable[[str], str | None], text: str) -> Answer:
    if said.reason:
        return Answer(None, said.tokens, said.reason)
    value = read(text)
    cut = "cut at the longest answer" if said.finish == "length" else "no answer in the text"
    return Answer(value, said.tokens, "" if value else cut)


@dataclass(frozen=True)
class CruxEval:
    """One of the two tasks in one of the four modes, a `Suite`."""

    task: Output | Input
    mode: Language | Reasoning | SingleStep | FullTrace

    @property
    def name(self) -> str:
        return f"cruxeval-{self.task.name}-{self.mode.name}"

    @property
    def title(self) -> str:
        return f"CRUXEval {self.task.name}: {self.mode.title}"

    @property
    def published(self) -> float | None:
        return self.mode.published if isinstance(self.task, Output) else None

    def items(self, model: Model) -> list[Row]:
        return read_rows()

    def records(self, model: Model, items: Sequence[Row], isolation: Isolation) -> Iterator[dict[str, Any]]:
        truths = true_traces(tuple(wrap(row.code, "f", row.input) for row in items), isolation)
        for row, answer, truth in zip(items, self.mode.answers(self.task, model, items), truths):
            verdict = Verdict(False, answer.reason)
            if answer.value is not None:
                verdict = self.task.judge(row, answer.value, isolation)
            yield {
                "id": row.id,
                "right": verdict.right,
                "reason": verdict.reason,
                "answer": answer.value,
                "tokens": answer.tokens,
                "confidence": answer.confidence,
                "frames": len(truth.frames),
                "type": type(ast.literal_eval(row.output)).__name__,
            }

    def score(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return summary(records)
