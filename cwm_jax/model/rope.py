"""Rotary position embedding with llama3 scaling (CWM: theta 1e6, factor 16, original length 8192)."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

# Shapes: B batch, S positions, H heads, K head dim.


@dataclass(frozen=True)
class Rope:
    """Rotary embedding in the half-split layout: channel i turns with channel i + K/2.

    Attributes:
      theta: base of the geometric series of frequencies.
      factor: how much longer than `original_length` the context may get; 1 means plain RoPE.
      low_freq_factor, high_freq_factor: wavelengths above original/low are divided by `factor`,
        below original/high kept, interpolated between.
      original_length: context length, in tokens, that the unscaled frequencies were made for.
    """

    theta: float = 1_000_000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_length: int = 8192

    def frequencies(self, head_dim: int) -> np.ndarray:
        """Angular frequencies, shape [head_dim / 2], float64, radians per position."""
        frequencies = self.theta ** (-np.arange(0, head_dim, 2) / head_dim)
        if self.factor == 1.0:
            return frequencies
        wavelengths = 2 * math.pi / frequencies
        smooth = (self.original_length / wavelengths - self.low_freq_factor) / (
            self.high_freq_factor - self.low_freq_factor
        )
        smooth = np.clip(smooth, 0.0, 1.0)
        return frequencies * ((1 - smooth) / self.factor + smooth)

    def angles(self, positions_BS: jax.Array, head_dim: int) -> tuple[jax.Array, jax.Array]:
        """Cosine and sine, float32 [B, S, 1, K], of every position; made once for all layers."""
        frequencies_K = np.tile(self.frequencies(head_dim), 2).astype(np.float32)
        angles_BS1K = positions_BS[:, :, None, None].astype(jnp.float32) * frequencies_K
        return jnp.cos(angles_BS1K), jnp.sin(angles_BS1K)


def rotate(x_BSHK: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """`x` turned by `Rope.angles`, in float32; the result has the dtype of `x`.

    The quarter turn (left, right) -> (-right, left) is a product with a constant matrix: exact, also where float32
    products are made of bfloat16 ones, for such inputs at once and for others by asking for all their bits. On CPUs
    it is several times faster than slicing and concatenating the halves.
    """
    cos, sin = angles
    K = x_BSHK.shape[-1]
    quarter_KK = (
        np.roll(np.eye(K, dtype=np.float32), K // 2, axis=1)
        * np.repeat([1.0, -1.0], K // 2).astype(np.float32)[:, None]
    )
    x32 = x_BSHK.astype(jnp.float32)
    bits = jax.lax.Precision.HIGHEST if x_BSHK.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    return (x32 * cos + jnp.matmul(x32, quarter_KK, precision=bits) * sin).astype(x_BSHK.dtype)
