"""The model that comes with the project: small files, asked where there is no run, and it knows something."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cwm_jax.checkpoints import default
from cwm_jax.checkpoints.default import SHIPPED, default_checkpoint
from cwm_jax.checkpoints.weights import WeightsReader
from cwm_jax.data import corpus
from cwm_jax.report.evaluation import CARD
from cwm_jax.tracing import Isolation, record_many
from cwm_jax.worldmodel.models.choice import Choice, add_flags
from cwm_jax.worldmodel.models.local import LocalModel
from cwm_jax.worldmodel.predict import WorldModel

ROOT = Path(__file__).parents[2]
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def model():
    return LocalModel(SHIPPED)


def test_it_is_small_enough_to_come_along():
    sizes = [path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()]
    assert max(sizes) <= 16 * MEGABYTE and sum(sizes) <= 64 * MEGABYTE
    index = WeightsReader(SHIPPED).index
    assert index.dtype == "bfloat16" and 1e6 <= index.parameters <= 3e6 and index.step > 0
    card = (SHIPPED.parent / "README.md").read_text()
    assert all(card.count(mark) == 1 for mark in CARD) and "Apache-2.0" in card
    assert f"{index.parameters:,} parameters" in card


def test_it_is_asked_where_there_is_no_run(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text("def f(n):\n    n += 1\n    return n\n")
    command = [
        sys.executable,
        "-m",
        "cwm_jax",
        "predict",
        "one.py:f",
        "--args",
        "3",
        "--verify",
        "--unsafe",
        "--format",
        "json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exact"]
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_flags(parser)
    assert Choice.of(parser.parse_args([])).folder == SHIPPED
    assert Choice.of(parser.parse_args(["--endpoint", "http://x"])).folder is None
    for name in ("old", "new"):
        (tmp_path / "runs" / name / "checkpoints" / "5").mkdir(parents=True)
    os.utime(tmp_path / "runs" / "old" / "checkpoints", (0, 0))
    assert Choice.of(parser.parse_args([])).folder == Path("runs/new")


def test_it_knows_programs_of_families_that_it_has_not_seen(model):
    """A few of each test set; the card has the shares of all."""
    sets = corpus.test_contexts(corpus.CorpusConfig(tests=20))
    shares = {}
    for name in ("new_programs", "composed"):
        contexts = [context for _, context in sets[name][:20]]
        real = list(record_many(contexts, isolation=Isolation.LIMITS_ONLY))
        said = list(WorldModel(model).predict(contexts))
        shares[name] = sum(one == other for one, other in zip(said, real)) / len(contexts)
    assert shares["new_programs"] >= 0.25 and shares["composed"] >= 0.25, shares


def test_a_copy_without_it_says_so(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default, "SHIPPED", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path / 'none'}, the model of this project, is gone")):
        default_checkpoint()
    with pytest.raises(FileNotFoundError, match="name one with --checkpoint"):
        Choice().open_if(needed=True)
    assert Choice().open_if(needed=False) is None
