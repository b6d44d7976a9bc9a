"""The suites by name: what a model is asked, and what its answers come to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cwm_jax.evaluation.cruxeval import CruxEval, FullTrace, Input, Language, Output, Reasoning, SingleStep
from cwm_jax.evaluation.halting import evaluate_halting
from cwm_jax.evaluation.holes import evaluate_holes
from cwm_jax.evaluation.models import Model
from cwm_jax.evaluation.scores import interval
from cwm_jax.evaluation.trace_suite import CruxEvalPrograms, OwnPrograms, TraceSuite
from cwm_jax.evaluation.tracing import predicted
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Trace
from cwm_jax.worldmodel.predictor import TracePredictor


class Item(Protocol):
    """One thing to ask.

    Attributes:
      id: no other item of the suite has it.
    """

    id: str


class Suite(Protocol):
    """Items, each asked and judged by itself.

    Attributes:
      name: on the command line and in files.
      title: for people.
      published: the score of the released 32B model, where there is one.
    """

    name: str
    title: str
    published: float | None

    def items(self, model: Model) -> Sequence[Item]:
        """All of them, in a fixed order.

        Raises:
          CannotDo: there are none for this model.
        """

    def records(self, model: Model, items: Sequence[Item], isolation: Isolation) -> Iterator[dict[str, Any]]:
        """What became of each item, in order: JSON with `id`, and what `score` needs.

        Raises:
          CannotDo: this model cannot be asked.
        """

    def score(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What records come to: `n`, `score`, and whatever else there is to tell."""


@dataclass(frozen=True)
class Whole:
    """A suite that measures by itself whoever predicts traces.

    Attributes:
      measure: (predictor, limit, isolation) -> JSON with `n`, `score`, `interval` and `details`.
    """

    name: str
    title: str
    measure: Callable[[TracePredictor, int | None, Isolation], dict[str, Any]] = field(repr=False)
    published: float | None = None


class TracePredictor:
    """A model as a `TracePredictor` of traces; what it cannot read or write is a trace without frames."""

    def __init__(self, model: Model, max_tokens: int = 8192):
        self._model, self._max_tokens = model, max_tokens

    def predict(self, contexts: Sequence[str]) -> Iterator[Trace]:
        """The predicted trace of each context, in order."""
        for outcome in predicted(self._model, [(context, ()) for context in contexts], self._max_tokens):
            yield outcome.trace


def _halting(predictor: TracePredictor, limit: int | None, isolation: Isolation) -> dict[str, Any]:
    found = evaluate_halting(predictor, limit and max(limit, 2))  # one that halts and one that loops
    return _scored(found["programs"], found["accuracy"], found)


def _holes(predictor: TracePredictor, limit: int | None, isolation: Isolation) -> dict[str, Any]:
    found = evaluate_holes(predictor, limit, isolation=isolation)
    return _scored(found["tasks"], found["solved"], {name: one for name, one in found.items() if name != "items"})


def _scored(n: int, score: float, details: dict[str, Any]) -> dict[str, Any]:
    return {"n": n, "score": score, "interval": interval(round(score * n), n), "details": details}


_MODES = (Language(), SingleStep(), Reasoning(), FullTrace())
SUITES: dict[str, Suite | Whole] = {
    suite.name: suite
    for suite in (
        *(CruxEval(task, mode) for task in (Output(), Input()) for mode in _MODES),
        TraceSuite(CruxEvalPrograms()),
        TraceSuite(OwnPrograms()),
        Whole("halting", "halting: does it end, read off predicted traces", _halting),
        Whole("holes", "holes: expressions found again, with 4 real runs each", _holes),
    )
}


def named(name: str) -> list[Suite | Whole]:
    """The suites of a name, or of all names that begin with it: `cruxeval` is eight; `all` is every one.

    Raises:
      ValueError: there is none.
    """
    found = [suite for known, suite in SUITES.items() if name in (known, "all") or known.startswith(f"{name}-")]
    if not found:
        raise ValueError(f"there is no suite {name!r}; choose run, all, {', '.join(SUITES)}, or how several begin")
    return found
