"""Numbers as people read them, the same in the terminal and on pages."""

import math


def percent(share: float) -> str:
    """A share from 0 to 1 as `93.1 %`. Only a full 1 reads `100 %`, only a full 0 reads `0 %`."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    rounded = min(max(round(100 * share, 1), 0.1), 99.9) if 0 < share < 1 else 100 * share
    return f"{rounded:.1f} %"


def quantity(value: float) -> str:
    """Three significant digits, with a metric suffix from 10,000 on: `12.3 k`, `1.23 M`, `9,999`, `0.0312`, `1e-05`."""
    if not math.isfinite(value):
        return f"{value}"
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(unit, 1e4):
            return f"{value / unit:.3g} {suffix}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
