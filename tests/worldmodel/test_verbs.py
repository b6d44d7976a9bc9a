"""The `evaluate` and `predict` verbs as their users run them, on a run that has learnt next to nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cwm_jax.data.corpus import TEST_SETS

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = "experiments/tiny/strawberry.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cwm_jax", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def evaluated(trained_run, tmp_path_factory):
    """A copy of the run, evaluated, and what that printed."""
    out = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(trained_run, out)
    done = run("evaluate", "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_evaluate_writes_what_the_contract_says(evaluated):
    out, printed = evaluated
    results = json.loads((out / "results.json").read_text())
    for name in ("new_inputs", "new_programs", "composed", "human_written"):
        assert set(results[name]) == {"exact", "frames_exact", "n"}
        assert 0 <= results[name]["exact"] <= results[name]["frames_exact"] + 1 and results[name]["n"] >= 6
    assert results["strawberry"] in ({"exact": True}, {"exact": False})
    assert set(results["minutes"]) == {"record", "train", "predict", "total"}
    assert "report.html" in printed and "strawberry" in printed.lower()
    names = {json.loads(line)["set"] for line in (out / "predictions.jsonl").read_text().splitlines()}
    assert names == set(TEST_SETS)
    assert "new programs" in (out / "report.html").read_text().lower()


def test_evaluating_again_predicts_nothing_anew(evaluated):
    out, _ = evaluated
    before = {path: path.stat().st_mtime_ns for path in (out / "evaluation").iterdir()}
    assert run("evaluate", "--out", out).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "evaluation").iterdir()} == before


def test_only_a_test_set_that_changed_is_predicted_anew_and_an_empty_one_is_none(evaluated, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(evaluated[0], out)
    changed, emptied = (out / "data" / "tests" / f"{name}.jsonl" for name in ("composed", "new_inputs"))
    changed.write_text("".join(changed.read_text().splitlines(keepends=True)[1:]))
    emptied.write_text("")
    before = {path.stem: path.read_text() for path in (out / "evaluation").iterdir()}
    done = run("evaluate", "--out", out)
    assert done.returncode == 0, done.stderr
    after = {path.stem: path.read_text() for path in (out / "evaluation").iterdir()}
    assert {name for name in before if after[name] != before[name]} == {"composed"}
    composed, previous = (json.loads(text["composed"])["scores"]["n"] for text in (after, before))
    assert composed == previous - 1
    assert "new_inputs" not in {
        json.loads(line)["set"] for line in (out / "predictions.jsonl").read_text().splitlines()
    }


def test_predict_with_verify_compares_frame_by_frame(trained_run):
    done = run("predict", EXAMPLE, "--checkpoint", trained_run, "--verify", "--unsafe", "--format", "json")
    assert done.returncode in (0, 3), done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {"exact", "frames", "frames_exact", "first_mismatch", "predicted", "actual"}
    assert result["frames"] == len(result["actual"]["frames"]) == 40
    assert result["exact"] is (result["first_mismatch"] is None) and 0 <= result["frames_exact"] <= 40


def test_predict_a_function_as_text_and_as_a_table(trained_run, tmp_path):
    (tmp_path / "one.py").write_text("def f(n):\n    return n + 1\n")
    text = run("predict", f"{tmp_path}/one.py:f", "--args", "3", "--checkpoint", trained_run, "--format", "text")
    assert text.returncode in (0, 3) and text.stdout.startswith("<|begin_of_text|><|trace_context_start|>")
    table = run("predict", f"{tmp_path}/one.py:f", "--args", "3", "--checkpoint", trained_run)
    assert table.returncode == text.returncode


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["missing.py", "--checkpoint", "RUN"], "missing.py"),
        ([EXAMPLE, "--checkpoint", "nowhere"], "nowhere"),
        ([EXAMPLE + ":f", "--args", "1", "--checkpoint", "RUN"], "marker already"),
    ],
)
def test_bad_calls_are_explained(arguments, complaint, trained_run):
    done = run("predict", *(trained_run if argument == "RUN" else argument for argument in arguments))
    assert done.returncode == 2 and complaint in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("def f(:\n  # << START_OF_TRACE\n", "does not parse"),
        ("def main():  # << START_OF_TRACE\n    return " + "x" * 20_000, "20,0"),
    ],
)
def test_what_cannot_be_predicted_is_explained(text, complaint, trained_run, tmp_path):
    (tmp_path / "odd.py").write_text(text)
    done = run("predict", tmp_path / "odd.py", "--checkpoint", trained_run)
    assert done.returncode == 3 and complaint in done.stderr and "Traceback" not in done.stderr


def test_evaluating_what_is_no_run_is_explained(tmp_path):
    done = run("evaluate", "--out", tmp_path)
    assert done.returncode == 2 and "config.gin" in done.stderr and "Traceback" not in done.stderr
