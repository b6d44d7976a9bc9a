"""What a tiny model may add to CWM's architecture to learn fast; gin binds them, `cwm_32b` binds none.

Shapes: L layers, B batch, S positions, D model, H heads, K head dim, W taps.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


def rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
    """RMSNorm over the last axis in float32; the weight multiplies after the cast back (as the released model)."""
    x32 = x.astype(jnp.float32)
    x32 = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
    return weight * x32.astype(x.dtype)


@dataclass(frozen=True)
class ShortConv:
    """A causal depthwise convolution on the input of attention: y_t = sum_w kernel_w * x_{t-w}, in one document.

    Two heads in a row need it to find "what came after this the last time"; with the previous
    tokens mixed in, one layer does. Our choice, after Canon layers and modded-nanogpt's smears.

    Attributes:
      taps: how many tokens are seen, the current one included.
    """

    taps: int = 4

    def init(self, layers: int, d_model: int) -> jax.Array:
        """The kernel [L, W, D], at the start the identity."""
        return jnp.zeros((layers, self.taps, d_model)).at[:, 0].set(1.0)

    def __call__(self, kernel_WD: jax.Array, inputs_BSD: jax.Array, age_BS: jax.Array) -> jax.Array:
        """Convolves all but the first W - 1 inputs, which come before; `age` is the position in the document."""
        S = age_BS.shape[1]
        y_BSD = kernel_WD[0] * inputs_BSD[:, self.taps - 1 :]
        for tap in range(1, self.taps):
            before_BSD = jax.lax.slice_in_dim(inputs_BSD, self.taps - 1 - tap, self.taps - 1 - tap + S, axis=1)
            y_BSD += kernel_WD[tap] * jnp.where((age_BS >= tap)[..., None], before_BSD, 0.0)
        return y_BSD


@dataclass(frozen=True)
class QKNorm:
    """RMSNorm of each query and key head (Henry et al. 2020): steadier attention at high learning rates."""

    def init(self, layers: int, head_dim: int) -> jax.Array:
        return jnp.ones((layers, head_dim))

    def __call__(self, weight_K: jax.Array, x_BSHK: jax.Array) -> jax.Array:
        return rms_norm(x_BSHK, weight_K, 1e-6)


@dataclass(frozen=True)
class NormalInit:
    """Every matrix from N(0, std), as CWM's configuration states (initializer_range)."""

    std: float = 0.02

    def __call__(self, key: jax.Array, shape: tuple[int, ...], fan_in: int, residual: bool) -> jax.Array:
        return self.std * jax.random.normal(key, shape, jnp.float32)


@dataclass(frozen=True)
class ScaledInit:
    """Matrices from N(0, gain/sqrt(fan_in)), those that write to the residual stream zero. Our choice: fast starts."""

    gain: float = 0.7

    def __call__(self, key: jax.Array, shape: tuple[int, ...], fan_in: int, residual: bool) -> jax.Array:
        if residual:
            return jnp.zeros(shape, jnp.float32)
        return self.gain * fan_in**-0.5 * jax.random.normal(key, shape, jnp.float32)
