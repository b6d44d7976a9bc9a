"""Training checkpoints: the state and its fingerprint. Where the data stands follows from the step (`data.stream`)."""

import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from cwm_jax.checkpoints.fingerprint import fingerprint
from cwm_jax.files import full_disk

logging.getLogger("absl").addFilter(lambda record: record.levelno < logging.ERROR)  # Orbax raises what it logs so


class DamagedCheckpoint(ValueError):
    """What was read is not what was written, or cannot be read."""


class Checkpoints:
    """The checkpoints of one run, written in the background; the last two are kept. A context manager."""

    def __init__(self, folder: Path, every: int):
        self.folder = Path(folder).absolute()
        self._checkpointer = ocp.training.Checkpointer(
            self.folder,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(every),
            preservation_policy=ocp.training.preservation_policies.LatestN(2),
        )
        self._writing = None  # Orbax keeps a thread and an event loop for each save until its result is asked for

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint that was written to its end; None where there is none."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def due(self, step: int) -> bool:
        """Whether the interval says that `step` is saved."""
        return self._checkpointer.should_save(step)

    def save(self, step: int, state: Any) -> None:
        """Saves, unless `step` is saved already.

        Raises:
          OSError: no space for this checkpoint, or for the one before, which was still being written.
        """
        if self.latest == step:
            return
        parts = {"state": state, "fingerprint": fingerprint(state)}
        self.wait()
        with full_disk(self.folder):
            self._writing = self._checkpointer.save_checkpointables_async(step, parts, force=True)

    def wait(self) -> None:
        """Returns when all is on disk; raises OSError where there is no space."""
        writing, self._writing = self._writing, None
        with full_disk(self.folder):
            if writing is not None:
                writing.result()
            self._checkpointer.wait()

    def restore(self, abstract_state: Any) -> tuple[int, Any]:
        """Step and state of the newest whole checkpoint; says so on stderr when it is not the newest of all.

        Args:
          abstract_state: shapes, dtypes and shardings, on any mesh and any number of processes.

        Raises:
          DamagedCheckpoint: none is whole; the message has the reason for each.
        """
        reasons = []
        for checkpoint in reversed(self._checkpointer.checkpoints):
            try:
                state = self._load(checkpoint.step, abstract_state)
            except Exception as error:  # a damaged file may raise anything, from any library below
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                reasons.append(f"step {checkpoint.step}: {reason[:200]}")
                continue
            for reason in reasons:
                print(f"checkpoint of {reason}; using that of step {checkpoint.step} instead", file=sys.stderr)
            return checkpoint.step, state
        raise DamagedCheckpoint(
            f"no checkpoint in {self.folder} can be used ({'; '.join(reasons)}). Put a copy of one there, or delete "
            "this folder to start from the beginning"
        )

    def _load(self, step: int, abstract_state: Any) -> Any:
        scalar = jax.tree.map(lambda x: jax.ShapeDtypeStruct((), "uint32", sharding=_whole(x.sharding)), abstract_state)
        loaded = self._checkpointer.load_checkpointables(step, {"state": abstract_state, "fingerprint": scalar})
        expected, found = jax.device_get((loaded["fingerprint"], fingerprint(loaded["state"])))
        same = jax.tree_util.tree_leaves_with_path(jax.tree.map(lambda one, other: one == other, expected, found))
        if wrong := [jax.tree_util.keystr(path, simple=True, separator=".") for path, equal in same if not equal]:
            raise DamagedCheckpoint(f"the numbers of {', '.join(wrong[:3])} are not those that were saved")
        return loaded["state"]

    def set_aside(self, after: int) -> None:
        """Clears the way for checkpoints beyond step `after`, and says so: half-written ones go, damaged ones move.

        Only for who writes here: a half-written checkpoint may be another process's work.
        """
        if jax.process_index() == 0:
            for path in sorted(self.folder.iterdir()):
                step, half_written = path.name.partition(".orbax")[:2]
                if step.isdigit() and half_written:
                    shutil.rmtree(path)
                    print(f"checkpoint of step {step} was not written to its end; deleted", file=sys.stderr)
                elif step.isdigit() and int(step) > after:
                    place = path.rename(path.with_name(f"damaged-{step}-{time.time():.0f}"))
                    print(f"checkpoint of step {step} is damaged; it is now {place}, yours to delete", file=sys.stderr)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints set aside")
        self._checkpointer.reload()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self._checkpointer.close()


def abstract(tree: Any) -> Any:
    """Shapes, dtypes and shardings of a tree of arrays, for `restore`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def _whole(sharding: jax.sharding.Sharding) -> jax.sharding.Sharding:
    """The sharding of a scalar on the devices of `sharding`."""
    if isinstance(sharding, jax.sharding.NamedSharding):
        return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return sharding
