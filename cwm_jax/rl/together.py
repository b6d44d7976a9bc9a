"""All roles in one process, in turns: the same seeds give the same run, bit by bit."""

from collections.abc import Callable, Sequence
from typing import Any

from cwm_jax.rl.learner import Learner
from cwm_jax.rl.sampler import Sampler


def run_together(
    learner: Learner,
    samplers: Sequence[Sampler],
    told: Callable[[int, dict[str, Any]], None] = lambda step, metrics: None,
) -> None:
    """Runs to the learner's end. Samplers should neither load in the background nor have threads.

    Args:
      learner: does a step whenever there is a batch.
      samplers: each draws a step of its engine in turn.
      told: hears of every step of the learner.
    """
    learner.publisher.wait()
    while not learner.done:
        for sampler in samplers:
            sampler.tick()
        if (metrics := learner.tick()) is not None:
            learner.publisher.wait()  # what it publishes is there for the next turn, never for a later one
            told(learner.step, metrics)
