"""Plots as SVG, drawn here: no library, crisp at any size, colours of the page they stand on.

Each plot is drawn twice, for wide and for narrow windows, so that its letters are
readable on a phone; the style sheet shows one of them.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from cwm_jax.report.figures import percent, quantity
from cwm_jax.report.page import Block, escape

Points = list[tuple[float, float]]
SIZES = {"wide": (900, 320), "narrow": (360, 240)}  # CSS pixels
LEFT, RIGHT, TOP, BOTTOM = 56, 22, 12, 44  # margins around the axes
_ASSETS = ("plots.css", "plots.js")


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers (1, 2 or 5 times a power of ten apart) that lie in [low, high]."""
    rough = (high - low) / max(1, most - 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10, 20) if factor * magnitude >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """At most `most` round numbers in [low, high], for a logarithmic axis; 0 < low < high."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{factor * 10.0**decade:.12g}") for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if 2 <= len(ticks) <= most:
            return ticks
    return ticks[:: -(-len(ticks) // most)] if len(ticks) > 1 else nice_ticks(low, high, most)


@dataclass(frozen=True)
class Axis:
    """Maps [low, high] to [0, 1], linearly or by logarithm."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: list[float], log: bool = False) -> "Axis":
        """The axis that holds all `values`, with room where they are all alike."""
        low, high = min(values), max(values)
        if high - low <= 1e-12 * abs(high):
            low, high = (low / 2, high * 2) if log else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)
        return cls(low, high, log)

    def place(self, value: float) -> float:
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        return log_ticks(self.low, self.high, most) if self.log else nice_ticks(self.low, self.high, most)


def line_plot(
    title: str,
    series: dict[str, Points],
    x_label: str,
    y_label: str,
    log_y: bool = False,
    stepped: bool = False,
    shown: Callable[[float], str] = quantity,
    include: tuple[float, ...] = (),
    dotted: tuple[str, ...] = (),
) -> Block:
    """One line for each named series of `(x, y)`, x ascending; a point that is alone is a dot.

    Args:
      log_y: a logarithmic y axis; values that are not positive are then left out, like those not finite.
      stepped: hold each value until the next x instead of joining the points.
      shown: how a y value is written.
      include: y values that the axis reaches whatever the data, such as 0 (on a linear axis).
      dotted: names of series whose points are dots on their line, such as those measured now and then.

    Raises:
      ValueError: no point is left to draw.
    """
    series = {name: [(x, y) for x, y in points if _drawable(x, y, log_y)] for name, points in series.items()}
    xs = [x for points in series.values() for x, _ in points]
    if not xs:
        raise ValueError(f"plot {title!r}: no point to draw; leave the plot out where there is no data")
    x_axis = Axis.around(xs)
    y_axis = Axis.around([*include, *(y for points in series.values() for _, y in points)], log_y)
    stops: dict[float, list] = {}
    for number, (name, points) in enumerate(series.items()):
        for x, y in points:
            stops.setdefault(x, []).append([number, name, shown(y), round(1 - y_axis.place(y), 4)])

    def marks(width: float, height: float) -> str:
        return "".join(
            f'<path class="line s{number}" d="{_path(points, x_axis, y_axis, width, height, stepped)}"/>'
            + (_dots(points, number, x_axis, y_axis, width, height) if name in dotted or len(points) == 1 else "")
            for number, (name, points) in enumerate(series.items())
            if points
        )

    hover = [[round(x_axis.place(x), 4), f"{x_label} {x:,.10g}", stops[x]] for x in sorted(stops)]
    x_ticks = [(x_axis.place(tick), quantity(tick)) for tick in x_axis.ticks(5)]
    y_ticks = [(y_axis.place(tick), _brief(shown(tick))) for tick in y_axis.ticks(6)]
    return _figure(title, list(series), (x_label, y_label), x_ticks, y_ticks, marks, hover)


def _brief(label: str) -> str:
    return label.replace(".0 %", " %")


def _drawable(x: float, y: float, log_y: bool) -> bool:
    return math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y)


def _path(points: Points, x_axis: Axis, y_axis: Axis, width: float, height: float, stepped: bool) -> str:
    spots = [(width * x_axis.place(x), height * (1 - y_axis.place(y))) for x, y in points]
    if not stepped:
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
    return f"M{spots[0][0]:.1f} {spots[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in spots[1:])


