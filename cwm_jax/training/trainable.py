"""Which weights are trained: all of them, or low-rank adapters of frozen ones. Each is a component.

Shapes: L layers, I input axes and O output axes of a matrix, R rank.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from cwm_jax.model.transformer import Params
from cwm_jax.training.optimizers import MATRICES


@dataclass(frozen=True)
class AllWeights:
    """Everything is trained."""

    def split(self, weights: Params, dtype: jnp.dtype, seed: int) -> tuple[Params, Params]:
        """What is trained, in float32, and what stays as it is."""
        return jax.tree.map(lambda weight: weight.astype(jnp.float32), weights), {}

    def merge(self, trained: Params, frozen: Params) -> Params:
        """The weights of the network."""
        return trained


@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation (Hu et al. 2021): every target W is used as W + alpha / rank · A B, and only A and B train.

    The sum is made anew in every step, so the network needs no second form, and merged weights are what was trained
    (our choice: against a product beside each matrix it costs the gradient of W, a third of the FLOPs).
    Only A and B have optimiser state and go into checkpoints. B starts at zero, so training starts at W.

    Attributes:
      rank: columns of A and rows of B.
      alpha: scale of the update, over the rank; so that the learning rate need not change with the rank.
      targets: names of matrices in the blocks. Our choice is all of them, which comes closest to full training.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = tuple(MATRICES)

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(f"LoRA.rank={self.rank} must be at least 1")
        if not self.targets or (unknown := set(self.targets) - set(MATRICES)):
            wrong = f"names {sorted(unknown)}" if self.targets else "is empty"
            raise ValueError(f"LoRA.targets {wrong}; choose among {', '.join(MATRICES)}")

    def split(self, weights: Params, dtype: jnp.dtype, seed: int) -> tuple[Params, Params]:
        """Fresh adapters in float32, and all weights, frozen, in the dtype that the network computes in."""
        adapters = {}
        for key, name in zip(jax.random.split(jax.random.key(seed), len(self.targets)), self.targets):
            weight = weights["blocks"][name]
            inputs, outputs = (tuple(weight.shape[axis] for axis in axes) for axes in MATRICES[name])
            a_LIR = jax.random.normal(key, (weight.shape[0], *inputs, self.rank)) * math.prod(inputs) ** -0.5
            adapters[name] = {"a": a_LIR, "b": jnp.zeros((weight.shape[0], self.rank, *outputs))}
        return {"blocks": adapters}, jax.tree.map(lambda weight: weight.astype(dtype), weights)

    def merge(self, trained: Params, frozen: Params) -> Params:
        """The weights of the network, the adapted ones in float32."""
        blocks = dict(frozen["blocks"])
        for name, adapter in trained["blocks"].items():
            inputs, outputs = (letters[: len(axes)] for letters, axes in zip(("ij", "op"), MATRICES[name]))
            place = jax.typeof(blocks[name]).sharding
            update = jnp.einsum(
                f"l{inputs}r,lr{outputs}->l{inputs}{outputs}",
                adapter["a"],
                adapter["b"],
                out_sharding=None if place.mesh.empty else place,
            )
            blocks[name] = blocks[name].astype(jnp.float32) + self.alpha / self.rank * update
        return frozen | {"blocks": blocks}
