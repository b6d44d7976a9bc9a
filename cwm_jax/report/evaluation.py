"""Results of suites (`results.json` of an evaluation) as one table: in Markdown, as a page, in the terminal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cwm_jax.files import write_whole
from cwm_jax.report.figures import percent, quantity
from cwm_jax.report.page import Block, Page, heading, prose, table
from cwm_jax.report.plots import bar_plot

HEADER = ("suite", "right", "95 % interval", "items", "tokens an answer", "CWM 32B, published")
_NONE = "–"
_FORCED = (
    "Free-running, the model goes on from its own frames; teacher-forced, each frame is asked for after the real ones."
)
_CALIBRATION = {
    "calibration": (
        "Sure of an answer and right",
        "How sure the model is of an answer's text, and how often it is right.",
    ),
    "frame_calibration": (
        "Sure of a frame and right",
        "How sure the model is of each frame up to its first wrong one, and how often it is right.",
    ),
}


class Part(NamedTuple):
    """A table about one suite.

    Attributes:
      title: of the table.
      note: a sentence above it, or nothing.
      header: of its columns; the first names the rows.
      rows: cells as they are shown.
      plot: what a page shows in its place, title included, if a picture says more.
    """

    title: str
    note: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    plot: Block | None = None


CARD = ("<!-- evaluation -->", "<!-- end of evaluation -->")  # lines of a model card; between them stand the tables


def write_tables(results: dict[str, Any], folder: Path) -> None:
    """Writes `results.md` and `results.html` into `folder`, and the table of all suites into its model card, README.md,
    if there is one with the lines `CARD`."""
    write_whole(folder / "results.md", markdown(results))
    _fill_card(folder / "README.md", results)
    page = Page(
        f"Evaluation of {results['model']}", "What was asked, how much was right, and of what kind the rest is."
    )
    page.add(heading("All suites"), table(list(HEADER), [list(row) for row in overview(results)]))
    for suite in results["suites"].values():
        page.add(heading(suite["title"]))
        page.add(*([prose(f"Cannot be done: {suite['cannot']}")] if "cannot" in suite else _blocks(suite)))
    page.write(folder / "results.html")


def _fill_card(card: Path, results: dict[str, Any]) -> None:
    lines = card.read_text().splitlines() if card.exists() else []
    if all(lines.count(mark) == 1 for mark in CARD) and lines.index(CARD[0]) < lines.index(CARD[1]):
        told = [f"{results['model']}:", "", *_table(HEADER, overview(results))]
        lines[lines.index(CARD[0]) + 1 : lines.index(CARD[1])] = told
        write_whole(card, "\n".join(lines) + "\n")


def _blocks(suite: dict[str, Any]) -> Iterator[Block]:
    for part in parts(suite):
        if part.plot is None:
            yield heading(part.title, 3)
        if part.note:
            yield prose(part.note)
        yield part.plot or table(list(part.header), [list(row) for row in part.rows])


def markdown(results: dict[str, Any]) -> str:
    """The same as the page, in Markdown."""
    lines = [f"# Evaluation of {results['model']}", "", *_table(HEADER, overview(results))]
    for suite in results["suites"].values():
        lines += ["", f"## {suite['title']}"]
        if "cannot" in suite:
            lines += ["", f"Cannot be done: {suite['cannot']}"]
            continue
        for part in parts(suite):
            lines += [
                "",
                f"### {part.title}",
                "",
                *([part.note, ""] if part.note else ()),
                *_table(part.header, part.rows),
            ]
    return "\n".join(lines) + "\n"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    return [line(header), "|---" + "|---:" * (len(header) - 1) + "|", *map(line, rows)]


def overview(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row of cells under `HEADER` for each suite."""
    return [_overview_row(suite) for suite in results["suites"].values()]


