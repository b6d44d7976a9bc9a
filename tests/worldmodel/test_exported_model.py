"""Exported weights with their vocabulary beside them are used as the run that they come from."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cwm_jax.checkpoints.weights import INDEX, WeightsIndex
from cwm_jax.inference.served import Serve, load
from cwm_jax.model.components import QKNorm, ShortConv
from cwm_jax.model.transformer import ModelConfig
from cwm_jax.tracing.wrap import wrap
from cwm_jax.training.export import export
from cwm_jax.training.trained import trained
from cwm_jax.worldmodel.models.local import LocalModel
from cwm_jax.worldmodel.predict import WorldModel

ROOT = Path(__file__).parent.parent.parent
PROGRAM = wrap("def twice(number):\n    return number * 2", "twice", "21")


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "weights"
    export(trained_run, folder, "orbax", "float32")
    return folder


def test_it_predicts_what_the_run_predicts(trained_run, exported):
    run, weights = LocalModel(trained_run), LocalModel(exported)
    found = trained(exported)
    other = found._replace(params=jax.tree.map(lambda weight: weight * 1.001, found.params))
    assert run.identity == weights.identity == found.identity != other.identity  # of one vocabulary and step
    assert weights.tests and sorted(path.name for path in weights.tests.iterdir()) == sorted(
        path.name for path in run.tests.iterdir()
    )
    assert (weights.longest, weights.step, weights.identity) == (run.longest, run.step, run.identity)
    assert weights.form == run.form
    (one,), (other,) = (list(WorldModel(model).predict([PROGRAM])) for model in (run, weights))
    assert one == other and one.reason == other.reason


def test_it_is_served_and_predicted_with_by_name(exported):
    served = load(Serve(checkpoint=str(exported)))
    assert served.vocabulary.fingerprint == trained(exported).vocabulary.fingerprint
    command = [sys.executable, "-m", "cwm_jax", "predict", "experiments/tiny/strawberry.py", "--checkpoint", exported]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert "call      def count_letters(s, letter):" in done.stdout
    assert done.returncode == 0 or "breaks off" in done.stderr  # it has learnt next to nothing


def test_half_the_bytes_hold_nearly_the_same_weights(trained_run, exported, tmp_path):
    export(trained_run, tmp_path / "half", "orbax", "bfloat16")
    params = trained(trained_run).params
    np.testing.assert_allclose(trained(tmp_path / "half").params["embed"], params["embed"], rtol=1 / 128)
    size = {
        folder: sum(path.stat().st_size for path in folder.rglob("d/*")) for folder in (exported, tmp_path / "half")
    }
    assert size[tmp_path / "half"] < 0.6 * size[exported]


def test_what_cwm_has_not_goes_to_no_form_of_others(trained_run, tmp_path):
    with pytest.raises(ValueError, match=r"ModelConfig.conv=ShortConv.* no place for it; write --to orbax"):
        export(trained_run, tmp_path / "out", "hf", "float32")
    assert not list(tmp_path.iterdir())


def test_the_index_tells_the_model(tmp_path):
    model = ModelConfig(conv=ShortConv(3), qk_norm=QKNorm(), global_layers=(1,), local_window=64)
    for index in (WeightsIndex(model, 99, "bfloat16", 512, 40), WeightsIndex(ModelConfig(), 99, "float32")):
        index.save(tmp_path)
        assert WeightsIndex.load(tmp_path) == index
    old = json.loads((tmp_path / INDEX).read_text())
    for name in ("longest", "step"):
        del old[name]
    for part in ("conv", "qk_norm"):
        del old["model"][part]
    (tmp_path / INDEX).write_text(json.dumps(old))
    assert WeightsIndex.load(tmp_path) == index


def test_what_is_neither_a_run_nor_such_weights_is_refused(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match="is neither the folder of a run"):
        LocalModel(tmp_path)
    WeightsIndex(ModelConfig(), 99, "float32").save(tmp_path)
    with pytest.raises(ValueError, match="does not tell how long its rows were"):
        LocalModel(tmp_path)
