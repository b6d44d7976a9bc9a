"""Our network is the function that `transformers` calls `CwmForCausalLM`, converted weights and all."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from released import CASES, VOCAB, released

from cwm_jax.checkpoints.convert import convert
from cwm_jax.checkpoints.huggingface import HuggingFaceReader
from cwm_jax.checkpoints.weights import WeightsReader, stacked
from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Request
from cwm_jax.model.transformer import rebuilder

LENGTH = 40


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def ours(model, folder):
    """Our model with the weights of theirs, by way of their files and our folder of weights."""
    model.save_pretrained(folder / "hf")
    convert(HuggingFaceReader(folder / "hf"), folder / "orbax", "orbax", "test")
    reader = WeightsReader(folder / "orbax")
    params = stacked(reader, lambda name, array: jnp.asarray(array))
    return rebuilder(reader.index.model, reader.index.vocab_size), params


def tokens(seed=0, batch=2, length=LENGTH):
    return np.random.default_rng(seed).integers(0, VOCAB, (batch, length))


def theirs(model, ids):
    with torch.no_grad():
        return model(torch.tensor(ids)).logits.float().numpy()


def whole_rows(ids):
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    return jnp.asarray(ids), jnp.asarray(positions), jnp.ones(ids.shape, jnp.int32)


def test_float32_logits_agree_to_a_hundred_thousandth(case, tmp_path):
    model = released(case)
    rebuild, params = ours(model, tmp_path)
    ids = tokens()
    expected = theirs(model, ids)
    assert np.abs(rebuild(params)(*whole_rows(ids)) - expected).max() < 1e-5
    assert np.abs(expected).max() > 0.5


def test_bfloat16_logits_agree_to_two_hundredths(case, tmp_path):
    model = released(case, torch.bfloat16)
    rebuild, params = ours(model, tmp_path)
    assert params["embed"].dtype == params["blocks"]["wq"].dtype == jnp.bfloat16
    ids = tokens()
    logits, expected = rebuild(params)(*whole_rows(ids)), theirs(model, ids)
    assert np.abs(logits - expected).max() < 2e-2
    exact = theirs(model.float(), ids)
    assert np.abs(logits - exact).mean() < 1.1 * np.abs(expected - exact).mean()  # no rounding that theirs has not


def test_documents_packed_in_a_row_are_each_as_if_alone(case, tmp_path):
    model = released(case)
    rebuild, params = ours(model, tmp_path)
    lengths = (7, 21, 12)
    ids = tokens(1, 1)
    positions = np.concatenate([np.arange(n) for n in lengths])[None]
    segments = np.repeat([1, 2, 3], lengths)[None]
    logits = rebuild(params)(jnp.asarray(ids), jnp.asarray(positions), jnp.asarray(segments))
    start = 0
    for length in lengths:
        alone = theirs(model, ids[:, start : start + length])
        assert np.abs(logits[:, start : start + length] - alone).max() < 1e-5
        start += length


def test_greedy_continuations_are_the_same(case, tmp_path):
    model = released(case)
    rebuild, params = ours(model, tmp_path)
    prompts = tokens(2, 3, 11)
    with torch.no_grad():
        expected = model.generate(
            torch.tensor(prompts), do_sample=False, max_new_tokens=30, min_new_tokens=30, eos_token_id=None
        )[:, 11:]
    engine = Engine(rebuild, params, EngineConfig(slots=3, max_length=64, page=8, chunk=16))
    answers = engine.generate([Request(tuple(prompt), 30) for prompt in prompts.tolist()])
    assert [answer.ids for answer in answers] == expected.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_is_the_same_bits(case, tmp_path, dtype):
    model = released(case, dtype)
    ours(model, tmp_path)
    convert(WeightsReader(tmp_path / "orbax"), tmp_path / "back", "hf", "test")
    again = type(model).from_pretrained(tmp_path / "back", dtype=dtype, attn_implementation="eager")
    for (name, one), (_, other) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
    for field in ("layer_types", "sliding_window", "head_dim", "rms_norm_eps", "num_key_value_heads"):
        assert getattr(model.config, field) == getattr(again.config, field)
    assert np.array_equal(theirs(model, tokens()), theirs(again, tokens()))
