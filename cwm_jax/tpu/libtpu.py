"""libtpu, the compiler and runtime of TPUs, on machines without one. To be called before JAX starts."""

import glob
import os

_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5p-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def compile_only() -> None:
    """Makes libtpu a mere compiler: it looks for no TPU, asks no network and takes no lock; JAX itself runs on the CPU.

    What the user has set stays.
    """
    for name, value in {"JAX_PLATFORMS": "cpu", **_ALONE}.items():
        os.environ.setdefault(name, value)


def keep_quiet() -> None:
    """Where there is no TPU, tells libtpu so: installed to compile, it would else complain whenever JAX starts."""
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/*"):
        for name, value in _ALONE.items():
            os.environ.setdefault(name, value)
