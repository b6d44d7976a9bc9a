"""The one FLOP convention of the project; every MFU is by it.

A multiply-add is two. Counted: all matrix products with weights, lm_head included, and attention as the mask leaves
it: causal halved, windows credited. Not counted: recomputation (remat), norms, rotations, the embedding's look-up.
Training is three times the forward pass.

CWM (`experiments/models/cwm_32b.gin`): 210.1 GFLOP a token at 8,192, 300.4 at 131,072. With the last layer local, the
plain 3:1 pattern, the latter would be 296.1.
"""

from dataclasses import dataclass

from cwm_jax.model.transformer import ModelConfig


@dataclass(frozen=True)
class Flops:
    """FLOPs of the forward pass for one token, in the mean over a sequence.

    Attributes:
      matmul: products with weights.
      attention: products of queries with keys and of scores with values.
    """

    matmul: float
    attention: float

    @property
    def training(self) -> float:
        """Forward and backward for one token, the number behind MFU."""
        return 3 * (self.matmul + self.attention)


def flops(config: ModelConfig, vocab_size: int, length: int, global_window: int | None = None, start: int = 0) -> Flops:
    """FLOPs a token of sequences of `length` tokens, as if each were one document.

    Args:
      global_window: the cap on global layers, tokens; None for no cap.
      start: the mean is over tokens `start` to `length` alone, a shard of the sequence.
    """
    c = config
    projections = c.d_model * c.head_dim * (2 * c.q_heads + 2 * c.kv_heads)
    weights = c.layers * (projections + 3 * c.d_model * c.d_ff) + c.d_model * vocab_size
    keys = sum(visible_keys(length, global_window if window is None else window, start) for window in c.windows())
    return Flops(2.0 * weights, 4.0 * c.q_heads * c.head_dim * keys)


def visible_keys(length: int, window: int | None, start: int = 0) -> float:
    """Keys that queries `start` to `length` of a causal sequence see in the mean: half of those before, or a window."""
    width = length if window is None else min(window, length)

    def seen_before(position: int) -> float:
        rising = min(position, width)
        return rising**2 / 2 + width * (position - rising)

    return (seen_before(length) - seen_before(start)) / (length - start)
