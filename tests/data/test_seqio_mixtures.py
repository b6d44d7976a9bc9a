"""The mixture as seqio draws it is the one that was resolved. Runs where requirements-data.txt is installed."""

import ast
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import cwm_jax
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.mixture import Group, MixedSet, Mixture, resolve
from cwm_jax.data.rows import Document, pack, write_rows
from cwm_jax.data.seqio_mixture import as_seqio

INSTALLED = find_spec("seqio") is not None
needs_seqio = pytest.mark.skipif(
    not INSTALLED, reason="seqio and TensorFlow (3 GB) are not installed; pip install -r requirements-data.txt"
)
LENGTH = 16


def prepared(folder, first, documents, tokens):
    """Rows of one document each, every one filled with a number of its own."""
    folder.mkdir()
    made = [Document(np.full(tokens, first + number), np.ones(tokens)) for number in range(documents)]
    count = write_rows(folder / f"rows-{LENGTH}.array_record", pack(made, LENGTH, 1))
    total = documents * tokens
    Manifest("s", "v", {LENGTH: count}, documents, total, total, {}, {}, {}, 1.0, "3.11").write(folder)
    return str(folder)


@pytest.fixture
def resolved(tmp_path):
    short = MixedSet("short", prepared(tmp_path / "short", 1000, 40, 4), epochs=2.0)
    half = MixedSet("half", prepared(tmp_path / "half", 2000, 20, 8))
    full = MixedSet("full", prepared(tmp_path / "full", 3000, 60, 15))
    absent = MixedSet("absent", str(tmp_path / "absent"))
    return resolve(Mixture((Group("cwm", 0.3, (short, half, absent)), Group("code", 0.7, (full,))), 1000))


@needs_seqio
def test_seqio_s_rates_are_the_resolved_ones(resolved):
    mixture = as_seqio(resolved, 4000)
    rates = {task.name.removeprefix("cwm."): mixture.get_rate(task) / mixture.total_rate for task in mixture.tasks}
    assert rates == pytest.approx({one.name: one.row_rate for one in resolved.sets})
    assert mixture.num_input_examples("train") == 120


@needs_seqio
def test_seqio_draws_tokens_at_the_resolved_rates(resolved):
    data = as_seqio(resolved, 4000).get_dataset(None, "train", shuffle=False, num_epochs=None, seed=0)
    drawn, rows = Counter(), Counter()
    for row in data.take(6000).as_numpy_iterator():
        first = int(row["tokens"][0])
        drawn[first // 1000] += int((row["segment_ids"] > 0).sum())
        rows[first] += 1
        assert len(row["tokens"]) == LENGTH and row["loss_weights"].dtype == np.float32
    rates = [drawn[number] / sum(drawn.values()) for number in (1, 2, 3)]
    assert rates == pytest.approx([one.rate for one in resolved.sets], abs=0.02)
    assert len(rows) == 120  # every row of every set


@pytest.mark.skipif(INSTALLED, reason="seqio is installed")
def test_without_seqio_the_message_says_what_to_install(resolved):
    with pytest.raises(ImportError, match=r"pip install -r requirements-data.txt"):
        as_seqio(resolved, 4000)


def test_one_file_alone_imports_seqio_and_tensorflow_and_only_when_called():
    def imports(nodes):
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        return {"seqio", "tensorflow"} & {name.partition(".")[0] for name in names}

    trees = {path.name: ast.parse(path.read_text()) for path in Path(cwm_jax.__file__).parent.rglob("*.py")}
    assert {name for name, tree in trees.items() if imports(ast.walk(tree))} == {"seqio_mixture.py"}
    assert not imports(trees["seqio_mixture.py"].body)
