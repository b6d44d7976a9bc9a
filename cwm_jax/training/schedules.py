"""Learning-rate schedules, each a component: the share of the peak rate at a point of a run."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Progress(NamedTuple):
    """Where a run is.

    Attributes:
      step: int32, steps of this run that are done.
      steps: length of this run.
      tokens: float32, seen when the coming step is done, in this run and in those it continues.
    """

    step: jax.Array
    steps: int
    tokens: jax.Array


@dataclass(frozen=True)
class WarmupConstantDecay:
    """Linear rise, plateau, linear fall to zero: exactness of traces rises most while the rate falls.

    Attributes:
      warmup: steps of the rise.
      decay: share of all steps in the fall; 0 for a constant rate, as in CWM's SFT (paper §5.1).
    """

    warmup: int = 50
    decay: float = 0.5

    def __call__(self, progress: Progress) -> jax.Array:
        rise = (progress.step + 1) / self.warmup
        fall = (progress.steps - progress.step) / max(1.0, self.decay * progress.steps)
        return jnp.clip(jnp.minimum(rise, fall), 0.0, 1.0)


@dataclass(frozen=True)
class WarmupCosine:
    """CWM's schedule (paper §4.1): linear rise, then a cosine down to `final` over a horizon.

    Counted in tokens, so that it is one curve through pre- and mid-training although the batch grows fourfold between.

    Attributes:
      warmup: tokens of the rise; the paper's 2,000 steps.
      horizon: tokens, those of the rise included, when the cosine ends.
      final: where it ends, as a share of the peak.
    """

    warmup: int = 16_777_216_000
    horizon: int = 13_000_000_000_000
    final: float = 0.01

    def __post_init__(self):
        if not 0 < self.warmup < self.horizon:
            raise ValueError(f"WarmupCosine.warmup={self.warmup} must be positive and below horizon={self.horizon}")

    def __call__(self, progress: Progress) -> jax.Array:
        warmup, horizon = float(self.warmup), float(self.horizon)  # more than an int32 holds
        share = jnp.clip((progress.tokens - warmup) / (horizon - warmup), 0.0, 1.0)
        cosine = self.final + (1 - self.final) * 0.5 * (1 + jnp.cos(jnp.pi * share))
        return jnp.minimum(progress.tokens / warmup, cosine)
