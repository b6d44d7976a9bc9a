"""What a server takes of TPUs and moves between them: held against the committed report of each target.

The small target runs here; `make aot` compiles the large ones again (`-m aot`, minutes each).
"""

import json
import shlex
from pathlib import Path

import pytest

from cwm_jax import config
from cwm_jax.__main__ import main
from cwm_jax.checkpoints.weights import WeightsIndex
from cwm_jax.inference.served import Int8, Serve
from cwm_jax.tpu import cli
from cwm_jax.tpu.chips import Topology

pytest.importorskip("libtpu")
TOY = Path("tests/aot/toy_serve.v5e-2x4.json")
REPORTS = sorted(Path("experiments/aot/serving").glob("*.json"))
SIZES = ("used_gib", "weights_gib", "cache_gib")


def compiled_again(report: dict, out: Path) -> dict:
    """What the command of a report gives now."""
    arguments = shlex.split(report["command"])[3:]
    arguments[arguments.index("--out") + 1] = str(out)
    assert main(arguments) == 0
    return json.loads(out.read_text())


def assert_same_contract(now: dict, before: dict) -> None:
    for name in SIZES:
        assert now[name] == pytest.approx(before[name], rel=0.01, abs=1e-3)
    fixed = before.keys() - {*SIZES, "programs", "command"}
    assert {name: now[name] for name in fixed} == {name: before[name] for name in fixed}
    for name, program in before["programs"].items():
        assert now["programs"][name]["collectives"] == program["collectives"]


def serve_of(report: dict) -> Serve:
    files, overrides, _ = config.split_gin_flags(shlex.split(report["command"])[4:])
    return cli.serve_of(files, overrides)


def test_the_toy_keeps_its_contract_and_moves_what_arithmetic_says(tmp_path):
    before = json.loads(TOY.read_text())
    now = compiled_again(before, tmp_path / "toy.json")
    assert_same_contract(now, before)
    serve = serve_of(before)
    for name, tokens, trips in (
        ("prefill", serve.engine.rows * serve.engine.chunk, 1),
        ("decode", serve.engine.slots, 4),
    ):
        moved = {row["kind"]: row for row in now["programs"][name]["collectives"]}
        assert moved.keys() == {"all-gather", "all-reduce"}, "no weight is gathered, nothing is shuffled"
        reduced = moved["all-reduce"]
        assert (reduced["axes"], reduced["trips"]) == (["tensor"], trips)
        assert reduced["count"] == 2 * serve.model.layers, "after attention and after feed-forward"
        assert reduced["mib"] * 2**20 == pytest.approx(
            2 * serve.model.layers * tokens * serve.model.d_model * 2, rel=0.03
        )


def test_there_is_a_report_of_what_was_compiled():
    assert {json.loads(path.read_text())["topology"] for path in REPORTS} == {"v5e:2x4", "v5p:2x2x1", "v6e:2x4"}


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_committed_reports_hold_together(path):
    report = json.loads(path.read_text())
    serve, topology = serve_of(report), Topology.parse(report["topology"])
    assert path.stem.endswith(f".{report['topology'].replace(':', '-')}")
    assert report["fits"] and report["used_gib"] <= 0.92 * report["hbm_gib"]
    assert (report["chips"], report["hbm_gib"]) == (topology.chips, topology.chip.hbm_gib)
    parameters = WeightsIndex(serve.model, serve.vocabulary_size, "bfloat16").parameters
    width = 1 if isinstance(serve.weights, Int8) else 2
    assert report["weights_gib"] == pytest.approx(width * parameters / topology.chips / 2**30, rel=0.04)
    layers = len(serve.model.global_layers)
    token = 2 * serve.model.kv_heads * serve.model.head_dim * 2 / topology.chips / 2**30
    assert report["cache_gib"] > token * layers * report["tokens_in_pages"]


def test_samplers_have_room_for_the_next_weights_at_131k():
    """While they draw at full length, what was published comes in beside what is in use."""
    found = [json.loads(path.read_text()) for path in REPORTS if "-rl." in path.name]
    assert found
    for report in found:
        assert report["longest"] == 131_072 and report["programs"].keys() == {"prefill", "decode"}
        assert report["used_gib"] + report["weights_gib"] <= 0.92 * report["hbm_gib"]


@pytest.mark.aot
@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_large_targets_keep_their_contract(path, tmp_path):
    report = json.loads(path.read_text())
    assert_same_contract(compiled_again(report, tmp_path / "report.json"), report)
