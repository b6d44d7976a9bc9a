"""Evaluation of a trained run: its test sets predicted, measured, and written where the report finds them."""

import hashlib
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from cwm_jax.data.corpus import TEST_SETS
from cwm_jax.evaluation.metrics import (
    exact,
    failure_category,
    frames_exact,
    macro_average,
    trace_metrics,
)
from cwm_jax.files import write_json, write_whole
from cwm_jax.report.progress import progress
from cwm_jax.tracing import Trace, parse
from cwm_jax.tracing.trace import frame_as_json
from cwm_jax.worldmodel.models.local import LocalModel
from cwm_jax.worldmodel.predict import WorldModel

_LENGTHS = ((1, 8), (9, 16), (17, 24), (25, 32), (33, 48), (49, 10_000))


def evaluate(run: Path) -> dict[str, Any]:
    """Predicts all test sets of a run; a set already predicted at this checkpoint is not predicted again.

    Writes `evaluation/SET.json`, `evaluation.json`, `predictions.jsonl`, and its part of `results.json`.

    Returns:
      `results.json`.

    Raises:
      FileNotFoundError: it is no trained run, or no test set lies beside its rows.
    """
    run = Path(run)
    if not (run / "results.json").exists():
        raise FileNotFoundError(
            f"{run} is no finished run, with config.gin and results.json; measure weights alone with --suite traces-own"
        )
    model = LocalModel(run)
    sets = {name: _one_set(model, run, name) for name in _names(model.tests)}
    items = [item for one in sets.values() for item in one["items"]]
    write_whole(run / "predictions.jsonl", "".join(json.dumps(item) + "\n" for item in items))
    scores = {name: one["scores"] for name, one in sets.items()}
    write_json(run / "evaluation.json", {"sets": {name: one for name, one in scores.items() if name != "strawberry"}})
    results = json.loads((run / "results.json").read_text())
    for name, one in scores.items():
        results[name] = {key: one[key] for key in ("exact", "frames_exact", "n")}
    if "strawberry" in scores:
        results["strawberry"] = {"exact": scores["strawberry"]["exact"] == 1.0}
    minutes = results["minutes"]
    minutes["predict"] = sum(one["seconds"] for one in sets.values()) / 60
    minutes["total"] = minutes["record"] + minutes["train"] + minutes["predict"]
    write_json(run / "results.json", results)
    return results


def _names(tests: Path | None) -> list[str]:
    """Those of the test sets of a run, the best-known ones first."""
    there = {path.stem for path in tests.glob("*.jsonl") if path.stat().st_size} if tests else set()
    if not there:
        raise FileNotFoundError(
            "the run has no test sets in data/tests: those that `prepare` records lie beside its rows; measure it "
            "with --suite traces-cruxeval"
        )
    return [*(name for name in TEST_SETS if name in there), *sorted(there - set(TEST_SETS))]


def _one_set(model: LocalModel, run: Path, name: str) -> dict[str, Any]:
    """Items, scores and seconds of one test set, from its file if it is of this checkpoint and these tests."""
    path, text = run / "evaluation" / f"{name}.json", (model.tests / f"{name}.jsonl").read_text()
    of = {"step": model.step, "tests": hashlib.sha256(text.encode()).hexdigest()}
    if path.exists() and of.items() <= (saved := json.loads(path.read_text())).items():
        return saved
    started = time.monotonic()
    tests = [json.loads(line) for line in text.splitlines()]
    predictions = []
    with progress(f"predicting {name.replace('_', ' ')}", len(tests), unit="traces") as bar:
        for predicted in WorldModel(model).predict([test["context"] for test in tests]):
            predictions.append(predicted)
            bar.update(len(predictions))
    pairs = [(predicted, parse(test["text"])) for predicted, test in zip(predictions, tests)]
    items = [
        {
            "set": name,
            "name": test["name"],
            "context": test["context"],
            "exact": exact(predicted, actual),
            "predicted": [frame_as_json(frame) for frame in predicted.frames],
            "actual": [frame_as_json(frame) for frame in actual.frames],
        }
        for test, (predicted, actual) in zip(tests, pairs)
    ]
    count = lambda text: len(model.vocabulary.encode(text))  # noqa: E731
    scores = _scores(pairs, items, count)
    result = {**of, "seconds": time.monotonic() - started, "scores": scores, "items": items}
    path.parent.mkdir(exist_ok=True)
    write_json(path, result)
    return result


def _scores(pairs: list[tuple[Trace, Trace]], items: list[dict], count_tokens) -> dict[str, Any]:
    """Shares exact, the nine metrics, exactness by length, and first errors by category with an example each."""
    right, total = map(sum, zip(*(frames_exact(predicted, actual) for predicted, actual in pairs)))
    by_length, failures = [], defaultdict(list)
    for low, high in _LENGTHS:
        inside = [item["exact"] for item in items if low <= len(item["actual"]) <= high]
        if inside:
            label = f"{low}-{high}" if high < 10_000 else f"{low}+"
            by_length.append({"frames": label, "n": len(inside), "exact": sum(inside) / len(inside)})
    for (predicted, actual), item in zip(pairs, items):
        if not item["exact"]:
            failures[failure_category(predicted, actual)].append(item)
    return {
        "exact": sum(item["exact"] for item in items) / len(items),
        "frames_exact": right / total,
        "n": len(items),
        "metrics": macro_average(trace_metrics(predicted, actual, count_tokens) for predicted, actual in pairs),
        "by_length": by_length,
        "failures": [
            {"category": category, "n": len(found), "example": found[0]}
            for category, found in sorted(failures.items(), key=lambda pair: -len(pair[1]))
        ],
    }
