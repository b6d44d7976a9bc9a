"""Weights in 8 bits: how far they are off, how large they are, and that the engine answers with them."""

import jax
import numpy as np
from engine_models import MODEL, REBUILD, SHAPES, VOCAB, check, logprobs_after, prompt, weights

from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Request
from cwm_jax.model.quantized import Quantized, quantized
from cwm_jax.model.transformer import init_params

MATRICES = {"wq", "wk", "wv", "wo", "gate", "up", "down"}


def is_matrix(leaf):
    return isinstance(leaf, Quantized)


def test_each_weight_is_off_by_half_a_scale_at_most():
    params, small = weights(), quantized(weights())
    assert {name for name, leaf in small["blocks"].items() if is_matrix(leaf)} == MATRICES
    assert is_matrix(small["lm_head"]) and not is_matrix(small["embed"])
    pairs = [(params["blocks"][name], small["blocks"][name]) for name in MATRICES] + [
        (params["lm_head"], small["lm_head"])
    ]
    for weight, eight in pairs:
        error = np.abs(weight - eight.values * eight.scales)
        assert (error <= eight.scales * (0.5 + 1e-4)).all()
        assert error.max() > 0


def test_scales_are_one_for_each_output():
    small = quantized(weights())
    L, D, H, G, K = MODEL.layers, MODEL.d_model, MODEL.q_heads, MODEL.kv_heads, MODEL.head_dim
    shapes = {name: small["blocks"][name].scales.shape for name in ("wq", "wk", "wo", "down")}
    assert shapes == {"wq": (L, 1, H, K), "wk": (L, 1, G, K), "wo": (L, 1, 1, D), "down": (L, 1, D)}
    assert small["lm_head"].scales.shape == (1, VOCAB)


def test_logits_are_off_by_a_few_hundredths_of_their_spread():
    params = init_params(MODEL, VOCAB, 0)  # as training starts; the noisy ones of other tests have outliers
    exact, close = (logprobs_after(one, prompt(1, 40)) for one in (params, quantized(params)))
    error = np.abs(exact - close)
    assert 0 < error.mean() < 0.02 * exact.std() + 1e-3


def test_matrices_are_a_quarter_of_float32():
    params = init_params(MODEL, VOCAB, 0)["blocks"]
    small = quantized({"blocks": params})["blocks"]
    size = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert sum(small[name].values.nbytes for name in MATRICES) * 4 == sum(params[name].nbytes for name in MATRICES)
    assert size(small) < 0.5 * size(params)  # of so small a model scales are a good part


def test_the_engine_answers_as_the_definition_with_them():
    small = quantized(weights())
    engine = Engine(REBUILD, small, SHAPES)
    for answer in engine.generate([Request(prompt(1, 10), 20), Request(prompt(2, 3), 9, temperature=1.0)]):
        check(answer, small)
    engine.swap(quantized(weights(4)), 1)
    check(next(engine.generate([Request(prompt(1, 10), 20)])), quantized(weights(4)))
