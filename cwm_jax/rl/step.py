"""The learner's step, pure: `state, batch -> state, metrics`.

Shapes: B rows, S places.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cwm_jax.model.sharding import ShardingRules
from cwm_jax.model.transformer import Params, Transformer
from cwm_jax.rl.batches import RolloutRows
from cwm_jax.rl.objective import Objective, Terms, by_age
from cwm_jax.training.guard import SkipBadSteps
from cwm_jax.training.loss import token_losses
from cwm_jax.training.state import TrainState
from cwm_jax.training.step import shifted, updated


def logprobs_of(model: Transformer, batch: RolloutRows, rules: ShardingRules) -> jax.Array:
    """Log-probability of each token given those before it in its context, float32 [B, S].

    At the place *before* the token, as all that `_terms` gives; that of the last place tells of nothing.
    """
    x_BSD = model.hidden(batch.tokens, batch.positions, batch.segment_ids, rules)
    losses_BS, _ = token_losses(model, x_BSD, shifted(batch.tokens, rules), rules)
    return -losses_BS


def make_proximal(rebuild: Callable[[Params], Transformer], rules: ShardingRules, dtype: jnp.dtype) -> Callable:
    """`params, batch -> logprobs [B, S]` for objectives that ask for those of the weights before the step."""

    def proximal(params: Params, batch: RolloutRows) -> jax.Array:
        return logprobs_of(rebuild(_cast(params, dtype)), batch, rules)

    return proximal


def make_rl_step(
    rebuild: Callable[[Params], Transformer],
    optimizer: optax.GradientTransformation,
    rules: ShardingRules,
    objective: Objective,
    guard: SkipBadSteps = SkipBadSteps(),  # noqa: B008 - frozen
    dtype: jnp.dtype = jnp.float32,
) -> Callable[[TrainState, RolloutRows, jax.Array, jax.Array], tuple[TrainState, dict[str, Any]]]:
    """The step of one model, optimiser and objective, to be jitted with the state donated.

    A step that is not finite leaves weights and optimiser state as they were. A spike is none here: the objective is
    no likelihood, so `guard` is asked with a loss of 0.

    Returns:
      `state, batch, proximal, version -> state, metrics`; `proximal` [B, S] from `make_proximal`, or the recorded ones
      where the objective does not look at it; `version` int32, of the weights of `state`.
    """

    def loss_and_metrics(params: Params, batch: RolloutRows, proximal_BS: jax.Array, version: jax.Array):
        logprobs_BS = logprobs_of(rebuild(_cast(params, dtype)), batch, rules)
        terms = _terms(logprobs_BS, proximal_BS, batch, rules)
        value = objective(terms, shifted(batch.observed, rules))
        ages_BS = jnp.maximum(version - shifted(batch.versions, rules), 0)
        still = jax.tree.map(jax.lax.stop_gradient, terms)
        observed_BS = shifted(batch.observed, rules)
        metrics = {
            "objective": value,
            "tokens": terms.mask.sum(),
            "observation_loss": -(logprobs_BS * observed_BS).sum() / jnp.maximum(observed_BS.sum(), 1),
            "surprise": -(logprobs_BS * terms.mask).sum() / jnp.maximum(terms.mask.sum(), 1),
            "left_out": (terms.mask - objective.counts(still)).sum(),
            "by_age": by_age(still, ages_BS),
        }
        return -value, metrics

    def step(state: TrainState, batch: RolloutRows, proximal_BS: jax.Array, version: jax.Array):
        differentiated = jax.value_and_grad(loss_and_metrics, has_aux=True)
        (loss, metrics), gradients = differentiated(state.params, batch, proximal_BS, version)
        state, told = updated(state, gradients, loss * 0, optimizer, guard)
        return state, metrics | told

    return step


def _terms(logprobs_BS: jax.Array, proximal_BS: jax.Array, batch: RolloutRows, rules: ShardingRules) -> Terms:
    """What the objective is computed from, at the place before each token."""
    recorded, advantages, mask, segments = (
        shifted(array, rules) for array in (batch.logprobs, batch.advantages, batch.mask, batch.segment_ids)
    )
    return Terms(logprobs_BS, recorded, proximal_BS, advantages, mask, segments)


def _cast(params: Params, dtype: jnp.dtype) -> Params:
    return jax.tree.map(lambda weight: weight.astype(dtype), params)
