"""The training step, pure: `state, batch -> state, metrics`.

Shapes: B batch, S positions, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cwm_jax.data.rows import Row
from cwm_jax.model.sharding import ShardingRules
from cwm_jax.model.transformer import Params, Transformer
from cwm_jax.training.guard import GuardState, SkipBadSteps, choose


class TrainState(NamedTuple):
    """What a step changes: weights, optimiser state, the number of steps done (int32), and what the guard remembers."""

    params: Params
    opt_state: optax.OptState
    step: jax.Array
    guard: GuardState = GuardState()


def make_step(
    rebuild: Callable[[Params], Transformer],
    optimizer: optax.GradientTransformation,
    rules: ShardingRules,
    guard: SkipBadSteps = SkipBadSteps(),  # noqa: B008 - frozen
) -> Callable[[TrainState, Row], tuple[TrainState, dict[str, jax.Array]]]:
    """The step of one model and optimiser, to be jitted with the state donated.

    A step that `guard` calls bad leaves weights and optimiser state as they were; `step` counts it all the same, as
    the data moves on.
    """

    def step(state: TrainState, batch: Row) -> tuple[TrainState, dict[str, jax.Array]]:
        (loss, metrics), gradients = jax.value_and_grad(loss_and_metrics, has_aux=True)(
            state.params, batch, rebuild, rules
        )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norms = {"gradient_norm": optax.global_norm(gradients), "update_norm": optax.global_norm(updates)}
        good, remembered = guard(state.guard, loss, **norms)
        params, opt_state = choose(good, (params, opt_state), (state.params, state.opt_state))
        counts = {"skipped": remembered.skipped, "skipped_in_a_row": remembered.in_a_row}
        return TrainState(params, opt_state, state.step + 1, remembered), metrics | norms | counts

    return step


def loss_and_metrics(
    params: Params, batch: Row, rebuild: Callable[[Params], Transformer], rules: ShardingRules
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weighted mean cross-entropy in nats of the next token, its accuracy, and the weight that both are means over."""
    logits_BSV = rebuild(params)(batch.tokens, batch.positions, batch.segment_ids, rules)[:, :-1]
    targets_BS, weights_BS = batch.tokens[:, 1:], batch.loss_weights[:, 1:]
    log_probs_BSV = jax.nn.log_softmax(logits_BSV)
    # A product with one-hot targets, not a gather: its gradient is no scatter, which is slow on CPUs and shards badly.
    hot_BSV = jax.nn.one_hot(targets_BS, logits_BSV.shape[-1], dtype=log_probs_BSV.dtype)
    losses_BS = -jnp.einsum("bsv,bsv->bs", log_probs_BSV, hot_BSV) * weights_BS
    right_BS = (jnp.argmax(logits_BSV, axis=-1) == targets_BS) * weights_BS
    total = jnp.maximum(weights_BS.sum(), 1e-6)
    loss = losses_BS.sum() / total
    return loss, {"loss": loss, "accuracy": right_BS.sum() / total, "predicted_tokens": total}
