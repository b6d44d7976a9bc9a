"""The loss of every token, a chunk of the sequence at a time: all logits of CWM's rows would be 17 GB a row of 32k.

Shapes: B batch, S positions, D model, V vocabulary, N chunks, C shards of the sequence, T positions of a chunk.
"""

import math

import jax
import jax.numpy as jnp

from cwm_jax.model.sharding import ShardingRules
from cwm_jax.model.transformer import Transformer

_MOST_LOGITS = 2**27  # of one chunk on one device: half a gigabyte in float32


def token_losses(
    model: Transformer, x_BSD: jax.Array, targets_BS: jax.Array, rules: ShardingRules
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy in nats [B, S] of each target, and whether it is the likeliest token.

    Args:
      model: whose head is used.
      x_BSD: what `model.hidden` gave.
      targets_BS: the token to be predicted at each place.
      rules: how arrays lie on the mesh in force, if there is one.
    """
    logits = model.head(rules)
    rows = rules.spec("batch", "sequence")
    mesh = jax.sharding.get_abstract_mesh()

    def losses(x_BSD: jax.Array, targets_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_probs_BSV = jax.nn.log_softmax(logits(x_BSD))
        # A product with one-hot targets, not a gather: its gradient is no scatter, slow on CPUs and bad to shard.
        place = None if mesh.empty else rules.spec(None, None, "vocab")
        ids_11V = jax.lax.broadcasted_iota(jnp.int32, (1, 1, log_probs_BSV.shape[-1]), 2, out_sharding=place)
        hot_BSV = (ids_11V == targets_BS[..., None]).astype(log_probs_BSV.dtype)
        found_BS = jnp.einsum("bsv,bsv->bs", log_probs_BSV, hot_BSV, out_sharding=None if mesh.empty else rows)
        return -found_BS, found_BS >= log_probs_BSV.max(axis=-1)

    C = 1 if mesh.empty else math.prod(mesh.shape[axis] for axis in rules.sequence)
    N = _chunks(x_BSD, model.vocab_size, rules)
    if N == 1:
        return losses(x_BSD, targets_BS)

    def split(x: jax.Array) -> jax.Array:
        """[B, S, …] as [N, B, C·T, …], chunk by chunk of every shard."""
        B, S, *rest = x.shape
        whole = [None] * len(rest)
        x = _reshape(x, (B, C, N, S // C // N, *rest), rules.spec("batch", "sequence", None, None, *whole))
        return _reshape(jnp.moveaxis(x, 2, 0), (N, B, S // N, *rest), rules.spec(None, "batch", "sequence", *whole))

    def join(x_NBT: jax.Array) -> jax.Array:
        N, B, T = x_NBT.shape
        x = _reshape(x_NBT, (N, B, C, T // C), rules.spec(None, "batch", "sequence", None))
        return _reshape(jnp.moveaxis(x, 0, 2), (B, N * T), rows)

    body = jax.checkpoint(lambda carry, chunk: (carry, losses(*chunk)))
    _, (losses_NBT, right_NBT) = jax.lax.scan(body, None, (split(x_BSD), split(targets_BS)))
    return join(losses_NBT), join(right_NBT)


def _chunks(x_BSD: jax.Array, vocab_size: int, rules: ShardingRules) -> int:
    """In how many chunks the logits of one device are few enough."""
    sizes = jax.sharding.get_abstract_mesh().shape
    parts = lambda *names: math.prod(sizes.get(axis, 1) for name in names for axis in getattr(rules, name))  # noqa: E731
    B, S = x_BSD.shape[0] // parts("batch"), x_BSD.shape[1] // parts("sequence")
    wanted = -(-B * S * vocab_size // parts("vocab") // _MOST_LOGITS)
    return next(n for n in range(max(1, min(wanted, S)), S + 1) if S % n == 0)


def _reshape(x: jax.Array, shape: tuple[int, ...], spec) -> jax.Array:
    return jax.lax.reshape(x, shape, out_sharding=None if jax.sharding.get_abstract_mesh().empty else spec)
