"""Several processes that train together: the hosts of a TPU slice, or any machines that are told of one another."""

import glob
import os

import jax
from jax.experimental import multihost_utils

from cwm_jax.training.cpu import prepare_cpu

_ADDRESS, _COUNT, _INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def join_processes(devices: int) -> None:
    """Makes this process one of those of a run on `devices` devices; alone it stays alone. Before JAX is used.

    The hosts of a TPU slice find one another. Elsewhere `JAX_COORDINATOR_ADDRESS=host:port`, `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID` say who they are.

    Raises:
      ValueError: one of the three is set and another is not.
    """
    given = {name: os.environ[name] for name in (_ADDRESS, _COUNT, _INDEX) if os.environ.get(name)}
    if jax.distributed.is_initialized():
        return
    if len(given) == 3:
        prepare_cpu(devices // int(given[_COUNT]))
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(given[_ADDRESS], int(given[_COUNT]), int(given[_INDEX]))
    elif given:
        missing = [name for name in (_ADDRESS, _COUNT, _INDEX) if name not in given]
        raise ValueError(f"{', '.join(given)} is set and {', '.join(missing)} is not; set all three, or none")
    elif os.environ.get("JAX_PLATFORMS", "tpu") == "tpu" and glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*"):
        jax.distributed.initialize()
    else:
        prepare_cpu(devices)


def is_first() -> bool:
    """Whether this is the process that writes what all share."""
    return jax.process_index() == 0


def wait_for_all(where: str) -> None:
    """Returns once every process has come to `where`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)
