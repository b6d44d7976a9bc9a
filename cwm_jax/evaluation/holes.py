"""How well holes are filled: expressions masked in functions, and found again with and without a world model."""

import ast
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from cwm_jax.evaluation.scores import share
from cwm_jax.report.progress import progress
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Limits, Trace, record_many
from cwm_jax.tracing.sources import composed
from cwm_jax.tracing.sources.program import Program
from cwm_jax.tracing.trace import START_MARKER_PATTERN
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.holes import Enumeration, Shape, fill
from cwm_jax.worldmodel.holes.shape import HOLE
from cwm_jax.worldmodel.models.model import Model
from cwm_jax.worldmodel.predict import WorldModel
from cwm_jax.worldmodel.predictors import TracePredictor

TASKS = Path("experiments/holes/tasks.jsonl")
_HUMAN = Path("experiments/tiny/human")
_SEED = 20252
_COMPOSED = 70
_EXAMPLES = 4  # calls of a composed function
_LARGEST = 6  # nodes of a masked expression that hold a value or an operator; our choice, what people leave open
_LIMITS = Limits(wall_seconds=2.0, cpu_seconds=2, max_frames=1_000)


@dataclass(frozen=True)
class Task:
    """One function with a hole.

    Attributes:
      id: the family and a number, or the file that it is from.
      source: the function with `??`, and its examples as asserts.
      masked: what stood there.
    """

    id: str
    source: str
    masked: str


def make_tasks(path: Path = TASKS) -> None:
    """Writes the tasks anew, always the same: of every hand-written program that will do, and of 70 composed ones.

    Each masks one expression, a value, a condition or an argument, on a line that the examples run. It has to matter:
    of the first eight candidates that are proposed for it at most two fulfil the examples.
    """
    by_hand = [task for task in map(_by_hand, sorted(_HUMAN.glob("*.py"))) if task]
    rng, made = Random(_SEED), []
    with progress("masking", _COMPOSED, unit="tasks") as bar:
        while len(made) < _COMPOSED:
            program = composed.generate(rng, _EXAMPLES)
            if task := _masked(f"composed_{len(made)}", program, rng):
                made.append(task)
                bar.update(len(made))
    path.write_text("".join(json.dumps(vars(task)) + "\n" for task in (*by_hand, *made)))


def tasks() -> list[Task]:
    """All tasks, hand-written and composed ones in turn."""
    found = [Task(**json.loads(line)) for line in TASKS.read_text().splitlines()]
    composed_ones = [task for task in found if task.id.startswith("composed_")]
    by_hand = [task for task in found if not task.id.startswith("composed_")]
    return [one for pair in zip_longest(by_hand, composed_ones) for one in pair if one is not None]


def _by_hand(path: Path) -> Task | None:
    """A task from a file whose marked function returns one call of a function with constants, if it is such."""
    match ast.parse(text := path.read_text()).body:
        case [*_, ast.FunctionDef(body=[ast.Return(ast.Call(ast.Name(name), arguments, []))]) as main]:
            if START_MARKER_PATTERN.search(text.split("\n")[main.lineno - 1]):
                code = "\n".join(text.split("\n")[: main.lineno - 1]).rstrip()
                call = ", ".join(map(ast.unparse, arguments))
                return _masked(path.stem, Program("human", code, name, (call,)), Random(path.stem))
    return None


def _masked(name: str, program: Program, rng: Random) -> Task | None:
    """The program with one of its expressions masked; None if none will do."""
    contexts = [wrap(program.code, program.entry, arguments) for arguments in program.inputs]
    traces = list(record_many(contexts, _LIMITS, Isolation.LIMITS_ONLY))
    if not all(trace.verdict == "returned" and _literal(trace.frames[-1].value) for trace in traces):
        return None
    ran = {frame.line - 1 for trace in traces for frame in trace.frames if frame.event == "line"}  # `wrap` adds a line
    found = [node for node in _maskable(ast.parse(program.code)) if node.lineno in ran]
    if not found:
        return None
    node = rng.choice(found)
    masked = ast.get_source_segment(program.code, node)
    lines = program.code.split("\n")
    line = lines[node.lineno - 1].encode()
    lines[node.lineno - 1] = (line[: node.col_offset] + HOLE.encode() + line[node.end_col_offset :]).decode()
    asserts = [_assert(program, arguments, trace) for arguments, trace in zip(program.inputs, traces)]
    source = "\n".join([*lines, "", *asserts, ""])
    return Task(name, source, masked) if _matters(Shape(source)) else None


def _matters(shape: Shape) -> bool:
    first = [shape.test(expressions) for expressions in islice(Enumeration().propose(shape), 8)]
    traces = record_many(first, _LIMITS, Isolation.LIMITS_ONLY)
    return sum(trace.verdict == "returned" for trace in traces) <= 2


def _assert(program: Program, arguments: str, trace: Trace) -> str:
    return f"assert {program.entry}({arguments}) == {trace.frames[-1].value}"


def _maskable(tree: ast.Module) -> Iterator[ast.expr]:
    """Right-hand sides, conditions, arguments and returned values of the right size, each on one line."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(value=value) | ast.AugAssign(value=value) | ast.Return(value) if value is not None:
                places = [value]
            case ast.If(test=test) | ast.While(test=test):
                places = [test]
            case ast.Call(args=arguments):
                places = arguments
            case _:
                continue
        for place in places:
            size = sum(isinstance(part, (ast.expr, ast.operator)) for part in ast.walk(place))
            if size <= _LARGEST and place.lineno == place.end_lineno and not isinstance(place, ast.Starred):
                yield place


def _literal(text: str) -> bool:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return value == value


@dataclass(frozen=True)
class Holes:
    """Expressions found again with few real runs: in the order of predictions, and of enumeration. A `Suite`.

    Solved means that the examples hold in a real run, whatever stood there before.

    Attributes:
      budget: real runs of candidates for each task.
      candidates: that are scored for each task.
      predictor: scores them.
    """

    budget: int = 4
    candidates: int = 64
    predictor: Callable[[Model], TracePredictor] = field(default=WorldModel, repr=False)
    name: ClassVar[str] = "holes"
    published: ClassVar[None] = None

    @property
    def title(self) -> str:
        return f"holes: expressions found again, with {self.budget} real runs each"

    def items(self, model: Model) -> list[Task]:
        return tasks()

    def records(self, model: Model, items: Sequence[Task], isolation: Isolation) -> Iterator[dict[str, Any]]:
        predictor = self.predictor(model)
        for task in items:
            shape = Shape(task.source)
            guided = fill(shape, predictor, isolation, self.budget, self.candidates)
            blind = fill(shape, None, isolation, self.budget)
            yield {
                "id": task.id,
                "masked": task.masked,
                "filled": guided.expressions,
                "right": guided.checked,
                "executions": guided.executions,
                "predicted": guided.predicted,
                "by_enumeration": blind.expressions,
                "enumeration_right": blind.checked,
                "enumeration_executions": blind.executions,
            }

    def score(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What records come to.

        Returns:
          `n`, `score`, the share whose examples hold in the end, `interval`, and `details`: `enumeration`, that share
          without the predictor; `executions` and `enumeration_executions`, the real runs that this took; `predicted`,
          candidates scored.
        """
        n, right = len(records), sum(record["right"] for record in records)
        efforts = ("executions", "enumeration_executions", "predicted")
        details = {"enumeration": sum(record["enumeration_right"] for record in records) / n}
        details |= {name: sum(record[name] for record in records) for name in efforts}
        return share(right, n, details)
