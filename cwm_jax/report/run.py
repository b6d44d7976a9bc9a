"""`report.html` of a run's folder, from whatever the run has written so far."""

import json
import math
from pathlib import Path

from cwm_jax.report.figures import duration, percent, quantity
from cwm_jax.report.page import (
    Block,
    Page,
    code,
    escape,
    folded,
    heading,
    key_figures,
    prose,
    raw,
    side_by_side,
    table,
)
from cwm_jax.report.plots import bar_plot, line_plot
from cwm_jax.report.traces import trace_browser

SET_NAMES = {"composed": "composed programs", "human_written": "human-written"}
CURVE_POINTS = 300  # as many as a plot has room for


def run_report(folder: str | Path) -> Path:
    """Writes `report.html` into `folder` and returns its path.

    Reads `results.json`, `evaluation.json`, `predictions.jsonl`, `metrics.jsonl`,
    `config.json` and `config.gin`; a part of the page whose file is missing is left out.
    """
    folder = Path(folder)
    results, evaluation = _json(folder / "results.json"), _json(folder / "evaluation.json")
    metrics = metrics_by_step(folder / "metrics.jsonl")
    sets = evaluation.get("sets", {})
    items = _lines(folder / "predictions.jsonl")
    famous = [item for item in items if "strawberry" in (item["set"], item["name"])][:1]
    items = [item for item in items if item not in famous]
    places = {_identity(item): place for place, item in enumerate(items)}
    for example in _examples(sets):
        if places.setdefault(_identity(example), len(items)) == len(items):
            items.append(example)

    page = Page(f"{folder.resolve().name}: a code world model", "What it learned, what it gets wrong, and why.")
    page.add(*_overview(results, metrics, sets))
    if famous:
        page.add(heading("Counting the r's in strawberry"), prose(_HOW_TO_BROWSE), trace_browser(famous, "strawberry"))
    page.add(*_accuracy(sets), *_failures(sets, places), *_training(metrics))
    if items:
        named = [{**item, "set": _set_name(item["set"])} for item in items]
        invitation = "Choose a program, then step through what the model said."
        page.add(heading("Traces"), prose(invitation), trace_browser(named))
    return page.add(*_config(folder)).write(folder / "report.html")