def _overview_row(suite: dict[str, Any]) -> tuple[str, ...]:
    published = percent(suite["published"]) if suite.get("published") is not None else _NONE
    if "cannot" in suite:
        return suite["title"], "cannot be done", _NONE, _NONE, _NONE, published
    span = " to ".join(map(percent, suite["interval"])) if "interval" in suite else _NONE
    tokens = quantity(suite["tokens"]) if "tokens" in suite else _NONE
    return suite["title"], percent(suite["score"]), span, f"{suite['n']:,}", tokens, published


def parts(suite: dict[str, Any]) -> Iterator[Part]:
    """The tables about a suite, from whatever it tells."""
    if "metrics" in suite:
        yield _metrics(suite["metrics"], suite.get("published_metrics", {}))
    if rows := suite.get("by_length"):
        yield _bars("Right by length", "", "frames of the real trace", "frames", {"right": "score"}, rows)
    if rows := suite.get("by_place"):
        series = {
            "free-running": "free",
            "teacher-forced": "forced",
            "probability given the real frames": "probability",
        }
        told = {name: key for name, key in series.items() if any(key in row for row in rows)}
        note = _FORCED
        if any(row.get("at_least") for row in rows):
            note += " The server tells no ranks of tokens, so the teacher-forced shares are lower bounds."
        yield _bars("Frames right by their place", note, "place in the trace", "place", told, rows)
    for key, title, what in (
        ("by_type", "Right by type of answer", "type"),
        ("by_kind", "Right by kind", "kind"),
        ("by_construct", "Right by what the program holds", "construct"),
        ("values_by_type", "Values right by their type", "type"),
    ):
        if rows := suite.get(key):
            shown = [(row["type"], percent(row["score"]), f"{row['n']:,}") for row in rows]
            yield Part(title, "", (what, "right", "n"), shown)
    for key, (title, note) in _CALIBRATION.items():
        if found := suite.get(key):
            rows = [row | {"bin": percent(row["confidence"])} for row in found["bins"]]
            note = f"{note} Expected calibration error: {percent(found['error'])}."
            yield _bars(title, note, "how sure", "bin", {"sure": "confidence", "right": "score"}, rows)
    for key, title in (("reasons", "What is wrong"), ("breaks_off", "Why predictions break off"),
                       ("not_forced", "Why traces were not teacher-forced")):  # fmt: skip
        if found := suite.get(key):
            yield Part(title, "", ("reason", "items"), [(name, f"{n:,}") for name, n in found.items()])
    if details := suite.get("details"):
        yield Part("In numbers", "", ("what", "value"), list(_flat(details)))


def _metrics(found: dict[str, float], published: dict[str, float]) -> Part:
    rows = [
        (name.replace("_", " "), _metric(name, value), _metric(name, published[name]) if name in published else _NONE)
        for name, value in found.items()
    ]
    note = "Averaged within each trace, then over traces; predicted against real frames by position."
    return Part("Trace-prediction metrics", note, ("metric", "here", HEADER[-1]), rows)


def _metric(name: str, value: float) -> str:
    if name.endswith("tokens"):
        return quantity(value) if value else _NONE  # a vocabulary that is not known counts none
    return percent(value)


def _bars(title: str, note: str, what: str, key: str, series: dict[str, str], rows: list[dict[str, Any]]) -> Part:
    """A table of shares by group, and bars of them."""
    groups = [str(row[key]) for row in rows]
    shown = [
        (group, *(percent(row[name]) if name in row else _NONE for name in series.values()), f"{row['n']:,}")
        for group, row in zip(groups, rows)
    ]
    values = {label: [row.get(name) for row in rows] for label, name in series.items()}
    notes = {label: [f"n = {row['n']:,}" for row in rows] for label in series}
    return Part(title, note, (what, *series, "n"), shown, bar_plot(title, groups, values, what, "right", notes))


def _flat(details: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Nested numbers as rows; shares and counts as they are."""
    for name, value in details.items():
        label = f"{above}{name}".replace("_", " ")
        if isinstance(value, dict):
            yield from _flat(value, f"{label}: ")
        elif isinstance(value, float):
            yield label, f"{value:.4g}"
        else:
            yield label, str(value)
