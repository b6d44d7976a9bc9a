"""What `serve --checkpoint` loads, and what it refuses."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from served_models import MODEL, SHAPES, vocabulary, weights, write_served

from cwm_jax.__main__ import main
from cwm_jax.inference.request import Request
from cwm_jax.inference.served import AsStored, Int8, Serve, load, load_weights
from cwm_jax.model.sharding import MeshShape
from cwm_jax.text.load import VOCABULARY, load_vocabulary

KNOWN = vocabulary()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_served(tmp_path_factory.mktemp("loaded") / "tiny")


@pytest.mark.parametrize("form", [AsStored(), Int8()], ids=["stored", "int8"])
def test_weights_are_those_on_disk_wherever_they_lie(form, folder):
    model = dataclasses.replace(MODEL, kv_heads=1)
    serve = Serve(str(folder), model=model, vocabulary_size=KNOWN.vocab_size, weights=form, mesh=MeshShape(fsdp=2))
    mesh = serve.mesh_shape.build()
    with jax.set_mesh(mesh):
        loaded = load_weights(serve, folder, mesh)
        found_vocabulary, params = loaded.vocabulary, loaded.params
        assert params["blocks"]["gate"][0].shape == (MODEL.d_model, MODEL.d_ff)
        leaves = jax.tree.leaves(params["blocks"]["gate"][0])
        assert leaves[0].sharding.shard_shape(leaves[0].shape)[0] == MODEL.d_model // 2, "cut as the rules say"
    assert found_vocabulary == KNOWN
    before = weights(KNOWN.vocab_size)
    for name in ("wq", "wo", "gate", "down", "attention_norm"):
        there = params["blocks"][name][0]
        if isinstance(form, Int8) and name != "attention_norm":
            values, scales = np.asarray(there.values, np.float32), np.asarray(there.scales)
            assert np.all(np.abs(values * scales - before["blocks"][name][0]) <= scales * 0.501)
        else:
            np.testing.assert_array_equal(there, before["blocks"][name][0])
    np.testing.assert_array_equal(params["embed"], before["embed"])


def test_a_run_is_served_from_its_newest_checkpoint(trained_run):
    served = load(Serve(str(trained_run), engine=dataclasses.replace(SHAPES, slots=1)))
    assert served.name == trained_run.name
    assert served.vocabulary == load_vocabulary(trained_run / "data" / VOCABULARY)
    (answer,) = served.engine.generate([Request((served.vocabulary.bos_id,), 2)])
    assert len(answer.ids) == 2


def test_what_cannot_be_served_is_explained(folder, tmp_path, capsys):
    def told(*arguments) -> str:
        assert main(["serve", "--port", "0", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "weights.json" in told("--checkpoint", tmp_path)
    wrong = ("--gin.Serve.model=@ModelConfig()", "--gin.ModelConfig.layers=7")
    assert "layers 1 there, 7 here" in told("--checkpoint", folder, *wrong)
    assert "name an address of this machine" in told("--checkpoint", folder, "--host", "203.0.113.7")
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--port", "70000"])
    assert "--port 70000" in capsys.readouterr().err
    assert "Serve" in told("--checkpoint", folder, "--gin.Serv.name='x'")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "weights.json").write_text((folder / "weights.json").read_text())
    assert "tokenizer.json of the release" in told("--checkpoint", bare)
    (bare / "vocabulary.model").write_bytes((folder / "vocabulary.model").read_bytes())
    index = json.loads((bare / "weights.json").read_text())
    (bare / "weights.json").write_text(json.dumps(index | {"vocab_size": 7}))
    assert "330 tokens, the weights 7" in told("--checkpoint", bare)
