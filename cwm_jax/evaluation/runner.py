"""Suites put to a model, item by item: what is done stays done, whatever stops the rest."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cwm_jax.evaluation.suites import Suite
from cwm_jax.files import claim, in_use, write_json, write_whole
from cwm_jax.report.evaluation import write_tables
from cwm_jax.report.progress import progress
from cwm_jax.sandbox import Isolation
from cwm_jax.worldmodel.models.model import CannotDo, Model

_RECORDS = 3  # another number wherever records hold something else: older ones are not read then


def run_suites(
    suites: Sequence[Suite],
    model: Model,
    out: Path,
    limit: int | None = None,
    isolation: Isolation = Isolation.BUBBLEWRAP,
) -> dict[str, Any]:
    """Puts suites to a model, or goes on where an interrupted call stopped.

    Writes `items/SUITE.jsonl`, a line for each item as soon as it is judged, and `results.json`, `results.md` and
    `results.html`, in which suites that were put to the same weights before keep their place.

    Args:
      out: folder of results of this model and no other.
      limit: the first so many items of each suite; None for all.

    Returns:
      `results.json`: `model`, `identity`, and by name what each of `suites` came to. One that cannot be put to this
      model has `cannot`, the reason, in place of a score.

    Raises:
      ValueError: the folder holds results of another model, or another process works in it.
    """
    out = Path(out)
    with in_use(out):
        claim(out, f"evaluation of {model.subject}\n")
        path = out / "results.json"
        results = json.loads(path.read_text()) if path.exists() else {}
        if results.get("identity") != model.identity:
            results = {"model": model.name, "identity": model.identity, "suites": {}}
        for suite in suites:
            head = {"title": suite.title, "published": suite.published}
            results["suites"][suite.name] = head | _one(suite, model, out, limit, isolation)
            write_json(path, results)
            write_tables(results, out)
    return results


def _one(suite: Suite, model: Model, out: Path, limit: int | None, isolation: Isolation) -> dict[str, Any]:
    path = out / "items" / f"{suite.name}.jsonl"
    mark = hashlib.sha256(f"{model.identity} {suite!r} {_RECORDS}".encode()).hexdigest()[:16]
    try:
        items = list(suite.items(model))[:limit]
        return suite.score(_records(suite, model, items, path, mark, isolation))
    except CannotDo as error:
        return {"cannot": str(error)}


def _records(
    suite: Suite, model: Model, items: Sequence[Any], path: Path, mark: str, isolation: Isolation
) -> list[dict[str, Any]]:
    """The records of items, those that are in the file taken from there."""
    done = _read(path, mark)
    missing = [item for item in items if item.id not in done]
    if missing:
        write_whole(path, "".join(json.dumps(record) + "\n" for record in done.values()))  # without what does not count
        started = len(items) - len(missing)
        with path.open("a") as file, progress(suite.title, len(items), unit="items", start=started) as bar:
            began = time.monotonic()
            for number, record in enumerate(suite.records(model, missing, isolation), start=started + 1):
                seconds, began = time.monotonic() - began, time.monotonic()
                done[record["id"]] = record | {"seconds": round(seconds, 3), "mark": mark}
                file.write(json.dumps(done[record["id"]]) + "\n")
                file.flush()
                bar.update(number)
    return [done[item.id] for item in items]


def _read(path: Path, mark: str) -> dict[str, dict[str, Any]]:
    """By id the records of these weights and this suite; half a line that a killed process left is none."""
    found = {}
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n") and (record := json.loads(line))["mark"] == mark:
            found[record["id"]] = record
    return found
