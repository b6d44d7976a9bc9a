"""Training checkpoints: the state, the position of the data, and what the state fits."""

from pathlib import Path
from typing import Any

import grain
import jax
from orbax.checkpoint import v1 as ocp


class Checkpoints:
    """The checkpoints of one run, written in the background; the last two are kept. A context manager."""

    def __init__(self, folder: Path, every: int):
        self._checkpointer = ocp.training.Checkpointer(
            Path(folder).absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(every),
            preservation_policy=ocp.training.preservation_policies.LatestN(2),
        )

    def save(self, step: int, state: Any, data: grain.DatasetIterator, force: bool = False) -> None:
        """Saves if `step` is due or `force`; the data's position is that after `step` batches."""
        if force and self.latest == step:
            return
        self._checkpointer.save_checkpointables_async(step, {"state": state, "data": data}, force=force)

    @property
    def latest(self) -> int | None:
        """The step of the newest whole checkpoint; None where there is none."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def restore(self, abstract_state: Any, data: grain.DatasetIterator | None = None) -> Any:
        """The newest state, laid out as `abstract_state` says (on any mesh); `data` is moved to its position."""
        wanted = {"state": abstract_state} | ({} if data is None else {"data": data})
        return self._checkpointer.load_checkpointables(self.latest, wanted)["state"]

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()


def abstract(tree: Any) -> Any:
    """Shapes, dtypes and shardings of a tree of arrays, for `restore`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
