"""What moves between chips, and what it takes of them: held against the committed report of each target.

The small target runs here; `make aot` compiles the large ones again (`-m aot`, minutes each). After a change that is
meant to change a layout, run the command that stands in the report.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cwm_jax import config
from cwm_jax.model.flops import flops
from cwm_jax.tpu.chips import Topology
from cwm_jax.training.experiment import Experiment

pytest.importorskip("libtpu")
TOY = Path("tests/aot/toy.v5e-2x4.json")
REPORTS = sorted(Path("experiments/aot").glob("*.json"))
LAYOUT = ("experiment", "topology", "chips", "mesh", "sequence", "tokens_per_step", "gflop_per_token", "collectives")


def compiled_again(report: dict, out: Path) -> dict:
    """What the command of a report gives now."""
    arguments = shlex.split(report["command"])
    arguments[arguments.index("--out") + 1] = str(out)
    done = subprocess.run([sys.executable, *arguments[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def assert_same_contract(now: dict, before: dict) -> None:
    assert {name: now[name] for name in LAYOUT} == {name: before[name] for name in LAYOUT}
    assert now["used_gib"] == pytest.approx(before["used_gib"], rel=0.01, abs=1e-3)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> dict:
    return compiled_again(json.loads(TOY.read_text()), tmp_path_factory.mktemp("aot") / "toy.json")


def test_the_toy_keeps_its_contract(toy):
    assert_same_contract(toy, json.loads(TOY.read_text()))


def test_the_toy_moves_what_arithmetic_says(toy):
    """A trip is a global and a local layer, forward and backward, the forward pass made again."""
    c = config.load(["tests/aot/toy.gin"], [], Experiment).model
    weights = 2 * (c.d_model * c.head_dim * 2 * (c.q_heads + c.kv_heads) + 3 * c.d_model * c.d_ff)
    keys_and_values = 2 * c.kv_heads * c.head_dim  # a token
    moved = {(row["kind"], *row["axes"]): row["mib"] * 2**20 for row in toy["collectives"] if row["trips"] == 2}
    everywhere, context, bf16 = ("fsdp", "context"), ("context",), 2
    assert moved["all-gather", *everywhere] == pytest.approx(2 * weights * bf16, rel=1e-3), "weights, there and back"
    reduced = moved["reduce-scatter", *everywhere] + moved["all-reduce", *everywhere]
    assert reduced == pytest.approx(weights * bf16, rel=0.01), "gradients, once"
    gathered = 2 * keys_and_values * toy["sequence"] * bf16
    assert moved["all-gather", *context] == pytest.approx(gathered, rel=0.01), "keys of the global layer, twice"
    halo = 3 * keys_and_values * c.local_window * bf16
    assert moved["collective-permute", *context] == pytest.approx(halo, rel=0.01), "halo of the local layer, thrice"


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_committed_reports_hold_together(path):
    report = json.loads(path.read_text())
    topology = Topology.parse(report["topology"])
    assert path.name == f"{report['experiment']}.{report['topology'].replace(':', '-')}.json"
    assert report["fits"] and report["used_gib"] <= 0.92 * report["hbm_gib"]
    assert (report["chips"], report["hbm_gib"]) == (topology.chips, topology.chip.hbm_gib)
    arguments = shlex.split(report["command"])
    files, overrides, _ = config.split_gin_flags(arguments[4:])
    experiment = config.load(files, overrides, Experiment)
    counted = flops(experiment.model, experiment.data.vocabulary_size, report["sequence"]).training
    assert report["gflop_per_token"] == pytest.approx(counted / 1e9, rel=1e-3)
    rate = counted * report["tokens_per_step"] / report["step_seconds"] / topology.chips
    assert report["predicted_mfu"] == pytest.approx(rate / topology.chip.peak, rel=1e-3)


@pytest.mark.aot
@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_large_targets_keep_their_contract(path, tmp_path):
    report = json.loads(path.read_text())
    assert_same_contract(compiled_again(report, tmp_path / "report.json"), report)
