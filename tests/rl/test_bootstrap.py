"""Rounds of RL, rejection sampling and SFT: one command, whoever kills it, with a vocabulary and without."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from cwm_jax import config
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.rows import RowFile
from cwm_jax.envs.reverse import ANSWER, END, Reverse
from cwm_jax.report.bootstrap import HEADER, overview
from cwm_jax.rl import bootstrap
from cwm_jax.rl.bootstrap import Bootstrap
from cwm_jax.rl.curriculum import Order, Stage
from cwm_jax.rl.rejection import SOLVE_RATES
from cwm_jax.rl.spool import Spool
from cwm_jax.rl.trajectory import Context, Group, Trajectory
from cwm_jax.text.load import load_vocabulary
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.loop import train
from cwm_jax.training.start import FreshStart, Weights
from cwm_jax.training.state import trained_weights

FILE = "experiments/tiny/reverse.gin"
SMALL = (
    "Learning.spool_steps=None", "Bootstrap.rounds=2", "Reverse.letters=2", "Reverse.length=1", "ModelConfig.layers=1",
    "Rl.steps=6", "Rl.checkpoint_every=3", "Rl.ttl=8.0", "Admission.groups=4", "Batching.groups=4", "Batching.rows=4",
    "Batching.length=32", "Batching.tokens=128", "Sampling.members=8", "Sampling.groups=8", "Examining.tasks=16",
    "EngineConfig.slots=16", "Bootstrap.sft=@sft/Sft()", "sft/StreamConfig.tokens_per_batch=64", "Sft.epochs=30.0",
    "sft/AdamW.peak_lr=5e-3",
)  # fmt: skip


def begin(out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "cwm_jax", "bootstrap", f"--gin_file={FILE}", "--out", str(out)]
    command += [f"--gin.{one}" for one in SMALL]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + 900
    while not path.exists():
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < until, f"{path} does not come"
        time.sleep(0.05)


def ended(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said[-3000:]
    return said


def test_a_killed_command_goes_on_where_it_was(tmp_path, capsys):
    process = begin(tmp_path)
    wait_for(tmp_path / "round-1" / "sft" / "config.json", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = tmp_path / "round-0" / "rl" / "results.json", tmp_path / "round-1" / "sft" / "data" / "manifest.json"
    stamps = [path.stat().st_mtime_ns for path in before]
    said = ended(begin(tmp_path))
    assert [path.stat().st_mtime_ns for path in before] == stamps, "what was done is not done again"

    results = json.loads((tmp_path / "results.json").read_text())
    assert [one["round"] for one in results["rounds"]] == [0, 1]
    first, second = results["rounds"]
    assert first["sft"] is None and second["sft"]["trajectories"] == first["kept"]["trajectories"] > 0
    for one in results["rounds"]:
        assert one["success"]["reverse"]["n"] == 16
        assert all(0 <= one["success"]["reverse"][when] <= 1 for when in ("before", "after"))
    # SFT on right answers is what a random policy has to learn from.
    assert second["success"]["reverse"]["before"] > first["success"]["reverse"]["before"]
    assert all(name in said for name in HEADER)
    assert "round-1/sft/report.html" in (tmp_path / "report.html").read_text()
    sft = config.load([tmp_path / "round-1" / "sft" / "config.gin"], [], Experiment)
    assert sft.start == FreshStart(), "SFT starts where the first round did"
    check_rows(tmp_path / "round-1" / "sft" / "data")
    check_rows(tmp_path / "data")
    assert (tmp_path / "data" / SOLVE_RATES).exists()

    jax.devices()  # those of all tests; training makes its own where there are none yet
    assert bootstrap.run(resolve(), tmp_path) == results and "is finished" in capsys.readouterr().out


def check_rows(folder: Path) -> None:
    """Every document is a text and its reverse, and the reverse and the end are what is learnt."""
    manifest = Manifest.read(folder)
    rows = RowFile(folder / "rows-32.array_record", manifest.rows[32]).read(np.arange(manifest.rows[32]))
    env, seen = Reverse(letters=2, length=1), set()
    for tokens, segments, _, weights in zip(*rows):
        for number in range(1, segments.max() + 1):
            said, learnt = tokens[segments == number].tolist(), weights[segments == number]
            answer = said.index(ANSWER) + 1
            assert learnt.tolist() == [0] * answer + [1] * (len(said) - answer)
            assert said[answer:] == [*said[1 : answer - 1][::-1], END] and max(said) < env.vocab_size
            seen.add(tuple(said))
    assert len(seen) == manifest.documents > 0


def resolve(*overrides: str) -> Bootstrap:
    return bootstrap.load([FILE], [*SMALL, *overrides])


def test_later_rounds_start_from_sft_and_know_what_was_hard(tmp_path):
    whole = resolve()
    assert whole.rl_of(0, tmp_path) == whole.rl
    later = whole.rl_of(2, tmp_path)
    sft = tmp_path / "round-2" / "sft"
    assert later.checkpoint == str(sft) and later.curriculum.solve_rates == str(sft / "data" / SOLVE_RATES)
    assert replace(later, checkpoint=None, curriculum=whole.rl.curriculum) == whole.rl
    assert (whole.sft.optimizer.peak_lr, whole.rl.optimizer.peak_lr) == (5e-3, 2e-3)
    assert resolve("sft/AdamW.peak_lr=1e-4").rl == whole.rl


def test_where_all_is_solved_no_task_is_harder_than_another():
    order = Order({"e": ["a", "b"]}, stages=(Stage(prefer_hard=1.0),), rates={"e/a": 1.0, "e/b": 1.0})
    assert {order(number).task for number in range(2)} == {"a", "b"}
    order = Order({"e": ["a", "b"]}, stages=(Stage(prefer_hard=1.0),), rates={"e/a": 1.0, "e/b": 0.5})
    assert {order(number).task for number in range(20)} == {"b"}


def test_a_spool_that_is_emptied_is_refused():
    with pytest.raises(ValueError, match=r"Learning.spool_steps=0 deletes .*bind Learning.spool_steps = None"):
        resolve("Learning.spool_steps=0")


@pytest.mark.parametrize("wrong", ["Bootstrap.rounds=0", "Sft.epochs=0.0"])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=wrong):
        resolve(wrong)


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    config.write(resolve("Bootstrap.rounds=5"), tmp_path)
    with pytest.raises(ValueError, match="another configuration"):
        bootstrap.run(resolve(), tmp_path)


def test_a_model_of_text_keeps_its_vocabulary_and_sft_starts_from_its_run(trained_run, tmp_path):
    """What lies between two rounds of a model of text: rows in its ids, SFT from its run, a start of RL from that."""
    whole = resolve(f"Rl.checkpoint='{trained_run}'", "Rl.checkpoint_every=100", "Sft.epochs=2.0")
    spool = Spool(tmp_path / "round-0" / "rl" / "spool")
    vocabulary = whole.rl.start.vocabulary
    for number in range(4):
        tokens = np.random.default_rng(number).integers(0, vocabulary.vocab_size, 20)
        agent = np.arange(20) >= 10
        said = Context.of(tokens, agent, np.zeros(20), np.where(agent, 1, -1), np.zeros(20))
        spool.seal(Group(f"{number:024x}", f"trace/{number}", (Trajectory((said,), outcomes={"pass": 1.0}),)))
    sft = tmp_path / "round-1" / "sft"
    kept = bootstrap._keep(whole, tmp_path / "round-0" / "rl", sft / "data")
    assert kept.vocabulary == vocabulary.fingerprint and kept.documents == 4
    experiment = whole.experiment(sft / "data", kept)
    assert experiment.start == Weights(str(trained_run)) and experiment.data.vocabulary_size == vocabulary.vocab_size
    assert experiment.model == whole.rl.start.model and experiment.steps == 4
    jax.devices()
    assert train(experiment, sft)["steps"] == 4
    assert load_vocabulary(sft / "data" / "vocabulary.model").fingerprint == vocabulary.fingerprint
    start = whole.rl_of(1, tmp_path).start
    assert start.vocabulary.fingerprint == vocabulary.fingerprint and start.weights == Weights(str(sft))
    trained = config.load([trained_run / "config.gin"], [], Experiment)
    old = trained_weights(trained_run, trained, vocabulary.vocab_size)[1]["embed"]
    new = trained_weights(sft, config.load([sft / "config.gin"], [], Experiment), vocabulary.vocab_size)[1]["embed"]
    assert 0 < np.abs(np.asarray(new) - np.asarray(old)).max() < 0.1  # a few steps away from where it started


def test_the_table_has_a_row_for_each_round_and_environment():
    rate = {"before": 0.25, "after": None, "n": 4}
    one = {"round": 1, "success": {"a": rate, "b": rate}, "sft": {"trajectories": 1200, "steps": 5},
           "kept": {"trajectories": 7, "tokens": 9, "dropped": {}}}  # fmt: skip
    rows = overview({"rounds": [one | {"round": 0, "sft": None}, one]})
    assert rows[0] == ["0", "a", "–", "25.0 %", "–", "4", "7"] and len(rows) == 4
    assert rows[3] == ["1", "b", "1,200", "25.0 %", "–", "4", "7"]
