"""DCP checkpoints: torch writes them, neighbouring channels turning together; converted they are the same function."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from released import CASES, VOCAB, released

from cwm_jax.checkpoints.convert import convert
from cwm_jax.checkpoints.dcp import DcpReader
from cwm_jax.checkpoints.huggingface import HuggingFaceReader
from cwm_jax.checkpoints.weights import WeightsReader, stacked
from cwm_jax.model.transformer import ModelConfig, rebuilder

CASE = CASES["global-last"]
NAMES = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
    "model.layers": "layers",
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}


def in_pairs(weight, head_dim=16):
    """Rows of queries or keys with channels i and i + K/2 side by side."""
    halves = weight.reshape(-1, 2, head_dim // 2, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape).contiguous()


def written(folder, dtype=torch.float32, prefix=""):
    model = released(CASE, dtype)
    state = {}
    for name, weight in model.state_dict().items():
        for theirs, released_as in NAMES.items():
            name = name.replace(theirs, released_as)
        state[prefix + name] = in_pairs(weight) if ".wq." in name or ".wk." in name else weight
    dcp.save(state, checkpoint_id=folder / "dcp", no_dist=True)
    model.save_pretrained(folder / "hf")
    return model, HuggingFaceReader(folder / "hf").index.model


@pytest.mark.parametrize("dtype, prefix", [(torch.float32, ""), (torch.bfloat16, "model.")])
def test_converted_it_is_bit_for_bit_what_hugging_face_holds(tmp_path, dtype, prefix):
    _, shape = written(tmp_path, dtype, prefix)
    reader, peer = DcpReader(tmp_path / "dcp", shape), HuggingFaceReader(tmp_path / "hf")
    assert reader.index == peer.index
    for part in reader.index.parts():
        ours, theirs = reader.read(part), peer.read(part)
        assert ours.keys() == theirs.keys()
        for leaf in ours:
            assert ours[leaf].tobytes() == theirs[leaf].tobytes(), (part, leaf)


def test_logits_agree(tmp_path):
    model, shape = written(tmp_path)
    convert(DcpReader(tmp_path / "dcp", shape), tmp_path / "orbax", "orbax", "test")
    reader = WeightsReader(tmp_path / "orbax")
    params = stacked(reader, lambda name, array: jnp.asarray(array))
    ids = np.random.default_rng(0).integers(0, VOCAB, (1, 30))
    with torch.no_grad():
        expected = model(torch.tensor(ids)).logits.numpy()
    model = rebuilder(reader.index.model, VOCAB)(params)
    logits = model(jnp.asarray(ids), jnp.arange(30)[None], jnp.ones((1, 30), jnp.int32))
    assert np.abs(logits - expected).max() < 1e-5


def test_damage_names_the_tensor(tmp_path):
    _, shape = written(tmp_path)
    whole = next((tmp_path / "dcp").glob("*.distcp"))
    whole.write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"tensor .* cannot be read"):
        convert(DcpReader(tmp_path / "dcp", shape), tmp_path / "out", "orbax", "test")
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.partial").exists()


def test_another_shape_names_the_tensor(tmp_path):
    written(tmp_path)
    with pytest.raises(ValueError, match=r"tensor .* missing|tensor .* has shape"):
        DcpReader(tmp_path / "dcp", ModelConfig())
    shutil.rmtree(tmp_path / "dcp")
    with pytest.raises(FileNotFoundError, match=r"\.metadata is missing"):
        DcpReader(tmp_path / "dcp", HuggingFaceReader(tmp_path / "hf").index.model)