_HOW_TO_BROWSE = (
    "The model read the program and said every frame of its run, without running it. "
    "Step through what it said, beside what really happened."
)


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _lines(path: Path) -> list[dict]:
    """The objects of a JSON-lines file; a last line that a killed process left half-written is skipped."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    whole = [json.loads(line) for line in lines[:-1]]
    try:
        return [*whole, *(json.loads(line) for line in lines[-1:])]
    except ValueError:
        return whole


def metrics_by_step(path: Path) -> list[dict]:
    """The rows of a `metrics.jsonl` by step; where a resumed run told a step again, what it told last."""
    return [row for _, row in sorted({row["step"]: row for row in _lines(path)}.items())]


def _set_name(key: str) -> str:
    return SET_NAMES.get(key, key.replace("_", " "))


def _overview(results: dict, metrics: list[dict], sets: dict) -> list[Block]:
    figures = []
    if "strawberry" in results:
        figures.append(("strawberry", "✓ exact" if results["strawberry"]["exact"] else "✗ not exact", "every frame"))
    scores = {name: value for name, value in results.items() if isinstance(value, dict) and "frames_exact" in value}
    for name, score in (scores or sets).items():
        note = f"{percent(score['frames_exact'])} of frames, {score['n']:,} traces"
        figures.append((f"{_set_name(name)}, exact", percent(score["exact"]), note))
    figures += [(name, quantity(results[name]), "") for name in ("parameters", "tokens") if name in results]
    if minutes := results.get("minutes"):
        note = ", ".join(f"{name} {value:.1f}" for name, value in minutes.items() if name != "total")
        total = minutes.get("total", math.fsum(minutes.values()))
        figures.append(("minutes", f"{total:.1f}", note))
    if metrics and not results:
        last, written = metrics[-1], {"step": "{:,}".format, "loss": quantity, "seconds": duration}
        figures += [("time" if name == "seconds" else name, write(last[name]), "")
                    for name, write in written.items() if last.get(name) is not None]  # fmt: skip
    return [key_figures(figures)] if figures else []


def _accuracy(sets: dict) -> list[Block]:
    if not sets:
        return []
    blocks = [heading("How often it is right")]
    by_length = {_set_name(name): scores["by_length"] for name, scores in sets.items() if scores.get("by_length")}
    if by_length:
        blocks += [prose("A trace is exact when every frame of it is."), _length_plot(by_length)]
    metrics = {_set_name(name): scores["metrics"] for name, scores in sets.items() if scores.get("metrics")}
    if metrics:
        names = dict.fromkeys(name for values in metrics.values() for name in values)
        rows = [[_metric_name(name), *(_share(values.get(name)) for values in metrics.values())] for name in names]
        explained = "Averaged within each trace, then over traces; predicted against real frames by position."
        blocks += [heading("Trace-prediction metrics", 3), prose(explained), table(["metric", *metrics], rows)]
    return blocks


def _length_plot(by_length: dict[str, list[dict]]) -> Block:
    lengths = sorted({row["frames"] for rows in by_length.values() for row in rows}, key=_first_number)
    found = {name: {row["frames"]: row for row in rows} for name, rows in by_length.items()}
    series = {name: [rows[length]["exact"] if length in rows else None for length in lengths]
              for name, rows in found.items()}  # fmt: skip
    notes = {name: [f"{rows[length]['n']} traces" if length in rows else "" for length in lengths]
             for name, rows in found.items()}  # fmt: skip
    return bar_plot("Exact traces by length", lengths, series, "frames", "of traces", notes)


def _first_number(text: str) -> int:
    digits = "".join(char if char.isdigit() else " " for char in text).split()
    return int(digits[0]) if digits else 0


def _metric_name(name: str) -> str:
    return name.replace("_", " ").replace("pass at 1", "pass@1")


def _share(value: float | None) -> Block:
    """A share with a bar below it; a mean above 1 (tokens) as it is."""
    if value is None:
        return raw("–")
    if value > 1:
        return raw(escape(quantity(value)))
    return raw(f'<span class="share" style="--share:{100 * value:.1f}%">{percent(value)}</span>')


def _identity(item: dict) -> tuple[str, str, str]:
    return item["set"], item["name"], item["context"]


def _examples(sets: dict) -> list[dict]:
    return [
        {"set": name, **failure["example"]}
        for name, scores in sets.items()
        for failure in scores.get("failures", [])
        if failure.get("example")
    ]


def _failures(sets: dict, places: dict[tuple, int]) -> list[Block]:
    """What goes wrong first in a wrong trace: a row for each category, a column for each test set.

    `places` tells where in the trace browser an example stands.
    """
    found = {
        name: {failure["category"]: failure for failure in scores["failures"]}
        for name, scores in sets.items()
        if scores.get("failures")
    }
    if not found:
        return []
    totals: dict[str, int] = {}
    for failures in found.values():
        for category, failure in failures.items():
            totals[category] = totals.get(category, 0) + failure["n"]

    def cell(name: str, category: str) -> Block:
        failure = found[name].get(category)
        if failure is None:
            return raw("–")
        example = failure.get("example")
        if not example:
            return raw(str(failure["n"]))
        place = places[_identity({"set": name, **example})]
        label = escape(f"example of {category}, {_set_name(name)}")
        return raw(f'{failure["n"]} <a href="#trace-{place}" aria-label="{label}">see one</a>')

    ranked = sorted(totals, key=totals.get, reverse=True)
    rows = [[category, totals[category], *(cell(name, category) for name in found)] for category in ranked]
    header = ["first mismatch", "all", *map(_set_name, found)]
    return [
        heading("What goes wrong"),
        prose("Wrong traces by what their first wrong frame got wrong. What follows it is wrong for that reason."),
        table(header, rows),
    ]


def _training(metrics: list[dict]) -> list[Block]:
    blocks, small = [], []
    if curve := _curve(metrics, "loss"):
        blocks += [heading("Training"), line_plot("Loss", {"loss": curve}, "step", "nats a token", log_y=True)]
    if curve := _curve(metrics, "accuracy"):
        series = {"accuracy": curve}
        small.append(line_plot("Accuracy", series, "step", "of predicted tokens", shown=percent, include=(0, 1)))
    if curve := _curve(metrics, "learning_rate"):
        small.append(line_plot("Learning rate", {"learning rate": curve}, "step", "", stepped=True, include=(0,)))
    if curve := _curve(metrics, "tokens_per_second"):
        small.append(line_plot("Speed", {"tokens a second": curve}, "step", "tokens a second", include=(0,)))
    return [*blocks, side_by_side(*small)] if small else blocks


def _curve(metrics: list[dict], name: str) -> list[tuple[float, float]]:
    """`(step, value)`, thinned to `CURVE_POINTS` by the mean of neighbours."""
    points = [(row["step"], row[name]) for row in metrics if row.get(name) is not None and math.isfinite(row[name])]
    group = -(-len(points) // CURVE_POINTS) or 1
    groups = [points[start : start + group] for start in range(0, len(points), group)]
    return [(group[-1][0], math.fsum(value for _, value in group) / len(group)) for group in groups]


def _config(folder: Path) -> list[Block]:
    config, gin = _json(folder / "config.json"), folder / "config.gin"
    blocks = []
    if gin.exists():
        run = "/".join(folder.resolve().parts[-2:])  # such as runs/tiny; no path of the machine belongs on a page
        command = f"python -m cwm_jax train --gin_file={run}/config.gin --out {run}-again"
        blocks += [heading("How to reproduce"), prose("In the folder of the project:"), code(command)]
        blocks += [folded("config.gin: every binding that was in force", code(gin.read_text(encoding="utf-8")))]
    if config:
        rows = [[name, raw(f"<code>{escape(value)}</code>")] for name, value in _flat(config)]
        blocks += [] if blocks else [heading("Configuration")]
        blocks += [folded("config.json: the configuration as resolved", table(["field", "value"], rows))]
    return blocks


def _flat(config: dict, above: str = "") -> list[tuple[str, str]]:
    """`{"model": {"layers": 3}}` as `[("model.layers", "3")]`."""
    flat = []
    for name, value in config.items():
        inside = isinstance(value, dict) and value
        flat += _flat(value, f"{above}{name}.") if inside else [(above + name, json.dumps(value))]
    return flat
