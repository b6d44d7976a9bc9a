"""The FLOP convention, against figures worked out by hand and against a count of the mask itself."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from cwm_jax import config
from cwm_jax.model.attention import visible
from cwm_jax.model.flops import flops, visible_keys
from cwm_jax.model.transformer import ModelConfig

VOCAB = 128_256


@pytest.fixture(scope="module")
def cwm() -> ModelConfig:
    return config.load(["experiments/models/cwm_32b.gin"], [], ModelConfig)


@pytest.mark.parametrize(
    ("length", "cap", "gflop"), [(8192, None, 210.1), (65_536, 32_768, 248.2), (131_072, None, 300.4)]
)
def test_cwm_as_released(cwm, length, cap, gflop):
    assert round(flops(cwm, VOCAB, length, cap).training / 1e9, 1) == gflop


@pytest.mark.parametrize(
    ("length", "cap", "gflop"), [(8192, None, 210.1), (65_536, 32_768, 246.9), (131_072, None, 296.1)]
)
def test_cwm_without_a_global_layer_at_the_end(cwm, length, cap, gflop):
    plain = dataclasses.replace(cwm, global_layers=tuple(range(0, 64, 4)))
    assert round(flops(plain, VOCAB, length, cap).training / 1e9, 1) == gflop


def test_all_layers_global(cwm):
    assert round(flops(dataclasses.replace(cwm, global_layers=None), VOCAB, 131_072).training / 1e9) == 500


@pytest.mark.parametrize("window", [None, 16, 64, 1000])
def test_the_mean_of_the_mask_within_half_a_key(window):
    positions, segments = jnp.arange(256)[None], jnp.zeros((1, 256), jnp.int32)
    seen = np.asarray(visible(positions, positions, segments, segments, window)).sum() / 256
    assert abs(seen - visible_keys(256, window)) <= 0.5
