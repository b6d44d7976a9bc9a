"""Heads, feed-forward and vocabulary over two devices, by the rules that training uses."""

import dataclasses

import jax
import pytest
from engine_models import REBUILD, SHAPES, check, prompt, weights

from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Request
from cwm_jax.model.quantized import quantized
from cwm_jax.model.sharding import MeshShape, ShardingRules

REQUESTS = [Request(prompt(seed, 3 + 5 * seed), 18, temperature=0.5 * seed, seed=seed) for seed in range(4)]


@pytest.mark.parametrize("form", [lambda params: params, quantized], ids=["float32", "int8"])
def test_two_devices_answer_as_one(form):
    mesh = MeshShape(tensor=2).build()
    with jax.set_mesh(mesh):
        placed = jax.device_put(weights(), ShardingRules().shardings(weights(), mesh))
        engine = Engine(REBUILD, form(placed), dataclasses.replace(SHAPES, rows=1))
        answers = list(engine.generate(REQUESTS))
        assert engine.cache.kv_P2GTK[0].sharding.spec[2] == "tensor"
    for answer in answers:
        check(answer, form(weights()))
