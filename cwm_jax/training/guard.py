"""The guard against bad steps: a NaN or a spike of the loss leaves weights and optimiser as they were.

A pure part of the jitted step. It looks at three scalars and keeps five, so it costs next to nothing on any mesh, and
as its state is part of the training state, a resumed run judges as the run without a stop does.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_WINDOW = 50  # steps that the running mean and variance of the loss look back over
_HISTORY = 20  # good steps before a loss can be called a spike: before, its usual spread is unknown
_LEAST_SPIKE = 1.0  # nats a token; a batch e times less likely than usual, whatever the spread


class GuardState(NamedTuple):
    """What the guard remembers; scalars.

    Attributes:
      mean, variance: float32, of the loss over the last good steps, in nats.
      good: int32, steps that were taken.
      skipped: int32, steps that were not.
      in_a_row: int32, steps skipped since the last good one.
    """

    mean: jax.Array = np.float32(0)
    variance: jax.Array = np.float32(0)
    good: jax.Array = np.int32(0)
    skipped: jax.Array = np.int32(0)
    in_a_row: jax.Array = np.int32(0)


class Diverged(ArithmeticError):
    """Too many bad steps in a row."""


@dataclass(frozen=True)
class SkipBadSteps:
    """Skips a step whose loss, gradient or update is not finite, or whose loss is a spike.

    That a skipped batch gets a run over a spike is PaLM's finding (arXiv 2204.02311, §5.1), which rewound by hand;
    judging each step by the running mean and deviation is OLMo's way, which skips beyond 6 deviations.

    Attributes:
      spike: a loss this many standard deviations above its running mean is a spike, if it is also 1 nat above. Our
        choice is 10, because small batches have heavy tails and skipping a healthy step changes a run: over 13,400
        steps of `experiments/tiny` the farthest that rose by 1 nat came to 7, and three that did not came to 10 to 16.
      patience: bad steps in a row that stop the run. Our choice is 10: bad data rarely fills as many batches, and ten
        wasted steps are cheap.
    """

    spike: float = 10.0
    patience: int = 10

    def __post_init__(self):
        if self.spike <= 0 or self.patience < 1:
            raise ValueError(
                f"SkipBadSteps.spike={self.spike} must be positive and SkipBadSteps.patience={self.patience} at least 1"
            )

    def __call__(
        self, state: GuardState, loss: jax.Array, gradient_norm: jax.Array, update_norm: jax.Array
    ) -> tuple[jax.Array, GuardState]:
        """Whether to take a step, as a boolean scalar, and what to remember of it."""
        rise = loss - state.mean
        limit = jnp.maximum(self.spike * jnp.sqrt(state.variance), _LEAST_SPIKE)
        spike = (state.good >= _HISTORY) & (rise > limit)
        good = jnp.isfinite(loss) & jnp.isfinite(gradient_norm) & jnp.isfinite(update_norm) & ~spike
        share = jnp.maximum(1 / (state.good + 1), 1 / _WINDOW)  # a plain mean at first, then an exponential one
        taken = GuardState(
            state.mean + share * rise,
            (1 - share) * (state.variance + share * rise**2),
            state.good + 1,
            state.skipped,
            jnp.int32(0),
        )
        skipped = state._replace(skipped=state.skipped + 1, in_a_row=state.in_a_row + 1)
        return good, choose(good, taken, skipped)

    def check(self, step: int, values: dict[str, float]) -> None:
        """Raises Diverged, with the reason, if the metrics of `step` tell of `patience` bad steps in a row."""
        if values["skipped_in_a_row"] < self.patience:
            return
        finite = all(math.isfinite(values[name]) for name in ("loss", "gradient_norm", "update_norm"))
        raise Diverged(
            f"{self.patience} steps in a row were skipped, up to step {step}, the last because "
            f"{'the loss is a spike' if finite else 'a value is not finite'}: loss {values['loss']:.4g}, gradient norm "
            f"{values['gradient_norm']:.4g}, update norm {values['update_norm']:.4g}. The newest checkpoint is from "
            "before these steps. Look at the data that they read, try a lower learning rate, or, if the loss may rise "
            f"so, a greater SkipBadSteps.spike (now {self.spike:g}); a changed configuration needs another --out"
        )


def choose(good: jax.Array, new: Any, old: Any) -> Any:
    """`new` if `good`, else `old`, for trees of one structure."""
    return jax.tree.map(lambda new, old: jnp.where(good, new, old), new, old)
