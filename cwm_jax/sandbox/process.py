"""A process that runs under limits and leaves nothing behind."""

import contextlib
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cwm_jax.sandbox.command import WORKING_FOLDER, Isolation, command
from cwm_jax.sandbox.limits import Limits

_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # sets print in one order, run after run
    "PYTHONDONTWRITEBYTECODE": "1",
}


class SandboxError(RuntimeError):
    """The isolated process did not start; the message holds what the sandbox said."""


class Process:
    """A command under limits, started on construction; a context manager that ends it.

    Its standard input and output are the null device unless it is given others, and its environment is empty
    but for `PATH`, `LANG`, `HOME` and a fixed hash seed. Its working folder is thrown away at the end.

    Attributes:
      exit_fd: readable once the process has ended (a pidfd), to wait for it together with other files.
    """

    def __init__(self, argv: Sequence[str], limits: Limits, isolation: Isolation, *,
                 readable: Iterable[str] = (), pass_fds: Sequence[int] = (),
                 stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL):  # fmt: skip
        """Starts `argv`; `readable` as for `command`, `pass_fds` stay open in the process, `stdin` and `stdout` are
        descriptors of files."""
        words = command(argv, limits, isolation, readable)
        self._isolation = isolation
        with contextlib.ExitStack() as stack:
            folder, start = WORKING_FOLDER, "/"  # bubblewrap makes the folder and goes there itself
            if isolation is Isolation.LIMITS_ONLY:
                start = folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            self._process = subprocess.Popen(
                words, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, pass_fds=pass_fds,
                cwd=start, env={**_ENVIRONMENT, "HOME": folder}, start_new_session=True,
            )  # fmt: skip
            stack.callback(self._process.stderr.close)
            self.exit_fd = os.pidfd_open(self._process.pid)
            stack.callback(os.close, self.exit_fd)
            stack.callback(self.kill)
            self._stack = stack.pop_all()

    def wait(self, seconds: float) -> int | None:
        """The exit status if the process ends within that time (of a death by signal N: −N or 128 + N), else None."""
        return self.kill() if self._has_ended(seconds) else None

    def errors(self) -> str:
        """What an ended process wrote to standard error."""
        return self._process.stderr.read().decode(errors="replace").strip()

    def working_folder(self) -> int:
        """A descriptor, the caller's, of the working folder inside bubblewrap, which shows it even after the end.

        Raises:
          OSError: the process has ended, or its sandbox is not set up yet.
        """
        child, *_ = _children(self._process.pid) or [self._process.pid]
        return os.open(f"/proc/{child}/root{WORKING_FOLDER}", os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        """Kills the process and takes its resources back."""
        self._stack.close()

    def kill(self) -> int:
        """Ends the process and all that it started in its group or sandbox; its exit status, as for `wait`."""
        if self._process.returncode is None:  # not reaped: its number cannot be another's yet
            with contextlib.ExitStack() as stack:
                children = [stack.enter_context(_pidfd(child)) for child in _children(self._process.pid)]
                if children and self._isolation is Isolation.BUBBLEWRAP:
                    # Its child first: bubblewrap then reaps it and ends. The other way round the child is left
                    # to the machine's first process, and lives on if bubblewrap was still setting it up.
                    _send_kill(children)
                    self._has_ended(1.0)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                _send_kill(children)
        return self._process.wait()

    def _has_ended(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.exit_fd, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended, or this kernel keeps no such list
        return []


def _send_kill(pidfds: Iterable[int | None]) -> None:
    for descriptor in pidfds:
        if descriptor is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    """Holds on to a process, which its number alone does not; None if it has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
