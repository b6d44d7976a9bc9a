"""The `train` verb as its users run it: killed, resumed, repeated, and refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent


def command(gin_file, out, *more):
    return [sys.executable, "-m", "cwm_jax", "train", f"--gin_file={gin_file}", "--out", str(out), *more]


def run(*args):
    return subprocess.run(command(*args), cwd=ROOT, capture_output=True, text=True, timeout=300)


def final_weights(gin_file, out):
    from cwm_jax import config
    from cwm_jax.text.load import VOCABULARY
    from cwm_jax.text.vocabulary import SentencePieceVocabulary
    from cwm_jax.training.experiment import Experiment
    from cwm_jax.training.state import trained_weights

    experiment = config.load([gin_file], [], Experiment)
    step, params = trained_weights(out, experiment, SentencePieceVocabulary.load(out / "data" / VOCABULARY).vocab_size)
    assert step == experiment.steps
    return params


def leaves(tree):
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_kill_9_and_resume_give_the_same_bits(gin_file, trained_run, tmp_path):
    out = tmp_path / "killed"
    kills = 0
    for until in (11, 27):  # steps at which to kill, between two checkpoints
        process = subprocess.Popen(command(gin_file, out), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            if _last_step(out) >= until:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                process.wait()
            time.sleep(0.01)
    done = run(gin_file, out)
    assert done.returncode == 0, done.stderr
    assert kills >= 1
    for one, other in zip(
        leaves(final_weights(gin_file, trained_run)), leaves(final_weights(gin_file, out)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) > 40 and set(steps) == set(range(1, 41))  # some were done twice: it did resume


def _last_step(out):
    try:
        return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    except (OSError, IndexError, ValueError):
        return 0


def test_a_finished_run_holds_what_the_contract_says(trained_run):
    names = {path.name for path in trained_run.iterdir()}
    assert names >= {"checkpoints", "config.gin", "config.json", "metrics.jsonl", "results.json", "report.html"}
    assert list((trained_run / "tensorboard").glob("*tfevents*"))
    results = json.loads((trained_run / "results.json").read_text())
    assert results["parameters"] > 10_000 and results["tokens"] == 40 * 1024
    assert {"record", "train", "total"} <= results["minutes"].keys()
    losses = [json.loads(line)["loss"] for line in (trained_run / "metrics.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_running_again_changes_nothing(gin_file, trained_run):
    before = (trained_run / "metrics.jsonl").read_text()
    done = run(gin_file, trained_run)
    assert done.returncode == 0 and "finished" in done.stdout
    assert (trained_run / "metrics.jsonl").read_text() == before


def test_another_configuration_in_the_same_folder_is_refused(gin_file, trained_run):
    done = run(gin_file, trained_run, "--gin.Muon.peak_lr=0.5")
    assert done.returncode == 2
    assert "optimizer.peak_lr: 0.02 there, 0.5 here" in done.stderr and "Traceback" not in done.stderr


def test_bad_calls_are_explained(gin_file, tmp_path):
    done = run(gin_file, tmp_path / "x", "--gin.Muon.peek_lr=1")
    assert done.returncode == 2 and "peak_lr" in done.stderr and "Traceback" not in done.stderr
    done = run(tmp_path / "missing.gin", tmp_path / "x")
    assert done.returncode == 2 and "missing.gin" in done.stderr and "Traceback" not in done.stderr
