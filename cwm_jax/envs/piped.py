"""Programs that nobody vouched for, from standard input to standard output, each in a sandbox of its own."""

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import NamedTuple

from cwm_jax.sandbox import Isolation, Limits, Process, SandboxError

_STARTED = "started"
_ERRORS = 4000  # bytes of the end of standard error that are kept
# The mark is out before the program is there, which cannot take it back; so a sandbox that fails is told from a program
# that does. What the program says goes to a file first, or a full pipe would hold it up.
_SHELL = f'echo {_STARTED} >&2; "$@" 2>/tmp/errors; status=$?; tail -c {_ERRORS} /tmp/errors >&2; exit $status'


class Ran(NamedTuple):
    """What came of a program.

    Attributes:
      status: its exit status; None if it was stopped when its time was over.
      output: its standard output, as far as `Limits.file_mb` lets it.
      errors: the end of its standard error.
      seconds: that it took, with the sandbox.
    """

    status: int | None
    output: bytes
    errors: str
    seconds: float


def run(argv: Sequence[str], stdin: bytes, limits: Limits, readable: Iterable[str] = ()) -> Ran:
    """Runs a program inside bubblewrap: no network, nothing written that stays.

    Args:
      argv: the program and its arguments.
      stdin: what it may read.
      limits: what it may use up.
      readable: paths that it sees, at the same place, besides the system's.

    Raises:
      SandboxMissing: the tools of the sandbox are not installed.
      SandboxError: the sandbox did not start; no fault of the program.
    """
    began = time.monotonic()
    with _memory() as given, _memory() as said:
        given.write(stdin)
        given.seek(0)
        with Process(["/bin/sh", "-c", _SHELL, "sh", *argv], limits, Isolation.BUBBLEWRAP, readable=readable,
                     stdin=given.fileno(), stdout=said.fileno()) as process:  # fmt: skip
            status = process.wait(limits.wall_seconds)
            process.kill()
            mark, _, errors = process.errors().partition("\n")
        if mark != _STARTED:
            raise SandboxError(f"the sandbox does not start: {mark} {errors}".strip())
        said.seek(0)
        return Ran(status, said.read(limits.file_mb << 20), errors, time.monotonic() - began)


def _memory():
    """A file that no path leads to."""
    return closing(os.fdopen(os.memfd_create("piped"), "w+b", buffering=0))
