"""The benchmarks run, and say what they claim to say."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import recorder as recorder_benchmark
from training_cases import CASES

from cwm_jax.checkpoints.weights import WeightsIndex

KEYS = {"case", "ours", "theirs", "peer", "unit", "ratio", "goal", "bound"}


def test_training_is_compared_with_transformers(tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, "benchmarks/train_vs_transformers.py", "--quick", "--case", "toy", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr  # it fails where the two sides do not come to the same loss
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == json.loads(out.read_text())
    assert result["benchmark"] == "train_vs_transformers" and "2 x 32 tokens" in result["shapes"]["toy"]
    speed, memory = result["rows"]
    assert speed.keys() == memory.keys() == KEYS
    assert speed["ratio"] == pytest.approx(speed["ours"] / speed["theirs"], rel=1e-2)
    assert speed["goal"] == pytest.approx(min(2.0, 0.85 * speed["bound"] / speed["theirs"]), rel=1e-2)
    assert memory["ratio"] == pytest.approx(memory["theirs"] / memory["ours"], rel=1e-2)


def test_decoding_is_compared_with_transformers(tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, "benchmarks/decode.py", "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr  # it fails where the two sides do not come to the same tokens
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == json.loads(out.read_text()) and result["benchmark"] == "decode"
    speed, first, guesses, cache = result["rows"]
    assert all(row.keys() == KEYS for row in result["rows"])
    assert speed["ratio"] == pytest.approx(speed["ours"] / speed["theirs"], rel=1e-2) and speed["ours"] < speed["bound"]
    assert first["ratio"] == pytest.approx(first["theirs"] / first["ours"], rel=1e-2)
    assert guesses["peer"] == "this engine without guesses" and "% of guesses came out" in guesses["case"]
    assert cache["theirs"] == 32 and cache["bound"] <= cache["ours"] < 10.2


def test_a_server_is_put_under_load(trained_run, tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, "benchmarks/serving.py", "--quick", "--out", str(out), "--run", str(trained_run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr  # it fails where an answer is not whole, or guesses change one
    rows = json.loads(out.read_text())["rows"]
    assert all(row.keys() == KEYS for row in rows) and len(rows) == 6
    assert "clients at once" in rows[0]["case"] and "% of guesses came out" in rows[-1]["case"]


@pytest.mark.parametrize("name", CASES)
def test_products_cost_six_flops_a_weight_and_token(name):
    case = CASES[name]
    parts = WeightsIndex(case.model, case.vocab_size, case.dtype).parts()
    del parts["embed"]  # looked up, not multiplied
    matrices = [shape for part in parts.values() for shape in part.values() if len(shape) > 1]
    assert case.product_flops() == 6 * case.tokens * sum(math.prod(shape) for shape in matrices)


def test_attention_costs_half_the_square_and_the_window_is_credited():
    case = replace(CASES["toy"], shortest=CASES["toy"].length)
    model, S = case.model, case.length
    one_pair = 12 * model.q_heads * model.head_dim * case.batch
    everywhere = replace(case, model=replace(model, layers=1, global_layers=None))
    nowhere = replace(case, model=replace(model, layers=1, global_layers=(), local_window=S // 2))
    assert everywhere.attention_flops() == one_pair * S * S / 2
    assert nowhere.attention_flops() == one_pair * (S * S / 2 - S * S / 8)
    assert CASES["toy"].attention_flops() < case.attention_flops()  # documents see themselves only


def test_documents_fill_rows_without_padding():
    case = CASES["1M"]
    row = case.row()
    assert row.tokens.shape == (case.batch, case.length)
    assert (row.segment_ids > 0).all() and (row.positions[:, 0] == 0).all()
    assert ((row.positions == 0) == (row.loss_weights == 0)).all() and row.positions.max() < case.length


@pytest.mark.parametrize("case", recorder_benchmark.CASES)
def test_the_recorder_is_compared_with_others_that_record_the_same(case):
    rows = recorder_benchmark.compare(case, [recorder_benchmark.CASES[case]], repeats=1)  # fails where traces differ
    assert [row["peer"] for row in rows] == list(recorder_benchmark.PEERS)
    for row in rows:
        assert row.keys() == KEYS
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"], rel=0.05, abs=0.01)
        assert row["bound"] > row["theirs"]


def test_asynchronous_rl_is_compared_with_synchronous(tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, "benchmarks/rl_async.py", "--quick", "--part", "engines", "caches", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert all(row.keys() == KEYS for row in rows)
    assert [row["case"].split()[0] for row in rows] == ["R4"] * 4 + ["R5", "R6", "R10"]
    for row in rows:
        ours, theirs = (row["ours"], row["theirs"]) if row["unit"] == "tokens/s" else (row["theirs"], row["ours"])
        assert row["ratio"] == pytest.approx(ours / theirs, rel=2e-2)
