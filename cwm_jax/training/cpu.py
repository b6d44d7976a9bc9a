"""Settings that training on CPUs needs before JAX starts."""

import ctypes
import os

import jax

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def prepare_cpu(devices: int) -> None:
    """Makes `devices` CPU devices and keeps freed memory in the process.

    Several have one thread each, one has all threads. Of a model of a million weights several devices that share a
    batch are faster; of 50 million one is, for it updates and holds the weights once. And
    glibc otherwise gives the buffers of a step back to the kernel and faults them in again at
    the next. Does nothing once JAX has started, or where another platform was asked for.
    """
    if os.environ.get("JAX_PLATFORMS", "cpu") != "cpu":
        return
    if devices > 1:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        return  # JAX runs already, as in the tests; its devices stay as they are
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return  # not glibc
    # Arenas are left alone: one for all threads makes a step of two devices a third slower, as they wait for its lock.
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20)):
        mallopt(option, value)
