"""The suites by name: what a model is asked, and what its answers come to."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from cwm_jax.evaluation.cruxeval import CruxEval, FullTrace, Input, Language, Output, Reasoning, SingleStep
from cwm_jax.evaluation.halting import Halting
from cwm_jax.evaluation.holes import Holes
from cwm_jax.evaluation.trace_suite import CruxEvalPrograms, OwnPrograms, TraceSuite
from cwm_jax.sandbox import Isolation
from cwm_jax.worldmodel.models.model import Model


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


_MODES = (Language(), SingleStep(), Reasoning(), FullTrace())
SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        *(CruxEval(task, mode) for task in (Output(), Input()) for mode in _MODES),
        TraceSuite(CruxEvalPrograms()),
        TraceSuite(OwnPrograms()),
        Halting(),
        Holes(),
    )
}


def named(name: str) -> list[Suite]:
    """The suites of a name, or of all names that begin with it: `cruxeval` is eight; `all` is every one.

    Raises:
      ValueError: there is none.
    """
    found = [suite for known, suite in SUITES.items() if name in (known, "all") or known.startswith(f"{name}-")]
    if not found:
        raise ValueError(f"there is no suite {name!r}; choose run, all, {', '.join(SUITES)}, or how several begin")
    return found
