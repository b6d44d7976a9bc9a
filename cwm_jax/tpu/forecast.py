"""The report on a compiled step: memory, work, collectives, and the time it should take."""

import math
from typing import Any

from cwm_jax.model.flops import flops
from cwm_jax.tpu.chips import Topology, coordinates
from cwm_jax.tpu.collectives import table
from cwm_jax.tpu.compile import Compiled
from cwm_jax.tpu.roofline import Roofline, Work, collective_seconds, leave_one_out, work
from cwm_jax.training.experiment import Experiment

FREE = 0.08
"""Share of HBM that a layout should leave free: what the runtime and fragmentation take is not in the count."""


def forecast(experiment: Experiment, topology: Topology, step: Compiled) -> dict[str, Any]:
    """What is known of a compiled step, ready for JSON.

    Sizes are a chip's, in GiB; `tokens_per_step` are those of all chips. `chips_at_least` is a lower bound for this
    batch: it takes all memory to be shared out among more chips, which gathered weights are not.
    """
    chip, shape = topology.chip, step.shape
    tokens = shape.rows * shape.length
    counted = flops(experiment.model, experiment.data.vocabulary_size, shape.length, shape.global_window)
    places = coordinates(step.mesh.devices.flat)
    busy, wires = _work(experiment, topology, step), collective_seconds(step.collectives, topology, places)
    roofline, errors = Roofline.calibrate(), [abs(error) for error in leave_one_out().values()]
    seconds = roofline.seconds(busy, wires)
    used = step.bytes * chip.devices / 2**30
    return {
        "topology": str(topology),
        "chips": topology.chips,
        "mesh": dict(step.mesh.shape),
        "sequence": shape.length,
        "tokens_per_step": tokens,
        "hbm_gib": chip.hbm_gib,
        "used_gib": _short(used),
        "fits": used <= chip.hbm_gib,
        "chips_at_least": math.ceil(topology.chips * used / chip.hbm_gib / (1 - FREE)),
        "gflop_per_token": _short(counted.training / 1e9),
        "step_seconds": _short(seconds),
        "predicted_mfu": _short(counted.training * tokens / seconds / topology.chips / chip.peak),
        "roofline": {
            "seconds_at_full_speed": _all_short(vars(busy) | {"collectives": wires}),
            "slowdowns": _all_short(vars(roofline)),
            "published_runs": len(errors),
            "left_out_error": _all_short({"mean": sum(errors) / len(errors), "worst": max(errors)}),
        },
        "collectives": table(step.collectives, dict(step.mesh.shape)),
    }


def _work(experiment: Experiment, topology: Topology, step: Compiled) -> Work:
    """The work of the chip that has most: with sequences cut up, the last shard sees most keys."""
    model, vocab_size = experiment.model, experiment.data.vocabulary_size
    length, tokens = step.shape.length, step.shape.rows * step.shape.length
    shards = math.prod(step.mesh.shape[axis] for axis in experiment.rules.sequence)
    last = flops(model, vocab_size, length, step.shape.global_window, start=length - length // shards)
    products = step.executed.attention_products / model.layers
    return work(
        topology.chip,
        topology.chips // step.mesh.shape["replica"],
        model,
        vocab_size,
        tokens / topology.chips,
        step.executed.matmul_flops / tokens,
        last.attention * products / 2,
    )


def _all_short(values: dict[str, float]) -> dict[str, float]:
    return {name: _short(value) for name, value in values.items()}


def _short(value: float) -> float:
    return float(f"{value:.4g}")
