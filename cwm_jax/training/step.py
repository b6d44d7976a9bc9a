"""The training step, pure: `state, batch -> state, metrics`.

Shapes: B batch, S positions, V vocabulary.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cwm_jax.data.rows import Row
from cwm_jax.model.sharding import ShardingRules
from cwm_jax.model.transformer import Params, Transformer
from cwm_jax.training.state import TrainState
from cwm_jax.training.trainable import AllWeights, LoRA


def make_step(
    rebuild: Callable[[Params], Transformer],
    optimizer: optax.GradientTransformation,
    rules: ShardingRules,
    trainable: AllWeights | LoRA,
) -> Callable[[TrainState, Row], tuple[TrainState, dict[str, jax.Array]]]:
    """The step of one model and optimiser, to be jitted with the state donated."""

    def loss(params: Params, frozen: Params, batch: Row) -> tuple[jax.Array, dict[str, jax.Array]]:
        return loss_and_metrics(trainable.merge(params, frozen), batch, rebuild, rules)

    def step(state: TrainState, batch: Row) -> tuple[TrainState, dict[str, jax.Array]]:
        (_, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(state.params, state.frozen, batch)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(params, opt_state, state.step + 1, state.frozen)
        return state, metrics | {"gradient_norm": optax.global_norm(gradients)}

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
