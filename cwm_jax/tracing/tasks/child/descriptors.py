"""Pipes and sockets, so that they wait by passing the baton on; and what goes through pipes."""

import io
import os
import select
import stat
import sys
from functools import wraps

_ATOMIC = select.PIPE_BUF  # so much a pipe takes at once when it says that it takes something
_read, _write = os.read, os.write


def replace_calls(baton) -> None:
    """To be called before `multiprocessing` and `subprocess` are imported."""

    def read(file, size):
        if not _is_pipe(file):
            return _read(file, size)
        baton.wait(_ready(file, select.POLLIN))
        data = _read(file, size)
        if data and not baton.thread.quiet:
            baton.tell("read", name_of(file), len(data))
        return data

    def write(file, data):
        if not _is_pipe(file):
            return _write(file, data)
        rest = memoryview(data).cast("B")
        written = 0
        while written < len(rest):
            baton.wait(_ready(file, select.POLLOUT))
            size = _write(file, rest[written : written + _ATOMIC])
            if not baton.thread.quiet:
                baton.tell("write", name_of(file), size, repr(bytes(rest[written : written + size])))
            written += size
        return written

    os.read, os.write = read, write


def replace_waits(baton) -> None:
    """Has selectors and sockets wait; to be called before the program runs."""
    import selectors
    import socket

    for kind in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
        kind.select = _waiting_select(baton, kind.select)
    for name in ("accept", "recv", "recv_into", "recvfrom"):
        setattr(socket.socket, name, _waiting_socket(baton, getattr(socket.socket, name)))


def name_of(file: int) -> str:
    """What tells a pipe from all others; its two ends, in whatever process, are one."""
    return f"pipe {os.fstat(file).st_ino}"


class Pipe(io.FileIO):
    """One end of a pipe; waits by passing the baton on."""

    def readinto(self, buffer):
        data = os.read(self.fileno(), len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self):
        return b"".join(iter(lambda: os.read(self.fileno(), 1 << 16), b""))

    def read(self, size=-1):
        return self.readall() if size is None or size < 0 else os.read(self.fileno(), size)

    def write(self, data):
        return os.write(self.fileno(), data)


def open_pipe(file, mode="r", buffering=-1, **text):
    """As `open`, for the end of a pipe."""
    if not isinstance(file, int) or not _is_pipe(file):
        return open(file, mode, buffering, **text)
    raw = Pipe(file, mode.replace("b", ""), closefd=text.pop("closefd", True))
    if buffering == 0:
        return raw
    wrapper = io.BufferedWriter if "w" in mode else io.BufferedReader
    return wrapper(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)


def wait_at_standard_pipes() -> None:
    """Has this process's own standard streams wait, where its parent has put pipes there."""
    for file, name, mode in ((0, "stdin", "rb"), (1, "stdout", "wb"), (2, "stderr", "wb")):
        if getattr(sys, name) is not None and _is_pipe(file):
            stream = io.TextIOWrapper(open_pipe(file, mode, closefd=False), "utf-8", "surrogateescape")
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _is_pipe(file: int) -> bool:
    try:
        mode = os.fstat(file).st_mode
    except OSError:
        return False
    return (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) and os.get_blocking(file)


def _ready(file: int, event: int):
    poll = select.poll()
    poll.register(file, event)
    return lambda: bool(poll.poll(0))


def _waiting_select(baton, original):
    def select(self, timeout=None):
        found = []

        def attempt():
            found.extend(original(self, 0))
            return bool(found)

        baton.wait(attempt, timeout)
        return found

    return select


def _waiting_socket(baton, original):
    @wraps(original)
    def call(self, *args):
        timeout = self.gettimeout()
        if timeout != 0 and not baton.wait(_ready(self.fileno(), select.POLLIN), timeout):
            raise TimeoutError("timed out")
        return original(self, *args)

    return call
