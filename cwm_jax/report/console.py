"""Traces and results in the terminal: colour where there is a terminal, plain text elsewhere."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cwm_jax.report import bootstrap
from cwm_jax.report.evaluation import HEADER, overview
from cwm_jax.report.figures import percent, quantity
from cwm_jax.report.frames import full_locals, verdicts

WIDEST_SOURCE = 48  # characters; longer lines push their locals to the right
WIDEST_VALUE = 80  # characters of one value; the report and `--format json` have all of it
_MARKS = {None: "  ", True: ("✓ ", "green"), False: ("✗ ", "bold red")}
EVENT_STYLES = {"call": "cyan", "line": "default", "return": "magenta", "exception": "red"}


def print_trace(predicted: list[dict], actual: list[dict] | None = None, console: Console | None = None) -> None:
    """Prints a predicted trace line by line with its locals in full.

    Args:
      predicted: frames (see `report.frames`).
      actual: the real run; each frame then gets a tick or a cross, and a wrong one the real frame below it.
      console: where to; stdout if None.
    """
    console = console or Console(highlight=False)
    checks = [None] * len(predicted) if actual is None else verdicts(predicted, actual)
    width = min(WIDEST_SOURCE, max((len(frame["source"].rstrip()) for frame in predicted), default=0))
    ours = _lines(predicted, width)
    real = _lines(actual or [], width)
    for index, exact in enumerate(checks):
        mark = _MARKS[exact]
        line = ours[index] if index < len(ours) else Text("no frame predicted", "red")
        console.print(Text.assemble(mark, (f"{index + 1:>3}  ", "dim"), line), soft_wrap=True)
        if exact is False:
            line = real[index] if index < len(real) else Text("no frame: the run had ended", "dim")
            console.print(Text.assemble(("  real ", "green"), line), soft_wrap=True)
    if actual is not None:
        console.print(_summary(checks), soft_wrap=True)


def _summary(checks: list[bool]) -> Text:
    if all(checks):
        return Text(f"✓ exact: all {len(checks)} frames", "bold green")
    first = checks.index(False) + 1
    return Text(f"✗ {sum(checks)} of {len(checks)} frames exact, the first mismatch is frame {first}", "bold red")


def _lines(frames: list[dict], width: int) -> list[Text]:
    return [_line(frame, state, width) for frame, state in zip(frames, full_locals(frames), strict=True)]


def _line(frame: dict, state: dict[str, str], width: int) -> Text:
    line = Text.assemble((f"{frame['event']:<9} ", EVENT_STYLES[frame["event"]]))
    line.append(_visible(frame["source"].rstrip()).ljust(width) + "  ")
    if frame["event"] in ("return", "exception"):
        return line.append(f"→ {_clipped(frame['value'])}", "bold")
    for name, value in state.items():
        changed = frame["locals"][name] != ".."
        line.append(f"{_visible(name)} = {_clipped(value)}  ", "bold" if changed else "dim")
    line.rstrip()
    return line


def _clipped(value: str) -> str:
    shown = _visible(value)
    return shown if len(shown) <= WIDEST_VALUE else shown[: WIDEST_VALUE - 1] + "…"


def _visible(text: str) -> str:
    """`text` with everything that could move a terminal's cursor spelled out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def print_results(results: dict, console: Console | None = None) -> None:
    """Prints what a run's `results.json` holds; what is missing is left out."""
    console = console or Console(highlight=False)
    table = Table("test set", header_style="bold")
    for column in ("traces exact", "frames exact", "traces"):
        table.add_column(column, justify="right")
    for name, scores in results.items():
        if isinstance(scores, dict) and "frames_exact" in scores:
            row = percent(scores["exact"]), percent(scores["frames_exact"]), f"{scores['n']:,}"
            table.add_row(name.replace("_", " "), *row)
    if table.row_count:
        console.print(table)
    if "strawberry" in results:
        exact = results["strawberry"]["exact"]
        console.print(Text("✓ strawberry: exact", "green") if exact else Text("✗ strawberry: not exact", "red"))
    facts = [f"{quantity(results[name])} {name}" for name in ("parameters", "tokens") if name in results]
    facts += [f"{name} {minutes:.1f} min" for name, minutes in results.get("minutes", {}).items()]
    if facts:
        console.print(", ".join(facts), soft_wrap=True)


def print_suites(results: dict, console: Console | None = None) -> None:
    """Prints the table of an evaluation's `results.json`, and below it why what could not be done could not be."""
    console = console or Console(highlight=False)
    table = Table(*HEADER[:1], title=f"Evaluation of {results['model']}", header_style="bold")
    for column in HEADER[1:]:
        table.add_column(column, justify="right")
    for row in overview(results):
        table.add_row(*row)
    console.print(table)
    for suite in results["suites"].values():
        if "cannot" in suite:
            console.print(f"{suite['title']}: {suite['cannot']}", soft_wrap=True)


def print_rounds(results: dict, console: Console | None = None) -> None:
    """Prints what a bootstrapping run's `results.json` says of each round."""
    console = console or Console(highlight=False)
    table = Table(title="Held-out tasks solved", header_style="bold")
    for column in bootstrap.HEADER:
        table.add_column(column, justify="left" if column == "environment" else "right")
    for row in bootstrap.overview(results):
        table.add_row(*row)
    console.print(table)
