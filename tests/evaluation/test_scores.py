"""Shares and their intervals against SciPy's, calibration as a property of any pairs of sure and right."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from cwm_jax.evaluation.scores import by_length, calibration, interval, summary

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
sure = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


@settings(deadline=None)  # the first call of SciPy is slow
@given(counts)
def test_the_interval_is_wilsons(count):
    right, n = count
    theirs = binomtest(right, n).proportion_ci(method="wilson")
    assert interval(right, n) == pytest.approx([theirs.low, theirs.high], abs=1e-6)


@given(sure)
def test_calibration_counts_everything_and_errs_by_at_most_one(pairs):
    found = calibration(pairs)
    assert sum(row["n"] for row in found["bins"]) == found["n"] == len(pairs)
    assert 0 <= found["error"] <= 1
    mean = sum(right for _, right in pairs) / len(pairs)
    assert sum(row["n"] * row["score"] for row in found["bins"]) / len(pairs) == pytest.approx(mean)
    assert abs(sum(confidence for confidence, _ in pairs) / len(pairs) - mean) <= found["error"] + 1e-9


def test_calibration_of_known_answers():
    assert calibration([(1.0, True)] * 3 + [(0.0, False)])["error"] == 0
    assert calibration([(0.9, True), (0.9, False)])["error"] == pytest.approx(0.4)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1)), min_size=1))
def test_every_length_has_its_group(scores):
    rows = by_length(scores)
    assert sum(row["n"] for row in rows) == len(scores)
    assert sum(row["n"] * row["score"] for row in rows) == pytest.approx(sum(score for _, score in scores))


def test_a_summary_tells_each_kind_apart():
    def record(right: bool, kind: str, frames: int, reason: str = "") -> dict:
        return {"right": right, "type": kind, "frames": frames, "reason": reason, "tokens": 10, "confidence": None}

    records = [record(True, "str", 4), record(False, "str", 100, "wrong value"), record(True, "int", 5)]
    found = summary(records)
    assert (found["n"], found["score"], found["tokens"]) == (3, pytest.approx(2 / 3), 10)
    assert found["reasons"] == {"wrong value": 1} and "calibration" not in found
    assert found["by_type"] == [{"type": "str", "n": 2, "score": 0.5}, {"type": "int", "n": 1, "score": 1}]
    assert [row["frames"] for row in found["by_length"]] == ["1-8", "97+"]
