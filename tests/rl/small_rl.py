"""A run so small that a step takes a moment: the toy, its roles in one process."""

from cwm_jax.rl.cli import load
from cwm_jax.rl.experiment import Rl

OVERRIDES = (
    "Rl.checkpoint_every=1000", "Reverse.count=256", "Admission.groups=4", "Batching.groups=4", "Batching.rows=4",
    "Batching.tokens=256", "Sampling.members=4", "Sampling.groups=20", "Examining.tasks=4", "Examining.every=1000",
    "EngineConfig.slots=16", "EngineConfig.steps=1",
)  # fmt: skip


def small(steps: int, staleness: int, *more: str, kv: str = "keep") -> Rl:
    """The configuration; `more` are overrides as `Class.field=VALUE`."""
    given = (*OVERRIDES, f"Rl.steps={steps}", f"Admission.staleness={staleness}", f'Drawing.kv="{kv}"', *more)
    return load(["experiments/tiny/reverse.gin"], [*given])
