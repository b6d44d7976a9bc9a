"""The `convert` verb: damage is named, nothing half-written stays, what was interrupted goes on."""

import json
import re
import shutil
import struct

import numpy as np
import pytest
from released import CASES, released
from safetensors.numpy import load_file, save_file

from cwm_jax import config
from cwm_jax.__main__ import main
from cwm_jax.checkpoints.convert import RELEASED, convert
from cwm_jax.checkpoints.huggingface import HuggingFaceReader
from cwm_jax.checkpoints.weights import WeightsIndex, WeightsReader
from cwm_jax.model.transformer import ModelConfig

Q_PROJ = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peer") / "hf"
    released(CASES["global-last"]).save_pretrained(folder)
    return folder


@pytest.fixture
def source(peer, tmp_path):
    return shutil.copytree(peer, tmp_path / "hf")


def change(source, change):
    file = source / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


def with_nan(tensors):
    tensors[Q_PROJ][3, 4] = np.nan
    return tensors


DAMAGE = {
    "missing": (lambda t: without(t, Q_PROJ), rf"tensor {re.escape(Q_PROJ)} is missing"),
    "shape": (lambda t: t | {Q_PROJ: t[Q_PROJ][:-1]}, rf"{re.escape(Q_PROJ)} .* has shape \(63, 48\)"),
    "dtype": (lambda t: t | {Q_PROJ: t[Q_PROJ].astype(np.int32)}, rf"{re.escape(Q_PROJ)} .* has dtype I32"),
    "mixed": (lambda t: t | {Q_PROJ: t[Q_PROJ].astype(np.float16)}, "several dtypes"),
    "nan": (with_nan, rf"{re.escape(Q_PROJ)} .* not finite"),
    "extra": (lambda t: t | {"model.layers.1.self_attn.q_proj.bias": t[Q_PROJ][:, 0]}, "q_proj.bias .* no place"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_wrong_tensor_is_named_and_nothing_is_left(source, tmp_path, capsys, kind):
    damage, message = DAMAGE[kind]
    change(source, damage)
    before = {path.name for path in tmp_path.iterdir()}
    assert main(["convert", str(source), str(tmp_path / "out"), "--from", "hf", "--to", "orbax"]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("kept", [0, 4, 1000, -1])
def test_a_truncated_file_is_named(source, tmp_path, capsys, kept):
    file = source / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert main(["convert", str(source), str(tmp_path / "out"), "--from", "hf", "--to", "orbax"]) == 2
    error = capsys.readouterr().err
    assert "model.safetensors" in error and (kept != -1 or "tensor " in error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("layer_types", None, "layer_types .* must list 6"),
        ("layer_types", ["full_attention"] * 5 + ["odd"], "names 'odd'"),
        ("tie_word_embeddings", True, "tie_word_embeddings=True"),
        ("hidden_size", "48", "hidden_size='48'"),
        ("model_type", "gpt2", "model_type='gpt2'"),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1.0}, "rope_type='yarn'"),
    ],
)
def test_a_config_that_is_no_cwm_is_refused(source, field, value, message):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(ValueError, match=message):
        HuggingFaceReader(source)


def test_there_and_back_by_the_command_line(source, tmp_path):
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert main(["convert", str(source), str(ours), "--from", "hf", "--to", "orbax"]) == 0
    assert main(["convert", str(ours), str(back), "--from", "orbax", "--to", "hf"]) == 0
    index = json.loads((back / "model.safetensors.index.json").read_text())
    theirs = load_file(source / "model.safetensors")
    found = {
        name: array for file in set(index["weight_map"].values()) for name, array in load_file(back / file).items()
    }
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in theirs.values())
    assert found.keys() == theirs.keys() == index["weight_map"].keys()
    assert all(found[name].tobytes() == theirs[name].tobytes() for name in theirs)
    assert main(["convert", str(source), str(back), "--from", "hf", "--to", "orbax"]) == 2  # it exists


def test_what_was_interrupted_goes_on(source, tmp_path):
    reads = []

    class Interrupted(HuggingFaceReader):
        def read(self, part):
            if part == "layer_003" and self.stop:
                raise KeyboardInterrupt
            reads.append(part)
            return super().read(part)

    reader = Interrupted(source)
    for reader.stop in (True, False):
        try:
            convert(reader, tmp_path / "out", "orbax", "same")
        except KeyboardInterrupt:
            assert not (tmp_path / "out").exists()
    assert reads == list(reader.index.parts())  # each once
    read = WeightsReader(tmp_path / "out").read("layer_002")
    assert all(np.array_equal(array, read[leaf]) for leaf, array in reader.read("layer_002").items())


def test_a_damaged_part_is_named(source, tmp_path):
    convert(HuggingFaceReader(source), tmp_path / "out", "orbax", "x")
    largest = max((tmp_path / "out" / "layer_001").rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(ValueError, match="part layer_001 of"):
        convert(WeightsReader(tmp_path / "out"), tmp_path / "back", "hf", "x")
    assert not (tmp_path / "back").exists()
    shutil.rmtree(tmp_path / "out" / "layer_002")
    with pytest.raises(ValueError, match="part layer_002 of"):
        WeightsReader(tmp_path / "out").read("layer_002")


def test_a_header_that_lies_is_refused(source):
    file = source / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(struct.pack("<Q", 1 << 60) + content[8:])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        HuggingFaceReader(source)


def test_the_released_shape_has_the_released_number_of_parameters():
    index = WeightsIndex(config.load([str(RELEASED)], [], ModelConfig), 128_256, "bfloat16")
    assert index.parameters == 32_581_097_472
    assert [window is None for window in index.model.windows()].count(True) == 17
