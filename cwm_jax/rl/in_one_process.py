"""All roles in one process, in turns: the same seeds give the same run, bit by bit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from cwm_jax.rl.board import Board
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.learner import Learner
from cwm_jax.rl.roles import Context, SamplerRole, board_of
from cwm_jax.rl.sampler import Sampler


@dataclass(frozen=True)
class Together:
    """The roles of a run."""

    learner: Learner
    samplers: tuple[Sampler, ...]
    board: Board


@contextmanager
def together(rl: Rl, run: Path) -> Iterator[Together]:
    """The roles of a configuration, without threads; whoever enters gives them turns.

    At the end the learner is closed, and the last weights are measured if it came to its end.

    Args:
      rl: the configuration.
      run: folder of the run.
    """
    rl = replace(rl, sampling=replace(rl.sampling, threads=0, poll=0.0, ask=0.0))
    board = board_of(rl, run)
    roles = [SamplerRole(rl, number) for number in range(rl.samplers)]
    with jax.set_mesh(rl.training.mesh_shape.build()):
        hosts = [role.host(Context(run, board, lambda: False), live=False) for role in roles]
        with Learner(rl.training, rl.learning, run, rl.vocab_size(rl.playgrounds()), rl.admission.most) as learner:
            yield Together(learner, tuple(sampler for sampler, _ in hosts), board)
        for role, (sampler, examiner) in zip(roles, hosts):
            role.end(sampler, examiner, lambda sampler=sampler: sampler.tick(leasing=False))


def run_together(
    learner: Learner,
    samplers: Sequence[Sampler],
    told: Callable[[int, dict[str, Any]], None] = lambda step, metrics: None,
    every: int = 1,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Runs to the learner's end, or until it is enough. Samplers neither load in the background nor have threads.

    Args:
      learner: does a step whenever there is a batch.
      samplers: each draws a step of its engine in turn.
      told: hears of every step of the learner.
      every: turns of the samplers for one of the learner: how slow it is.
      enough: asked after every turn.
    """
    learner.publisher.wait()
    while not learner.done and not enough():
        for _ in range(every):
            for sampler in samplers:
                sampler.tick()
        if (metrics := learner.tick()) is not None:
            learner.publisher.wait()  # what it publishes is there for the next turn, never for a later one
            told(learner.step, metrics)
