"""The guard of bad steps, inside a real jitted step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cwm_jax.data.rows import Row
from cwm_jax.model.components import ScaledInit
from cwm_jax.model.sharding import MeshShape, ShardingRules
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder
from cwm_jax.training.guard import Diverged, SkipBadSteps
from cwm_jax.training.loss import token_losses
from cwm_jax.training.optimizers import AdamW
from cwm_jax.training.state import TrainState
from cwm_jax.training.step import make_step, shifted

VOCAB = 32
CONFIG = ModelConfig(layers=1, d_model=16, q_heads=2, kv_heads=1, head_dim=8, d_ff=24, init=ScaledInit())
RULES = ShardingRules()


def batch(row=None):
    """Four rows that count upwards, or four of `row`."""
    tokens = np.arange(12, dtype=np.int32) if row is None else row
    tokens = jnp.asarray(np.tile(tokens, (4, 1)))
    positions = jnp.tile(jnp.arange(12), (4, 1))
    return Row(tokens, jnp.ones((4, 12), jnp.int32), positions, jnp.ones((4, 12), jnp.float32).at[:, 0].set(0))


@pytest.fixture(scope="module")
def learnt():
    """The step, and the state after 200 good ones on two devices."""
    mesh = MeshShape(replica=2).build()
    with jax.set_mesh(mesh):
        optimizer = AdamW(peak_lr=0.01).build(lambda step: 1.0)
        params = jax.device_put(init_params(CONFIG, VOCAB, 0), jax.sharding.NamedSharding(mesh, RULES.spec()))
        place = jax.sharding.NamedSharding(mesh, RULES.spec("batch", "sequence"))
        jitted = jax.jit(make_step(rebuilder(CONFIG, VOCAB), optimizer, RULES, SkipBadSteps(patience=3)))

        def step(state, rows):
            with jax.set_mesh(mesh):
                return jitted(state, jax.device_put(rows, place))

        state = TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))
        plain = unguarded(optimizer)
        other = (params, state.opt_state)
        for _ in range(200):
            state, metrics = step(state, batch())
            other = plain(*other, jax.device_put(batch(), place))
    return step, state, metrics, other


def mean_loss(params, rows):
    model = rebuilder(CONFIG, VOCAB)(params)
    x = model.hidden(rows.tokens, rows.positions, rows.segment_ids, RULES)
    losses, _ = token_losses(model, x, shifted(rows.tokens, RULES), RULES)
    weights = shifted(rows.loss_weights, RULES)
    return (losses * weights).sum() / jnp.maximum(weights.sum(), 1e-6)


def unguarded(optimizer):
    @jax.jit
    def step(params, opt_state, rows):
        gradients = jax.grad(mean_loss)(params, rows)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return step


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_a_healthy_run_has_the_bits_of_one_without_a_guard(learnt):
    _, state, metrics, other = learnt
    assert metrics["skipped"] == 0 and metrics["loss"] < 1
    assert same((state.params, state.opt_state), other)


def poisoned():
    rows = batch()
    return rows._replace(loss_weights=rows.loss_weights.at[2, 5].set(jnp.nan))


def surprising():
    return batch(np.arange(31, 19, -1, dtype=np.int32))


@pytest.mark.parametrize("bad", [poisoned, surprising], ids=["NaN", "spike"])
def test_a_bad_step_changes_nothing_but_the_counts_and_training_goes_on(learnt, bad):
    step, before, _, _ = learnt
    after, metrics = step(before, bad())
    assert bad is poisoned or metrics["loss"] > 3
    assert bool(jnp.isnan(metrics["loss"])) == (bad is poisoned)
    assert same((after.params, after.opt_state), (before.params, before.opt_state))
    assert (metrics["skipped"], metrics["skipped_in_a_row"]) == (1, 1)
    assert after.step == before.step + 1  # the data moves on
    assert same(after.guard[:3], before.guard[:3])

    again, metrics = step(after, batch())
    assert (metrics["skipped"], metrics["skipped_in_a_row"]) == (1, 0)
    assert same(again.params, step(before, batch())[0].params) and not same(again.params, before.params)


def test_bad_steps_in_a_row_stop_with_the_reason(learnt):
    step, state, _, _ = learnt
    guard = SkipBadSteps(patience=3)
    for count in (1, 2, 3):
        state, metrics = step(state, poisoned())
        values = {name: float(value) for name, value in metrics.items()}
        if count < 3:
            guard.check(200 + count, values)
    with pytest.raises(Diverged, match=r"3 steps in a row were skipped, up to step 203.*not finite: loss nan"):
        guard.check(203, values)


def test_early_losses_are_no_spikes_and_bad_settings_are_refused():
    guard, state = SkipBadSteps(), TrainState(None, None, None).guard
    for loss in (1.0, 9.0, 1.0, 30.0):
        good, state = guard(state, jnp.float32(loss), jnp.float32(1), jnp.float32(1))
        assert good
    assert state.mean == pytest.approx(10.25) and state.variance == pytest.approx(np.var([1, 9, 1, 30]))
    with pytest.raises(ValueError, match="spike=0"):
        SkipBadSteps(spike=0.0)
