"""How the parts of the page of a run of reinforcement learning are drawn."""

import math
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from cwm_jax.report.page import Block, escape, heading, prose, raw, side_by_side
from cwm_jax.report.plots import Points, bar_plot, line_plot

KINDS = {"learner": "Learner", "sampler": "Inference hosts", "env": "Environments"}
CURVE_POINTS = 300  # as many as a plot has room for
NONE = "–"


def at(row: Any, *path: str | int) -> float | None:
    """What is found in a row by keys and places; None where there is nothing or it is no finite number."""
    for key in path:
        try:
            row = row[key]
        except (KeyError, IndexError, TypeError):
            return None
    return row if row is not None and math.isfinite(row) else None


def curve(rows: Iterable[dict], *path: str | int, most: int = CURVE_POINTS) -> Points:
    """`(step, value)`, thinned to `most` by the mean of neighbours."""
    points = [(row["step"], value) for row in rows if (value := at(row, *path)) is not None]
    size = -(-len(points) // most) or 1
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], fmean(value for _, value in part)) for part in parts]


def plot(look: str, title: str, series: dict[str, Points], x_label: str, y_label: str, **drawn: Any) -> list[Block]:
    """The lines that have something to draw, and below them what to look for; nothing where there is no line."""
    log = drawn.get("log_y", False)
    series = {name: points for name, points in series.items() if any(y > 0 or not log for _, y in points)}
    return [explained(line_plot(title, series, x_label, y_label, **drawn), look)] if series else []


def explained(block: Block, look: str) -> Block:
    """A block with what to look for below it."""
    return Block(block.html + prose(look).html, block.assets) if look else block


def shares_plot(
    look: str, title: str, names: list[str], counts: dict[str, list[int]], x_label: str, y_label: str, what: str
) -> Block:
    """Bars of the share that each of some counts has in their sum; `what` is counted."""
    shares = {name: [one / sum(some) for one in some] for name, some in counts.items()}
    notes = {name: [f"{one:,} {what}" for one in some] for name, some in counts.items()}
    return explained(bar_plot(title, names, shares, x_label, y_label, notes), look)


def beside(blocks: list[Block]) -> list[Block]:
    """Blocks side by side; nothing where there are none."""
    return [side_by_side(*blocks)] if blocks else []


def section(title: str, lead: str, *blocks: Block) -> list[Block]:
    """Blocks under a heading; nothing where there are none."""
    return [heading(title), prose(lead), *blocks] if blocks else []


def figure(value: float | None) -> str:
    """A number in words, with two places."""
    return NONE if value is None else f"{value:.2f}"


def share_bar(value: float, text: str) -> Block:
    """A text with a bar below it, as long as any other beside it."""
    width = f"--share:{100 * min(max(value, 0), 1):.1f}%; min-width: 10em"
    return raw(f'<span class="share" style="{width}">{escape(text)}</span>')
