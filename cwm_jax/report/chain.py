"""`report.html` of a chain of runs, and its table in the terminal: what each stage changed."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cwm_jax.report.figures import percent, quantity
from cwm_jax.report.page import Page, code, folded, heading, prose, table
from cwm_jax.report.plots import bar_plot

HEADER = ("stage", "traces exact", "output at once", "output after thinking", "reward", "tokens", "minutes")
NAMES = {"pretrain": "pre-training", "midtrain": "mid-training", "sft": "SFT", "rl": "RL"}
_SHARES = {"trace": "traces exact", "output": "output at once", "reasoned": "output after thinking"}
_LEAD = "Each stage goes on from the last checkpoint of the one before. Programs that none saw tell what it changed."
_ASKED = {
    "trace": "asked for the trace",
    "output": "asked for the output at once",
    "reasoned": "asked to think, then for the output",
    "reward": "drawn as it is while it is reinforced",
}


def overview(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row of cells under `HEADER` for each stage."""
    return [
        (
            NAMES[stage["stage"]],
            *(percent(stage["scores"][name]["pass"]) for name in _SHARES),
            f"{stage['scores']['reward']['reward']:.3f}",
            quantity(stage["tokens"]),
            f"{stage['minutes']:.1f}",
        )
        for stage in results["stages"]
    ]


def print_chain(results: dict[str, Any], console: Console | None = None) -> None:
    """Prints the table, and what every part took."""
    console = console or Console(highlight=False)
    shown = Table(header_style="bold")
    shown.add_column(HEADER[0], no_wrap=True)
    for column in HEADER[1:]:
        shown.add_column(column, justify="right")
    for row in overview(results):
        shown.add_row(*row)
    console.print(shown)
    console.print(_took(results), soft_wrap=True)


def write_chain_report(results: dict[str, Any], folder: Path) -> Path:
    """Writes `report.html` into `folder`; its path.

    Args:
      results: what `evaluation.chain` told of every stage.
    """
    stages = results["stages"]
    names = [NAMES[stage["stage"]] for stage in stages]
    bars = {label: [stage["scores"][name]["pass"] for stage in stages] for name, label in _SHARES.items()}
    notes = {label: [_interval(stage["scores"][name]) for stage in stages] for name, label in _SHARES.items()}
    page = Page(f"{Path(folder).resolve().name}: what each stage changed", _LEAD)
    page.add(heading("Stages"), table(list(HEADER), [list(row) for row in overview(results)]), prose(_took(results)))
    page.add(bar_plot("Programs right", names, bars, "after", "right", notes))
    page.add(heading("One program"), code(results["example"].strip()))
    for stage, name in zip(stages, names):
        page.add(heading(f"After {name}", 3))
        page.add(*(folded(_ASKED[way], code(said)) for way, said in stage["example"].items()))
    return page.write(Path(folder) / "report.html")


def _interval(score: dict[str, Any]) -> str:
    return " to ".join(map(percent, score["interval"]))


def _took(results: dict[str, Any]) -> str:
    n = results["stages"][0]["n"]
    parts = ", ".join(f"{NAMES.get(name, name)} {minutes:.1f}" for name, minutes in results["minutes"].items())
    return f"{n} programs, the likeliest answers; the reward is of drawn ones. Minutes: {parts}."
