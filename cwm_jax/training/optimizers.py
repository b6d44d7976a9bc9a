"""Optimisers and schedules, each a component. Learning rate at step t is peak times `schedule(t)`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

from cwm_jax.model.transformer import Params


@dataclass(frozen=True)
class WarmupConstantDecay:
    """Linear rise, plateau, linear fall to `final`: exactness of traces rises most while the rate falls.

    Attributes:
      warmup: steps of the rise.
      decay: share of all steps in the fall.
      final: where the fall ends, as a share of the peak.
    """

    warmup: int = 50
    decay: float = 0.5
    final: float = 0.0

    def __call__(self, step: jax.Array, steps: int) -> jax.Array:
        rise = (step + 1) / self.warmup
        fall = (steps - step) / max(1.0, self.decay * steps)
        return jnp.clip(jnp.minimum(rise, self.final + (1 - self.final) * fall), 0.0, 1.0)


@dataclass(frozen=True)
class WarmupCosine:
    """CWM's pre-training schedule (paper §4.1): linear rise, then a cosine down to `final` over the horizon."""

    warmup: int = 2000
    horizon: int = 1_000_000
    final: float = 0.01

    def __call__(self, step: jax.Array, steps: int) -> jax.Array:
        share = jnp.clip((step - self.warmup) / (self.horizon - self.warmup), 0.0, 1.0)
        cosine = self.final + (1 - self.final) * 0.5 * (1 + jnp.cos(jnp.pi * share))
        return jnp.where(step < self.warmup, (step + 1) / self.warmup, cosine)


@dataclass(frozen=True)
class AdamW:
    """AdamW as CWM's (paper §4.1); epsilon and the exclusion of vectors from decay are our choice, the usual one."""

    peak_lr: float = 8e-4
    b1: float = 0.9
    b2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0

    def build(self, factor: optax.Schedule) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.adamw(
                lambda step: self.peak_lr * factor(step),
                self.b1,
                self.b2,
                1e-8,
                weight_decay=self.weight_decay,
                mask=lambda params: jax.tree_util.tree_map_with_path(lambda path, _: _is_matrix(path), params),
            ),
        )


@dataclass(frozen=True)
class Muon:
    """Muon for the matrices of the blocks, Adam for embeddings, head, norms and convolutions.

    Attributes:
      peak_lr: of Muon, in units of its orthogonal update.
      adam_lr: of Adam.
      momentum: of Muon.
      weight_decay: of the Muon part.
      clip: largest global gradient norm.
    """

    peak_lr: float = 0.02
    adam_lr: float = 0.003
    momentum: float = 0.95
    weight_decay: float = 0.0
    clip: float = 1.0

    def build(self, factor: optax.Schedule) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            muon(
                lambda step: self.peak_lr * factor(step),
                adam_learning_rate=lambda step: self.adam_lr * factor(step),
                beta=self.momentum,
                adam_b1=0.9,  # Adam's constants: the usual first, a second between 0.95 and 0.999 for short runs
                adam_b2=0.98,
                weight_decay=self.weight_decay,
                muon_weight_dimension_numbers=muon_dimensions,
            ),
        )


# Axes of stacked matrices [L, in…, out…]; without them Muon takes stacks for non-matrices and embeddings for matrices.
_MUON = {
    "wq": MuonDimensionNumbers((1,), (2, 3)),
    "wk": MuonDimensionNumbers((1,), (2, 3)),
    "wv": MuonDimensionNumbers((1,), (2, 3)),
    "wo": MuonDimensionNumbers((1, 2), (3,)),
    "gate": MuonDimensionNumbers((1,), (2,)),
    "up": MuonDimensionNumbers((1,), (2,)),
    "down": MuonDimensionNumbers((1,), (2,)),
}


def muon_dimensions(params: Params) -> Params:
    """For each parameter its axes for Muon, or None where Adam takes it."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _MUON.get(path[-1].key), params)


def _is_matrix(path: tuple) -> bool:
    return path[-1].key in _MUON or path[-1].key in ("embed", "lm_head")