def _dots(points: Points, number: int, x_axis: Axis, y_axis: Axis, width: float, height: float) -> str:
    spots = [(width * x_axis.place(x), height * (1 - y_axis.place(y))) for x, y in points]
    return "".join(
        f'<circle class="s{number}" fill="currentColor" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in spots
    )


def bar_plot(
    title: str,
    categories: list[str],
    series: dict[str, list[float | None]],
    x_label: str,
    y_label: str,
    notes: dict[str, list[str]] | None = None,
) -> Block:
    """Bars of shares from 0 to 1: a group for each category, in it a bar for each series.

    Args:
      series: one value for each category, None where there is none.
      notes: by series, what the reader is told beside each value, such as `40 traces`.

    Raises:
      ValueError: a series has more or fewer values than there are categories, or there is none.
    """
    if not categories or any(len(values) != len(categories) for values in series.values()):
        lengths = {name: len(values) for name, values in series.items()}
        raise ValueError(f"plot {title!r}: {len(categories)} categories need as many values a series, got {lengths}")
    slot = 1 / len(categories)
    bar = 0.8 * slot / len(series)

    def marks(width: float, height: float) -> str:
        return "".join(
            f'<rect class="bar s{number}" x="{width * (slot * (place + 0.1) + number * bar):.1f}" '
            f'y="{height * (1 - value):.1f}" width="{max(1.0, width * bar - 1):.1f}" height="{height * value:.1f}"/>'
            for number, values in enumerate(series.values())
            for place, value in enumerate(values)
            if value is not None
        )

    hover = [
        [round(slot * (place + 0.5), 4), f"{x_label} {category}", [
            [number, name, percent(values[place]) + (f", {notes[name][place]}" if notes else ""), None]
            for number, (name, values) in enumerate(series.items())
            if values[place] is not None
        ]]
        for place, category in enumerate(categories)
    ]  # fmt: skip
    x_ticks = [(slot * (place + 0.5), category) for place, category in enumerate(categories)]
    y_ticks = [(tick, _brief(percent(tick))) for tick in (0, 0.25, 0.5, 0.75, 1)]
    return _figure(title, list(series), (x_label, y_label), x_ticks, y_ticks, marks, hover)


def _figure(
    title: str,
    names: list[str],
    labels: tuple[str, str],
    x_ticks: list[tuple[float, str]],
    y_ticks: list[tuple[float, str]],
    marks: Callable[[float, float], str],
    hover: list,
) -> Block:
    """The plot at both sizes with its caption, legend and what is told on hover.

    `hover` lists `[x, label, [[series number, name, value, y or None], …]]`, x and y as shares of the plot's area.
    """
    legend = "".join(f'<li class="s{number}">{escape(name)}</li>' for number, name in enumerate(names))
    drawings = "".join(
        f'<svg class="{size}" viewBox="0 0 {width} {height}" tabindex="0" role="img" aria-label="{escape(title)}">'
        f'<g transform="translate({LEFT} {TOP})" data-width="{width - LEFT - RIGHT}" '
        f'data-height="{height - TOP - BOTTOM}">'
        f"{_axes(labels[0], x_ticks, y_ticks, width - LEFT - RIGHT, height - TOP - BOTTOM)}"
        f"{marks(width - LEFT - RIGHT, height - TOP - BOTTOM)}</g></svg>"
        for size, (width, height) in SIZES.items()
    )
    data = json.dumps(hover, separators=(",", ":")).replace("<", "\\u003c")
    return Block(
        f'<figure class="plot"><figcaption>{escape(title)} <span>{escape(labels[1])}</span></figcaption>'
        f"{f'<ul class=legend>{legend}</ul>' if len(names) > 1 else ''}"
        f'{drawings}<output class="tip" hidden></output><script type="application/json">{data}</script></figure>',
        _ASSETS,
    )


def _axes(x_label: str, x_ticks: list, y_ticks: list, width: float, height: float) -> str:
    lines = [f'<path class="axis" d="M0 {height}H{width}"/>']
    for place, label in y_ticks:
        y = height * (1 - place)
        lines.append(f'<path class="grid" d="M0 {y:.1f}H{width}"/><text x="-8" y="{y + 4:.1f}">{escape(label)}</text>')
    for place, label in x_ticks:
        x = width * place
        lines.append(f'<text class="x" x="{x:.1f}" y="{height + 18}">{escape(label)}</text>')
    lines.append(f'<text class="x" x="{width / 2}" y="{height + 38}">{escape(x_label)}</text>')
    return "".join(lines)
