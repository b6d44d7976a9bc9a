"""The table of a mixture in the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from cwm_jax.report.figures import percent, quantity


def print_mixture(mixture: dict[str, Any], console: Console | None = None) -> None:
    """Prints what each set of a resolved mixture gives.

    Args:
      mixture: the fields of `mixture.json`.
      console: where to; stdout if None.
    """
    table = Table("set", box=None, pad_edge=False)
    for heading in ("tokens", "rows", "target", "epochs", "drawn", "rate", "of rows"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group, share in mixture["shares"].items():
        sets = [one for one in mixture["sets"] if one["group"] == group]
        given = sum(one["rate"] for one in sets)
        table.add_row(f"{group}, asked {percent(share)}", *[""] * 5, percent(given), style="bold")
        for one in sets:
            table.add_row(f"  {one['name']}", *_figures(one, mixture["tokens"]))
    console = console or Console(highlight=False)
    console.print(table)
    if mixture["absent"]:
        console.print(f"absent: {', '.join(mixture['absent'])}; the others have their share", soft_wrap=True)


def _figures(one: dict[str, Any], total: int) -> list[str]:
    return [
        quantity(one["tokens"]),
        quantity(one["rows"]),
        f"{one['target_epochs']:g}",
        f"{one['epochs']:.2f}",
        quantity(one["rate"] * total),
        percent(one["rate"]),
        percent(one["row_rate"]),
    ]
