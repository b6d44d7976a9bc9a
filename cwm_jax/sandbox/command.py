"""The command line that runs a program under limits, inside bubblewrap or outside of it."""

import math
import os
import random
import shutil
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path

from cwm_jax.sandbox.limits import Limits

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/ld.so.conf",
           "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")  # fmt: skip
_USERS = range(30_000, 60_000)  # ids hardly in use, which containers map too: a sandbox's processes count alone


class Isolation(Enum):
    """How far a program is kept from the machine."""

    BUBBLEWRAP = "bubblewrap"  # no network, read-only system, throw-away folders, limits
    LIMITS_ONLY = "limits only"  # limits alone: for programs that we made ourselves


class SandboxMissing(RuntimeError):
    """A tool that the isolation needs is not installed; the message holds the command that installs it."""


def python_paths() -> list[str]:
    """The folders that this Python needs to run: its installation and its virtual environment."""
    return [folder for folder in (sys.base_prefix, sys.prefix) if Path(folder) != Path("/")]


def command(argv: Sequence[str], limits: Limits, isolation: Isolation, readable: Iterable[str] = ()) -> list[str]:
    """`argv` with what has to stand before it, so that it runs isolated.

    Args:
      argv: the program and its arguments.
      limits: what it may use up; `wall_seconds` is kept by `Process`, the rest by the kernel.
      isolation: inside bubblewrap or not.
      readable: paths to show, read-only and at the same place, inside bubblewrap.

    Raises:
      SandboxMissing: bubblewrap, setpriv or prlimit is not installed.
    """
    cpu, memory, file = math.ceil(limits.cpu_seconds), limits.memory_mb << 20, limits.file_mb << 20
    rlimits = [f"--as={memory}", f"--fsize={file}", "--core=0"]
    if isolation is Isolation.LIMITS_ONLY:
        # The soft limit alone: an interpreter that runs many programs moves it on before each.
        return [_tool("setpriv"), "--pdeathsig", "KILL", _tool("prlimit"), *rlimits, f"--cpu={cpu}:", "--", *argv]
    rlimits += [f"--cpu={cpu}:{cpu + 1}", f"--nproc={limits.processes}", "--"]
    return [*_bubblewrap(file, readable), *_drop_root(), _tool("prlimit"), *rlimits, *argv]


WORKING_FOLDER = "/sandbox"  # not /tmp, in which readable paths may lie


def _bubblewrap(scratch_bytes: int, readable: Iterable[str]) -> list[str]:
    words = [_tool("bwrap"), "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        words += ["--unshare-user"]
    for path in _SYSTEM:
        words += ["--ro-bind-try", path, path]
    words += ["--dev", "/dev"]
    for folder in (WORKING_FOLDER, "/tmp", "/dev/shm"):
        words += ["--perms", "1777", "--size", str(scratch_bytes), "--tmpfs", folder]
    shown = [Path(path) for path in dict.fromkeys(readable) if not Path(path).is_relative_to("/usr")]
    for folder in dict.fromkeys(parent for path in shown for parent in reversed(path.parents[:-1])):
        words += ["--perms", "0755", "--dir", str(folder)]  # else bubblewrap makes them 0700, root's alone
    for path in shown:
        words += ["--ro-bind", str(path), str(path)]
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORKING_FOLDER, "--"]


def _drop_root() -> list[str]:
    """Root becomes a user that owns nothing: the kernel lets root pass `RLIMIT_NPROC`."""
    if os.geteuid() != 0:
        return []
    user = str(random.SystemRandom().choice(_USERS))
    return [_tool("setpriv"), "--reuid", user, "--regid", user, "--clear-groups"]


def _tool(name: str) -> str:
    if path := shutil.which(name):
        return path
    package = {"bwrap": "bubblewrap"}.get(name, "util-linux")
    unsafe = "; or, only for a program that you trust, run it with --unsafe" if name == "bwrap" else ""
    raise SandboxMissing(
        f"{name} is not installed, and without it a program cannot be isolated: apt-get install {package}{unsafe}"
    )
