"""How long a step will take: three times at full speed, each with the slow-down that published runs have shown.

    seconds = max(matmul * a + attention * b + memory * c, collectives)

`matmul` and `attention` are what the step executes (recomputation included) at the chip's peak; `memory` is the
traffic that no matrix product hides, at the bandwidth of HBM; collectives overlap with all that and count only where
they are longer. a, b and c are the same for all chips: least squares on the relative errors over
`published.PUBLISHED`. They mean: products reach 1/a of the peak, attention 1/b, and c is how much more a step moves
than the estimate below. Falsifiable: `leave_one_out` predicts each published run from all the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from cwm_jax.model.flops import flops
from cwm_jax.model.transformer import ModelConfig
from cwm_jax.tpu.chips import CHIPS, Chip, Topology
from cwm_jax.tpu.collectives import Collective
from cwm_jax.tpu.published import PUBLISHED, Published


@dataclass(frozen=True)
class Work:
    """What one chip does in one step, as seconds at full speed.

    Attributes:
      matmul: products with weights.
      attention: products of attention; a head narrower than the matrix unit fills a part of it.
      memory: activations between products, weights for each pass, optimiser state.
    """

    matmul: float
    attention: float
    memory: float


def work(
    chip: Chip,
    chips: int,
    model: ModelConfig,
    vocab_size: int,
    tokens: float,
    matmul_flops: float,
    attention_flops: float,
) -> Work:
    """The work of a chip.

    Args:
      chips: that share the weights and the optimiser's state.
      tokens: a chip and step.
      matmul_flops: executed for a token in products with weights.
      attention_flops: executed for a token in attention.
    """
    c = model
    forward = flops(c, vocab_size, 1).matmul
    passes = matmul_flops / forward - 1  # the gradients of weights read what is read anyway
    heads = c.head_dim * (c.q_heads + c.kv_heads)
    activations = 2 * c.layers * (10 * c.d_model + 4 * heads + 2 * c.head_dim * c.q_heads + 6 * c.d_ff)
    logits = 4 * 3 * 2 * vocab_size
    weights = forward / 2 + c.d_model * vocab_size
    moved = tokens * (passes * activations + logits) + weights * (2 * 3 + 28 / chips)
    return Work(
        tokens * matmul_flops / chip.peak,
        tokens * attention_flops / chip.peak * max(1, chip.mxu / c.head_dim),
        moved / chip.hbm_bandwidth,
    )


@dataclass(frozen=True)
class Roofline:
    """Slow-downs against full speed, as found in published runs."""

    matmul: float
    attention: float
    memory: float

    @classmethod
    def calibrate(cls, rows: Sequence[Published] = PUBLISHED) -> "Roofline":
        """The slow-downs with the least squared relative error over `rows`."""
        at_peak = [published_work(row) for row in rows]
        shares = np.array([[w.matmul, w.attention, w.memory] for w in at_peak]) / [[row.seconds] for row in rows]
        return cls(*map(float, nnls(shares, np.ones(len(rows)))[0]))

    def seconds(self, work: Work, collectives: float = 0.0) -> float:
        """A step of this work, with `collectives` seconds of them beside it."""
        busy = self.matmul * work.matmul + self.attention * work.attention + self.memory * work.memory
        return max(busy, collectives)


def published_work(row: Published) -> Work:
    """The work of a published step."""
    attention = flops(row.model, row.vocab_size, row.length).attention * row.attention_products / 2
    return work(CHIPS[row.chip], row.chips, row.model, row.vocab_size, row.tokens, row.matmul_flops, attention)


def leave_one_out(rows: Sequence[Published] = PUBLISHED) -> dict[str, float]:
    """Relative error of the predicted time of each row, from a calibration without any row of its workload."""
    errors = {}
    for row in rows:
        others = [other for other in rows if other.workload != row.workload]
        errors[row.name] = Roofline.calibrate(others).seconds(published_work(row)) / row.seconds - 1
    return errors


def collective_seconds(found: Sequence[Collective], topology: Topology, coordinates: np.ndarray) -> float:
    """Seconds that the collectives of a step keep the links of a chip busy, one after another.

    Args:
      coordinates: of the chip of each device of the mesh, flattened: [devices, axes].
    """
    return math.fsum(_seconds(collective, topology, coordinates) for collective in found)


def _seconds(collective: Collective, topology: Topology, coordinates: np.ndarray) -> float:
    devices = len(collective.group)
    bandwidth = topology.bandwidth(coordinates[list(collective.group)])
    if not bandwidth:
        return 0.0  # both devices are in one chip
    moved = collective.bytes * topology.chip.devices  # the devices of a chip share its links
    match collective.kind:
        case "all-reduce":
            moved *= 2 * (devices - 1) / devices
        case "all-gather" | "reduce-scatter":
            moved *= (devices - 1) / devices
        case "all-to-all":  # half of it crosses the middle of a ring, in steps to a quarter of the way round
            moved /= 4
        case "collective-permute":  # one neighbour, one direction
            moved *= 2
    return collective.trips * moved / bandwidth
