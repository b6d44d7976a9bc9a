"""Filling holes: candidates are proposed, scored by their predicted traces, and run in the order of the score."""

import ast
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice

from cwm_jax.report.progress import progress
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Limits, Trace, record_many
from cwm_jax.worldmodel.holes.grammar import Enumeration, Proposer
from cwm_jax.worldmodel.holes.shape import Check, Shape
from cwm_jax.worldmodel.predictors import TracePredictor

_LIMITS = Limits(wall_seconds=2.0, cpu_seconds=2, max_frames=20_000, max_trace_chars=4_000_000, max_value_chars=20_000)
_MOST_EXAMPLES = 3  # of one candidate that are predicted; our choice: the others are left to the real run
_TOGETHER = 16  # candidates predicted at once


@dataclass(frozen=True)
class Filling:
    """What came of a program with holes.

    Attributes:
      source: the program, its holes filled; None if nothing was found.
      expressions: what stands in the holes, in the order of the text.
      checked: whether all examples were fulfilled in a real run.
      score: the share of the examples that the prediction says are fulfilled; None where nothing was predicted.
      executions: real runs of candidates, each of all examples.
      predicted: candidates whose traces were predicted.
    """

    source: str | None
    expressions: tuple[str, ...] = ()
    checked: bool = False
    score: float | None = None
    executions: int = 0
    predicted: int = 0


def fill(
    shape: Shape,
    predictor: TracePredictor | None,
    isolation: Isolation | None = Isolation.BUBBLEWRAP,
    executions: int = 100,
    candidates: int = 200,
    proposers: Sequence[Proposer] = (Enumeration(),),
) -> Filling:
    """The holes filled so that the examples are fulfilled, holes that no example connects apart from each other.

    Args:
      shape: the program.
      predictor: scores candidates; None to run them in the order in which they are proposed.
      isolation: where candidates are run; None for nowhere: then the first that is predicted to fulfil the examples
        is the answer.
      executions: real runs at most.
      candidates: that are scored, at most; after those others are run as they are proposed.
      proposers: where candidates come from, one source after another.

    Raises:
      ValueError: there is neither a predictor nor a place to run, or a bound is not positive.
      SandboxMissing, SandboxError: as `record`.
    """
    for name, value in {"executions": executions, "candidates": candidates}.items():
        if value < 1:
            raise ValueError(f"{name}={value} is too small; give at least 1")
    if predictor is None and isolation is None:
        raise ValueError("candidates can neither be predicted nor run; name a checkpoint, or leave out --no-run")
    parts: dict[tuple[int, ...], Filling] = {}
    for places, part in shape.parts():
        left = executions - sum(one.executions for one in parts.values())
        parts[places] = _fill(part, predictor, isolation, left, candidates, proposers) if left else Filling(None)
        if parts[places].source is None:
            break
    return _joined(shape, parts)


def _joined(shape: Shape, parts: dict[tuple[int, ...], Filling]) -> Filling:
    """What came of all holes together: nothing, unless something came of each part."""
    scores = [one.score for one in parts.values()]
    effort = {
        "score": None if None in scores else min(scores),
        "executions": sum(one.executions for one in parts.values()),
        "predicted": sum(one.predicted for one in parts.values()),
    }
    if any(one.source is None for one in parts.values()):
        return Filling(None, **effort)
    found = {place: text for places, one in parts.items() for place, text in zip(places, one.expressions)}
    expressions = tuple(found[place] for place in sorted(found))
    checked = all(one.checked for one in parts.values())
    return Filling(shape.filled(expressions), expressions, checked, **effort)


def _fill(shape, predictor, isolation, executions, candidates, proposers) -> Filling:
    """The holes of one part filled; arguments as for `fill`."""
    proposed = _different(chain.from_iterable(one.propose(shape) for one in proposers))
    scored: list[tuple[float, tuple[str, ...]]] = []
    if predictor is not None:
        chosen = list(islice(proposed, candidates))
        scored = sorted(zip(_scores(shape, chosen, predictor), chosen), key=lambda pair: -pair[0])
    if isolation is None:
        best, expressions = scored[0] if scored else (0.0, ())
        if best < 1:
            return Filling(None, score=best, predicted=len(scored))
        return Filling(shape.filled(expressions), expressions, False, best, predicted=len(scored))
    order = chain(scored, ((None, one) for one in proposed))
    return _run(shape, islice(order, executions), executions, isolation, len(scored))


def _different(proposed: Iterator[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    seen = set()
    for one in proposed:
        if one not in seen:
            seen.add(one)
            yield one


def _scores(shape: Shape, candidates: list[tuple[str, ...]], predictor: TracePredictor) -> Iterator[float]:
    """The share of the examples that each candidate fulfils, as predicted."""
    checks = shape.checks[:_MOST_EXAMPLES]
    with progress("predicting", len(candidates), unit="candidates") as bar:
        for start in range(0, len(candidates), _TOGETHER):
            some = candidates[start : start + _TOGETHER]
            traces = predictor.predict([shape.example(one, check) for one in some for check in checks])
            fulfilled = [fulfils(trace, check) for trace, check in zip(traces, [*checks] * len(some))]
            for place in range(0, len(fulfilled), len(checks)):
                yield sum(fulfilled[place : place + len(checks)]) / len(checks)
            bar.update(start + len(some))


def fulfils(trace: Trace, check: Check) -> bool:
    """Whether a trace of `Shape.example` ends in what the example expects."""
    if not (trace.complete and trace.frames) or trace.frames[-1].event != "return":
        return False
    if len(trace.frames) > 1 and trace.frames[-2].event == "exception":
        return False
    value = trace.frames[-1].value
    if value == check.expected:
        return True
    try:
        return ast.literal_eval(value) == ast.literal_eval(check.expected)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


def _run(shape: Shape, order: Iterator, most: int, isolation: Isolation, predicted: int) -> Filling:
    """The first candidate of all that fulfils the examples for real."""
    started: list[tuple[float | None, tuple[str, ...]]] = []

    def contexts() -> Iterator[str]:
        for score, expressions in order:
            started.append((score, expressions))
            yield shape.test(expressions)

    traces = record_many(contexts(), _LIMITS, isolation, together=True)
    with progress("running", most, unit="candidates") as bar, closing(traces):
        for index, trace in enumerate(traces):
            if trace.verdict == "returned":
                score, expressions = started[index]
                return Filling(shape.filled(expressions), expressions, True, score, len(started), predicted)
            bar.update(index + 1)
    return Filling(None, executions=len(started), predicted=predicted)
