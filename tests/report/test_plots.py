import itertools
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.report.plots import BOTTOM, LEFT, RIGHT, SIZES, TOP, bar_plot, line_plot, log_ticks, nice_ticks

NUMBERS = st.floats(-1e9, 1e9)


@given(NUMBERS, st.floats(1e-6, 1e9), st.integers(3, 10))
def test_ticks_are_round_few_and_inside(low, span, most):
    high = low + span
    if high - low < 1e-9 * max(abs(low), abs(high)):
        return
    ticks = nice_ticks(low, high, most)
    slack = 1e-6 * (high - low)
    assert len(ticks) <= most and all(low - slack <= tick <= high + slack for tick in ticks)
    for one, two in itertools.pairwise(ticks):
        digits = f"{two - one:.2e}"[0:4]
        assert digits in ("1.00", "2.00", "5.00") or abs(one) > 1e5 * (two - one)


@given(st.floats(1e-9, 1e6), st.floats(1.01, 1e9), st.integers(4, 10))
def test_log_ticks_are_few_and_inside(low, factor, most):
    ticks = log_ticks(low, low * factor, most)
    assert 1 <= len(ticks) <= most and ticks == sorted(ticks)
    assert all(low * (1 - 1e-6) <= tick <= low * factor * (1 + 1e-6) for tick in ticks)


POINTS = st.lists(st.tuples(st.integers(0, 10**6), st.floats(allow_nan=True, allow_infinity=True)), max_size=30)


@given(st.dictionaries(st.sampled_from("abcd"), POINTS, min_size=1), st.booleans(), st.booleans())
def test_every_line_stays_on_its_plot(series, log_y, stepped):
    good = [y for points in series.values() for _, y in points if math.isfinite(y) and (y > 0 or not log_y)]
    if any(abs(y) > 1e100 or 0 < abs(y) < 1e-100 for y in good):
        return
    series = {name: sorted(points) for name, points in series.items()}
    if not good:
        with pytest.raises(ValueError, match="no point to draw"):
            line_plot("t", series, "x", "y", log_y, stepped)
        return
    markup = line_plot("t", series, "x", "y", log_y, stepped).html
    for drawing, (width, height) in zip(markup.split("<svg")[1:], SIZES.values(), strict=True):
        for path in re.findall(r'class="line s\d" d="([^"]*)"', drawing):
            for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path):
                assert -0.06 <= float(x) <= width - LEFT - RIGHT + 0.06
                assert -0.06 <= float(y) <= height - TOP - BOTTOM + 0.06
    stops = json.loads(re.search(r'json">(.*?)</script>', markup)[1])
    assert sum(len(rows) for _, _, rows in stops) == len(good)


@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=8))
def test_bars_are_as_high_as_their_share(values):
    markup = bar_plot("t", [str(n) for n in range(len(values))], {"a": values, "b": values}, "x", "y").html
    _, height = SIZES["wide"]
    wide = markup.split("<svg")[1]
    heights = [float(text) for text in re.findall(r'height="([\d.]+)"/>', wide)]
    area = height - TOP - BOTTOM
    assert heights == pytest.approx([value * area for value in values * 2 if value is not None], abs=0.06)


def test_bars_that_do_not_fit_their_categories_are_refused():
    with pytest.raises(ValueError, match=r"2 categories .* \{'a': 1\}"):
        bar_plot("t", ["1", "2"], {"a": [0.5]}, "x", "y")


def test_a_stepped_line_holds_its_value():
    markup = line_plot("t", {"a": [(0, 0), (1, 1)]}, "x", "y", stepped=True).html
    path = re.search(r'class="line s0" d="([^"]*)"', markup)
    assert re.fullmatch(r"M0\.0 [\d.]+H[\d.]+V0\.0", path[1])


def test_the_axis_reaches_what_it_is_told():
    assert ">0 %<" not in line_plot("t", {"a": [(0, 0.5), (1, 0.9)]}, "x", "y", shown=lambda y: f"{y:.0%}").html
    with_zero = line_plot("t", {"a": [(0, 0.5), (1, 0.9)]}, "x", "y", shown=lambda y: f"{100 * y:.0f} %", include=(0,))
    assert ">0 %<" in with_zero.html
