"""The learner: takes batches, updates, publishes; started again, it comes to the same bits."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from cwm_jax.checkpoints.training import Checkpoints
from cwm_jax.model.transformer import rebuilder
from cwm_jax.rl import figures
from cwm_jax.rl.batches import Batching, Gathered, Gatherer, RolloutRows
from cwm_jax.rl.ledger import Ledger
from cwm_jax.rl.objective import Decoupled, Objective
from cwm_jax.rl.policy import Publisher
from cwm_jax.rl.spool import Spool
from cwm_jax.rl.step import make_proximal, make_rl_step
from cwm_jax.rl.time_ledger import TimeLedger
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.processes import as_first, is_first
from cwm_jax.training.state import init_state, optimizer_of, restored

_AGAIN = 0.02  # seconds until the ledger is looked at again
_PATIENCE = 120.0  # seconds that an entry may take to another machine


@dataclass(frozen=True)
class Learning:
    """How the learner learns, beside what an `Experiment` says.

    Attributes:
      objective: what it maximises.
      batching: how groups become batches.
      publish_every: steps between publications.
      serving: what weights are published in.
      spool_steps: how long groups stay in the spool after a checkpoint covers them, in steps; None for
        good. Those that are passed over go at once, or never.
    """

    objective: Objective = field(default_factory=Objective)
    batching: Batching = field(default_factory=Batching)
    publish_every: int = 1
    serving: str = "float32"
    spool_steps: int | None = 0


class Learner:
    """One learner, on one mesh. `tick` does a step if there is a batch. A context manager; its mesh must be in force.

    On the mesh of several processes each has one and calls the same methods in the same order; they do a step together.

    Args:
      experiment: model, optimiser, schedule, mesh, length of the run.
      learning: the rest.
      run: folder of the run.
      vocab_size: ids are below it.
      most: groups that can wait for it at once; None for any number.
      clock: tells seconds since 1970.

    Attributes:
      step: steps done.
      state: weights and optimiser.
      publisher: of its weights.
      hours: where its time goes; `fwd_bwd` has the optimiser's, one compiled step.
    """

    def __init__(
        self,
        experiment: Experiment,
        learning: Learning,
        run: Path,
        vocab_size: int,
        most: int | None = None,
        clock: Callable[[], float] = time.time,
    ):
        """Goes on from the newest checkpoint in `run`, and publishes its weights."""
        self.hours = TimeLedger("wait_batch", "pack", "h2d", "fwd_bwd", "publish_block", "ckpt_block")
        self._experiment, self._learning = experiment, learning
        self._spool, self._ledger = Spool(Path(run) / "spool"), Ledger(Path(run) / "ledger.jsonl")
        keep = learning.spool_steps is None
        self._gatherer = Gatherer(self._spool, self._ledger, learning.batching, vocab_size, keep, most)
        self._checkpoints = Checkpoints(Path(run) / "state", experiment.checkpoint_every)
        mesh = experiment.mesh_shape.build()
        self._place = NamedSharding(mesh, experiment.rules.spec("batch", "sequence"))
        self.step, self.state = 0, None
        if self._checkpoints.latest:
            self.step, self.state = restored(self._checkpoints, experiment, vocab_size, mesh)
        else:
            self.state = init_state(experiment, vocab_size, mesh)
        self._checkpoints.set_aside(after=self.step)
        rebuild, rules = rebuilder(experiment.model, vocab_size), experiment.rules
        optimizer = optimizer_of(experiment)
        step = make_rl_step(rebuild, optimizer, rules, learning.objective, experiment.guard, experiment.dtype)
        self._update = jax.jit(step, donate_argnums=0)
        self._proximal = jax.jit(make_proximal(rebuild, rules, experiment.dtype))
        self._cast = jax.jit(lambda params: jax.tree.map(lambda w: w.astype(learning.serving), params))
        self.publisher = Publisher(run, parent=self.step, clock=clock)
        self.publisher.publish(self._cast(self.state.params), self.step)

    @property
    def done(self) -> bool:
        """Whether the run has come to its end."""
        return self.step >= self._experiment.steps

    def tick(self) -> dict[str, Any] | None:
        """One step, if there is a batch for it; its metrics."""
        began = time.perf_counter()
        batch = self._gather()
        self.hours.add("wait_batch" if batch is None else "pack", time.perf_counter() - began)
        return None if batch is None else self._learn(batch)

    def _gather(self) -> Gathered | None:
        """The batch of the next step, if there is one. The first process decides, others read that in the ledger.

        Raises:
          TimeoutError: the ledger does not come to this machine.
        """
        step = self.step + 1
        batch = self._gatherer.gather(step, self.publisher.version) if is_first() else None
        (there,) = as_first(batch is not None)
        until = time.monotonic() + _PATIENCE
        while there and batch is None and (batch := self._gatherer.again(step)) is None:
            if time.monotonic() > until:
                raise TimeoutError(f"step {step} is not in the ledger here; is the run's folder the same on all hosts?")
            time.sleep(_AGAIN)
        return batch

    def close(self) -> None:
        """Returns when everything that was begun to be written is."""
        self.publisher.wait()
        self._checkpoints.save(self.step, self.state.saved)
        self._checkpoints.wait()
        self._checkpoints.__exit__()

    def __enter__(self) -> "Learner":
        return self

    def __exit__(self, error: type | None, *_: object) -> None:
        # Who fails alone would wait for others to save, and they for it.
        if error is None or jax.process_count() == 1:
            self.close()

    def _learn(self, gathered: Gathered) -> dict[str, Any]:
        version, spent = self.publisher.version, self.hours.spent
        with spent("h2d"):
            batch = jax.block_until_ready(RolloutRows(*map(self._on_devices, gathered.rows)))
        with spent("fwd_bwd"):
            proximal_BS = batch.logprobs
            if isinstance(self._learning.objective.surrogate, Decoupled):
                proximal_BS = self._proximal(self.state.params, batch)
            self.state, metrics = self._update(self.state, batch, proximal_BS, jnp.int32(version))
            metrics = {name: jax.tree.map(np.asarray, value) for name, value in jax.device_get(metrics).items()}
        self.step += 1
        if self.step % self._learning.publish_every == 0 or self.done:
            with spent("publish_block"):
                self.publisher.publish(self._cast(self.state.params), self.step)
        if self._checkpoints.due(self.step):
            with spent("ckpt_block"):
                covered = self._checkpoints.latest or 0  # by a checkpoint that is on disk to its end
                self._checkpoints.save(self.step, self.state.saved)
                if (longer := self._learning.spool_steps) is not None and is_first():
                    self._spool.delete(self._taken_until(covered - longer))
        ages = figures.by_age(metrics.pop("by_age"))
        told = {name: value.tolist() for name, value in metrics.items()}
        return {"step": self.step, "version": version, **told, "by_age": ages, **figures.of_batch(gathered, version)}

    def _on_devices(self, rows: np.ndarray) -> jax.Array:
        """An array of the batch, of which every process has the whole."""
        return jax.make_array_from_callback(rows.shape, self._place, rows.__getitem__)

    def _taken_until(self, step: int) -> list[str]:
        """Uids of groups that no checkpoint needs any more."""
        return [
            uid for entry in self._ledger.entries if entry.step <= step for uid in (*entry.consumed, *entry.rejected)
        ]
