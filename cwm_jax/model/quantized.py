"""Weights as 8-bit integers, one scale for each output of a matrix: half the memory of bfloat16, and of its reading.

Only matrices that are multiplied are quantised; the embedding is looked up and stays, as do norms and convolutions.
Rounding is to nearest and symmetric (our choice: the simplest that costs no calibration), so the error of a weight is
at most half its scale, |w|max / 254.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

# The axes that a product sums over, counted from the end of the weight's shape.
_SUMMED: dict[str, tuple[int, ...]] = {
    "wq": (-3,), "wk": (-3,), "wv": (-3,), "wo": (-3, -2), "gate": (-2,), "up": (-2,), "down": (-2,), "lm_head": (-2,)
}  # fmt: skip


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Quantized:
    """A matrix in 8 bits; it stands where an array would, and `dense` multiplies by it.

    Attributes:
      values: int8, of the matrix's shape.
      scales: float32, as `values` with 1 along the axes that a product sums over; the matrix is values * scales.
    """

    values: jax.Array
    scales: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __getitem__(self, layer: int) -> "Quantized":
        return Quantized(self.values[layer], self.scales[layer])

    def astype(self, dtype: Any) -> "Quantized":
        """Itself: the product has the dtype of what is multiplied."""
        return self


@jax.jit
def quantized(params: dict[str, Any]) -> dict[str, Any]:
    """The same weights with every matrix that is multiplied in 8 bits.

    Args:
      params: weights of a model, layers stacked, or of a part of it.
    """

    def one(path, weight: jax.Array) -> jax.Array | Quantized:
        if path[-1].key not in _SUMMED:
            return weight
        weight32 = weight.astype(jnp.float32)
        largest = jnp.abs(weight32).max(_SUMMED[path[-1].key], keepdims=True)
        scales = jnp.maximum(largest, jnp.finfo(jnp.float32).tiny) / 127
        return Quantized(jnp.round(weight32 / scales).astype(jnp.int8), scales)

    return jax.tree_util.tree_map_with_path(one, params)
