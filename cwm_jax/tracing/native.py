"""Builds the recorder's hot path in C (`child/c/`), where there is a compiler: `python -m cwm_jax.tracing.native`.

The child takes it if it lies beside its scripts, and else the scripts alone, which are its reference: the same
bytes either way. It is one shared library made by one command, our choice, because a build system for one file would
have to be there for everybody, and this is a matter of speed only.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

_CHILD = Path(__file__).parent / "child"
_TESTED = (3, 11)  # it is compared with its reference on this Python alone


class NativeMissing(RuntimeError):
    """The library cannot be built here; the message says why, and what to do."""


def build(folder: Path = _CHILD) -> Path:
    """Compiles the library into `folder`, in place of one that is there, and returns its path.

    Raises:
      NativeMissing: this Python is not the one it is tested on, there is no compiler, or the compiler fails.
    """
    if sys.version_info[:2] != _TESTED or sys.implementation.name != "cpython":
        raise NativeMissing(f"it is made for CPython {_TESTED[0]}.{_TESTED[1]}, this is {sys.version.split()[0]}")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NativeMissing("there is no C compiler: apt-get install gcc, then python -m cwm_jax.tracing.native")
    path = folder / f"native{sysconfig.get_config_var('EXT_SUFFIX')}"
    part = path.with_suffix(f".{os.getpid()}")
    command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}"]
    try:
        subprocess.run([*command, str(_CHILD / "c" / "native.c"), "-o", str(part)], check=True, capture_output=True)
        part.replace(path)  # interpreters that run keep the one that they have
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise NativeMissing(f"{compiler} fails; if it lacks Python.h, install python3-dev: {reason}") from None
    finally:
        part.unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    try:
        print(f"built {build()}")
    except NativeMissing as missing:
        print(f"the recorder runs without its native part, several times slower: {missing}")
