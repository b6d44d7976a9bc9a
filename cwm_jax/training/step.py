"""The training step, pure: `state, batch -> state, metrics`.

Shapes: B batch, S positions.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cwm_jax.data.rows import Row
from cwm_jax.model.sharding import ShardingRules
from cwm_jax.model.transformer import Params, Transformer, rebuilder
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.guard import SkipBadSteps, choose
from cwm_jax.training.loss import token_losses
from cwm_jax.training.state import TrainState, optimizer_of
from cwm_jax.training.trainable import AllWeights, LoRA

Step = Callable[[TrainState, Row], tuple[TrainState, dict[str, jax.Array]]]


def experiment_step(experiment: Experiment, vocab_size: int, global_window: int | None = None) -> Step:
    """The step of an experiment, for batches whose global layers see `global_window` tokens (None: all)."""
    return make_step(
        rebuilder(experiment.model, vocab_size),
        optimizer_of(experiment),
        experiment.rules,
        experiment.guard,
        experiment.dtype,
        global_window,
        experiment.trainable,
    )


def make_step(
    rebuild: Callable[[Params], Transformer],
    optimizer: optax.GradientTransformation,
    rules: ShardingRules,
    guard: SkipBadSteps = SkipBadSteps(),  # noqa: B008 - frozen
    dtype: jnp.dtype = jnp.float32,
    global_window: int | None = None,
    trainable: AllWeights | LoRA = AllWeights(),  # noqa: B008 - frozen
) -> Step:
    """The step of one model and optimiser, to be jitted with the state donated.

    A step that `guard` calls bad leaves weights and optimiser state as they were; `step` counts it all the same, as
    the data moves on.

    Args:
      rebuild: makes the module of its weights.
      optimizer: its update is in float32, as weights and optimiser state are.
      rules: how arrays lie on the mesh in force.
      guard: judges each step.
      dtype: what the network computes in.
      global_window: tokens that global layers see in these batches; None is all.
      trainable: makes the weights of those that are trained and those that are frozen.
    """

    def loss_and_metrics(params: Params, frozen: Params, batch: Row) -> tuple[jax.Array, dict[str, jax.Array]]:
        weights = trainable.merge(params, frozen)
        model = rebuild(jax.tree.map(lambda weight: weight.astype(dtype), weights))
        x_BSD = model.hidden(batch.tokens, batch.positions, batch.segment_ids, rules, global_window)
        losses_BS, right_BS = token_losses(model, x_BSD, shifted(batch.tokens, rules), rules)
        weights_BS = shifted(batch.loss_weights, rules)
        total = jnp.maximum(weights_BS.sum(), 1e-6)
        loss = (losses_BS * weights_BS).sum() / total
        return loss, {"loss": loss, "accuracy": (right_BS * weights_BS).sum() / total, "predicted_tokens": total}

    def step(state: TrainState, batch: Row) -> tuple[TrainState, dict[str, jax.Array]]:
        differentiated = jax.value_and_grad(loss_and_metrics, has_aux=True)
        (loss, metrics), gradients = differentiated(state.params, state.frozen, batch)
        state, told = updated(state, gradients, loss, optimizer, guard)
        return state, metrics | told

    return step


def updated(
    state: TrainState,
    gradients: Params,
    loss: jax.Array,
    optimizer: optax.GradientTransformation,
    guard: SkipBadSteps,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The state after a step, or with its weights as they were where `guard` calls the step bad; norms and counts."""
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    norms = {"gradient_norm": optax.global_norm(gradients), "update_norm": optax.global_norm(updates)}
    good, remembered = guard(state.guard, loss, **norms)
    params, opt_state = choose(good, (params, opt_state), (state.params, state.opt_state))
    counts = {"skipped": remembered.skipped, "skipped_in_a_row": remembered.in_a_row}
    return TrainState(params, opt_state, state.step + 1, remembered, state.frozen), norms | counts


def shifted(x_BS: jax.Array, rules: ShardingRules) -> jax.Array:
    """What stands at the next place of every row; at the last place of tokens something, of weights 0.

    The first token of a row is predicted from nothing, so its weight is 0 (`data.rows`), and it comes last here.
    """

    def roll(x_BS: jax.Array) -> jax.Array:
        return jnp.roll(x_BS, -1, axis=1)

    if jax.sharding.get_abstract_mesh().empty:
        return roll(x_BS)
    return jax.sharding.auto_axes(roll, out_sharding=rules.spec("batch", "sequence"))(x_BS)
