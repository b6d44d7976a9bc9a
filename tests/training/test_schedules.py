"""Schedules, and that the stages of CWM are one curve over tokens."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from cwm_jax import config
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.schedules import Progress, WarmupConstantDecay, WarmupCosine


def at(schedule, step, steps=100, tokens=0.0):
    return float(schedule(Progress(jnp.int32(step), steps, jnp.float32(tokens))))


def test_a_rate_rises_stays_and_falls():
    schedule = WarmupConstantDecay(warmup=10, decay=0.5)
    values = [at(schedule, step) for step in range(101)]
    assert values[0] == pytest.approx(0.1) and values[9:50] == [1.0] * 41 and values[100] == 0.0
    assert all(a >= b for a, b in itertools.pairwise(values[50:]))


def test_without_decay_it_is_constant():
    assert {at(WarmupConstantDecay(warmup=10, decay=0.0), step) for step in range(9, 100)} == {1.0}


def test_the_cosine_is_one_of_tokens():
    schedule = WarmupCosine(warmup=1000, horizon=11_000)
    assert [at(schedule, 0, tokens=tokens) for tokens in (10, 500, 1000)] == pytest.approx([0.01, 0.5, 1.0])
    assert [at(schedule, 0, tokens=tokens) for tokens in (6000, 11_000, 20_000)] == pytest.approx([0.505, 0.01, 0.01])
    with pytest.raises(ValueError, match="warmup=5 must be positive"):
        WarmupCosine(warmup=5, horizon=5)


def experiment(name):
    return config.load([f"experiments/cwm_32b/{name}.gin"], [], Experiment)


def rate(stage, count):
    return stage.optimizer.peak_lr * float(stage.share_of_peak(jnp.int32(count)))


def test_pre_and_mid_training_are_one_curve():
    pre, mid = experiment("pretrain"), experiment("midtrain")
    assert mid.start.steps == pre.steps
    assert mid.start.tokens == pre.steps * pre.stream.tokens_per_batch
    assert (mid.schedule, mid.optimizer) == (pre.schedule, pre.optimizer)
    counts = [0, 1, 1999, 2000, 500_000, pre.steps - 1]
    expected = []
    for count in counts:  # written out a second time, in float64
        tokens = (count + 1) * 8_388_608
        share = max(0.0, (tokens - 2000 * 8_388_608) / (13e12 - 2000 * 8_388_608))
        expected.append(8e-4 * min((count + 1) / 2000, 0.01 + 0.99 * (1 + np.cos(np.pi * share)) / 2))
    assert [rate(pre, count) for count in counts] == pytest.approx(expected, rel=1e-5)
    assert rate(mid, pre.steps) == pytest.approx(rate(pre, pre.steps + 3), rel=1e-5)  # four of its batches are one
    assert rate(mid, pre.steps) == pytest.approx(2.6e-4, rel=0.02)
    assert rate(mid, pre.steps + mid.steps - 1) == pytest.approx(8e-6, rel=1e-3)


def test_sft_is_constant_after_a_thousand_steps():
    sft = experiment("sft")
    assert rate(sft, 0) == pytest.approx(1e-8)
    assert {rate(sft, count) for count in (999, 1000, 30_000, 49_999)} == {1e-5}


@pytest.mark.parametrize("name", ["15m", "41m", "121m", "218m"])
def test_the_ladder_obeys_the_scaling_laws(name):
    rung = config.load([f"experiments/cwm_ladder/{name}.gin"], [], Experiment)
    model, length = rung.model, rung.data.buckets[-1]
    layer = model.d_model * (
        2 * model.head_dim * (model.q_heads + model.kv_heads) + 3 * model.d_ff + 2  # the last for two norms
    )
    parameters = model.layers * layer + model.d_model
    flops = 6 * parameters + 6 * model.d_model * model.layers * length  # a token; equation 1
    tokens = rung.steps * rung.stream.tokens_per_batch
    assert round(parameters / 1e6) in (int(name[:-1]), int(name[:-1]) + 1)
    assert tokens / flops == pytest.approx(40, rel=1e-3)
    compute = flops * tokens
    assert rung.optimizer.peak_lr == pytest.approx(19.29 * compute**-0.177, rel=0.005)  # equation 2
    assert rung.stream.tokens_per_batch == pytest.approx(30.17 * compute**0.231, rel=0.025)
    assert rung.schedule.horizon == tokens and rung.schedule.warmup == 2000 * rung.stream.tokens_per_batch
    assert model.d_ff == 3.5 * model.d_model and model.q_heads * model.head_dim == model.d_model
    assert model.global_layers == (*range(0, model.layers, 4), model.layers - 1)
