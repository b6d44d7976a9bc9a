"""Optimisers, each a component. Learning rate at step t is peak times `factor(t)`.

Gradients are clipped to a global norm of 1, as CWM's are (paper §4.1).
"""

from dataclasses import dataclass

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from cwm_jax.model.transformer import Params

_CLIP = 1.0


@dataclass(frozen=True)
class AdamW:
    """AdamW as CWM's (paper §4.1), betas 0.9 and 0.95; epsilon and the exclusion of vectors from decay are our choice,
    the usual one.

    Attributes:
      peak_lr: learning rate where the schedule is 1.
      weight_decay: of matrices, times the learning rate.
    """

    peak_lr: float = 8e-4
    weight_decay: float = 0.1

    def build(self, factor: optax.Schedule) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(_CLIP),
            optax.adamw(
                lambda step: self.peak_lr * factor(step),
                b1=0.9,
                b2=0.95,
                eps=1e-8,
                weight_decay=self.weight_decay,
                mask=lambda params: jax.tree_util.tree_map_with_path(lambda path, _: _is_matrix(path), params),
            ),
        )


@dataclass(frozen=True)
class Muon:
    """Muon without weight decay for the matrices of the blocks, Adam for embeddings, head, norms and convolutions.

    Attributes:
      peak_lr: of Muon, in units of its orthogonal update.
      adam_lr: of Adam.
      momentum: of Muon.
    """

    peak_lr: float = 0.02
    adam_lr: float = 0.003
    momentum: float = 0.95

    def build(self, factor: optax.Schedule) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(_CLIP),
            muon(
                lambda step: self.peak_lr * factor(step),
                adam_learning_rate=lambda step: self.adam_lr * factor(step),
                beta=self.momentum,
                adam_b1=0.9,  # Adam's constants: the usual first, a second between 0.95 and 0.999 for short runs
                adam_b2=0.98,
                weight_decay=0.0,
                muon_weight_dimension_numbers=muon_dimensions,
            ),
        )


# Input and output axes of the stacked matrices [L, in…, out…]. Muon needs them: without, it takes stacks for
# non-matrices and embeddings for matrices.
MATRICES = {
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
    return jax.tree_util.tree_map_with_path(lambda path, _: MATRICES.get(path[-1].key), params)


def _is_matrix(path: tuple) -> bool:
    return path[-1].key in MATRICES or path[-1].key in ("embed", "lm_head")
