"""T9: what is exactly unbiased, and that the committed table of what is not says what the code does."""

import importlib.util
import json
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "experiments/rl/biases.py"


@pytest.fixture(scope="module")
def biases():
    spec = importlib.util.spec_from_file_location("biases", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(biases):
    return biases.measured()


def test_the_committed_table_is_what_the_code_gives(biases, rows):
    told = json.loads(biases.TABLE.read_text())
    assert told["command"] == biases.COMMAND and told["rows"].keys() == rows.keys()
    for name, entries in rows.items():
        for entry, committed in zip(entries, told["rows"][name], strict=True):
            assert committed == pytest.approx(entry, rel=1e-6, abs=1e-7), f"{name}: run {biases.COMMAND}"


def test_what_is_exact_and_what_is_so_but_for_its_scale(biases, rows):
    """By hand: with its own reward in the mean, a pair learns half; drawn again, 1 / the share that says something."""
    for name in (*biases.EXACT, "zero advantage is skipped"):
        assert max(entry["bias"] for entry in rows[name]) < 1e-10
    for entry in rows["baseline: mean of all, the own reward in it"]:
        assert (entry["bias"], entry["scale"]) == pytest.approx((0.5, 0.5)) and entry["turn"] < 1e-5
    assert max(entry["turn"] for entry in rows["zero advantage is skipped, others drawn instead"]) < 1e-5
    for name, entries in rows.items():
        if name.startswith("ratios of tokens") and "mean" not in name and "observations" not in name:
            assert entries[0]["bias"] < 1e-10 < 1e-3 < entries[1]["bias"], "on policy every ratio is 1, and only there"
