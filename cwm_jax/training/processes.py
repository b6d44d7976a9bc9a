"""Several processes that train together: the hosts of a TPU slice, or any machines that are told of one another."""

import glob
import os
import pickle
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cwm_jax.training.cpu import prepare_cpu

_ADDRESS, _COUNT, _INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def join_processes(devices: int, world: tuple[str, int, int] | None = None) -> None:
    """Makes this process one of those of a run on `devices` devices; alone it stays alone. Before JAX is used.

    The hosts of a TPU slice find one another. Elsewhere `JAX_COORDINATOR_ADDRESS=host:port`, `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID` say who they are, or `world` does.

    Args:
      devices: of all processes.
      world: these three.

    Raises:
      ValueError: one of the three is set and another is not.
    """
    given = {name: os.environ[name] for name in (_ADDRESS, _COUNT, _INDEX) if os.environ.get(name)}
    if jax.distributed.is_initialized():
        return
    if len(given) == 3:
        _join(devices, given[_ADDRESS], int(given[_COUNT]), int(given[_INDEX]))
    elif given:
        missing = [name for name in (_ADDRESS, _COUNT, _INDEX) if name not in given]
        raise ValueError(f"{', '.join(given)} is set and {', '.join(missing)} is not; set all three, or none")
    elif os.environ.get("JAX_PLATFORMS", "tpu") == "tpu" and glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*"):
        jax.distributed.initialize()
    elif world is not None:
        _join(devices, *world)
    else:
        prepare_cpu(devices)


def _join(devices: int, address: str, count: int, index: int) -> None:
    prepare_cpu(devices // count)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, count, index)


def is_first() -> bool:
    """Whether this is the process that writes what all share."""
    return jax.process_index() == 0


def as_first(*numbers: int) -> tuple[int, ...]:
    """What the first process calls this with, told to all; each calls it, with as many numbers."""
    if jax.process_count() == 1:
        return numbers
    return tuple(multihost_utils.broadcast_one_to_all(np.array(numbers, np.int32)).tolist())


def told_by_first(value: Any) -> Any:
    """The same for any value that can be pickled; what the others call it with is not looked at."""
    content = pickle.dumps(value)
    (size,) = as_first(len(content))
    room = np.zeros(max(1024, 1 << (size - 1).bit_length()), np.uint8)  # few sizes, as each is compiled
    if is_first():
        room[:size] = np.frombuffer(content, np.uint8)
    if jax.process_count() > 1:
        room = multihost_utils.broadcast_one_to_all(room)
    return pickle.loads(room[:size].tobytes())


def wait_for_all(where: str) -> None:
    """Returns once every process has come to `where`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)
