"""Processes and the pipes between them, so that they wait by passing the baton on; and what they tell each other."""

import _posixsubprocess
import io
import json
import os
import select
import stat
import sys
import types
from functools import wraps

_ATOMIC = select.PIPE_BUF  # so much a pipe takes at once when it says that it takes something
_ALONE = {"-s", "-S", "-u", "-B", "-E", "-I", "-O", "-OO"}  # options of Python's without an argument
_HELPER = "multiprocessing.resource_tracker"  # a process of the library's that nobody waits for
_read, _write, _waitpid, _fork, _fork_exec = os.read, os.write, os.waitpid, os.fork, _posixsubprocess.fork_exec


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


def replace_calls(baton, command, files: set[int]) -> None:
    """To be called before `multiprocessing` and `subprocess` are imported.

    Args:
      baton: see `Baton`.
      command: `command(task, options, words)`: the command line of a Python that is recorded as this task.
      files: descriptors that it needs.
    """
    children: dict[int, int] = {}  # process -> task

    def read(file, size):
        if not _is_pipe(file):
            return _read(file, size)
        baton.wait(_ready(file, select.POLLIN))
        data = _read(file, size)
        if data and not baton.thread.quiet:
            baton.tell("read", _pipe(file), len(data))
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
                baton.tell("write", _pipe(file), size, repr(bytes(rest[written : written + size])))
            written += size
        return written

    def fork():
        task = baton.spawn(*(baton.thread.spawning or ("process", "fork")))
        pid = baton.start(task, _fork)
        if pid:
            children[pid] = task
        else:
            children.clear()
            baton.forked(task)
        return pid

    def fork_exec(args, executables, close_fds, pass_fds, *rest):
        words = [os.fsdecode(word) for word in args]
        if any(_HELPER in word for word in words):
            return _fork_exec(args, executables, close_fds, pass_fds, *rest)
        options, call, code = _python_call(words, os.fsdecode(rest[0]) if rest[0] else ".")
        recorded = code is not None
        shown = words if not recorded else ["python", "-c", *call[2:]] if call[0] == "-c" else ["python", *call]
        kind, name = baton.thread.spawning or ("subprocess", " ".join(shown))
        task = baton.spawn(kind, name, code if kind == "subprocess" else None, recorded)
        if recorded:
            args, pass_fds = command(task, options, call), tuple(sorted({*pass_fds, *files}))
        pid = baton.start(task, _fork_exec, args, executables, close_fds, pass_fds, *rest)
        children[pid] = task
        if not recorded:
            baton.outsiders.add(pid)
        return pid

    def waitpid(pid, options):
        found = (0, 0)

        def attempt():
            nonlocal found
            found = _waitpid(pid, options | os.WNOHANG)
            return found[0] != 0

        attempt() if options & os.WNOHANG else baton.wait(attempt)
        if found[0] in children:
            baton.outsiders.discard(found[0])
            if (task := children.pop(found[0])) >= 0:
                baton.tell("join", task, os.waitstatus_to_exitcode(found[1]))
        return found

    os.read, os.write, os.fork, os.waitpid, os.wait = read, write, fork, waitpid, lambda: waitpid(-1, 0)
    _posixsubprocess.fork_exec = fork_exec


def _ready(file: int, event: int):
    poll = select.poll()
    poll.register(file, event)
    return lambda: bool(poll.poll(0))


def _pipe(file: int) -> str:
    """What tells a pipe from all others; its two ends, in whatever process, are one."""
    return f"pipe {os.fstat(file).st_ino}"


def _python_call(words: list[str], folder: str) -> tuple[list[str], list[str], str | None]:
    """Options, the words from `-c` or the script on, and the code of a command line.

    The code is None if this is not our Python, or is called in another way.
    """
    at = 1
    while at < len(words) and words[at] in _ALONE:
        at += 1
    options, words, python = words[1:at], words[at:], words[0]
    if python != sys.executable or not words:
        return [], [], None
    if words[0] == "-c":
        return options, words, words[1] if len(words) > 1 else None
    try:
        with open(os.path.join(folder, words[0]), encoding="utf-8") as file:
            return options, words, file.read()
    except (OSError, ValueError):
        return [], [], None


def report_processes(baton, render, reports) -> None:
    """Has what processes tell each other reported; to be called before the program runs."""
    import selectors
    import subprocess
    from multiprocessing import connection, process, queues, resource_tracker

    subprocess._USE_POSIX_SPAWN = subprocess._USE_VFORK = False
    subprocess.io = types.SimpleNamespace(**vars(io) | {"open": open_pipe})
    baton.order(process.BaseProcess)
    start = process.BaseProcess.start

    def start_process(of):
        baton.thread.spawning = ("process", of.name)
        try:
            start(of)
        finally:
            baton.thread.spawning = None

    process.BaseProcess.start = start_process
    for selector in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
        selector.select = _waiting_select(baton, selector.select)

    def send(file, kind, value):
        baton.tell("send", _pipe(file), kind, 0, render(value, "item"))

    def receive(file):
        baton.tell("receive", _pipe(file), 0, False)

    kind = connection.Connection
    reports(baton, kind, "send send_bytes", lambda _, of, value, *__: send(of.fileno(), "Connection", value))
    reports(baton, kind, "recv recv_bytes recv_bytes_into", lambda _, of, *__: receive(of.fileno()))

    def pipe_of(queue):  # both ends are one pipe; some workers close the one that they do not need
        return (queue._writer if queue._reader.closed else queue._reader).fileno()

    for kind in (queues.Queue, queues.SimpleQueue):
        reports(baton, kind, "put", lambda _, of, value, *__, **___: send(pipe_of(of), "Queue", value))
        reports(baton, kind, "get", lambda _, of, *__, **___: receive(pipe_of(of)))
    reports(baton, resource_tracker.ResourceTracker, "_send _check_alive", lambda *_: None)  # the library's own affair
    _wait_at_sockets(baton)
    _wait_at_semaphores(baton)
    _report_semaphores(baton, reports)
    pipe = connection.Pipe

    def connect(duplex=True):
        ends = pipe(duplex)
        if duplex:
            baton.say(json.dumps(["pair", *(_pipe(end.fileno()) for end in ends)]))
        return ends

    connection.Pipe = connect


def _waiting_select(baton, original):
    def select(self, timeout=None):
        found = []

        def attempt():
            found.extend(original(self, 0))
            return bool(found)

        baton.wait(attempt, timeout)
        return found

    return select


def _wait_at_sockets(baton) -> None:
    import socket

    def waiting(original):
        @wraps(original)
        def call(self, *args):
            timeout = self.gettimeout()
            if timeout != 0 and not baton.wait(_ready(self.fileno(), select.POLLIN), timeout):
                raise TimeoutError("timed out")
            return original(self, *args)

        return call

    for name in ("accept", "recv", "recv_into", "recvfrom"):
        setattr(socket.socket, name, waiting(getattr(socket.socket, name)))


def _wait_at_semaphores(baton) -> None:
    import _multiprocessing

    class SemLock(_multiprocessing.SemLock):
        def __init__(self, *_):
            baton.mark(self)  # before there are copies of it

        def acquire(self, block=True, timeout=None):
            attempt = super().acquire
            return baton.wait(lambda: attempt(False), timeout if block else 0.0)

        def __enter__(self):
            return self.acquire()

    _multiprocessing.SemLock = SemLock


def _report_semaphores(baton, reports) -> None:
    """Locks, semaphores, conditions and events of `multiprocessing`: one channel each in all processes."""
    import _multiprocessing
    from multiprocessing import synchronize

    def channel(of):
        while not isinstance(of, _multiprocessing.SemLock):
            of = next(vars(of)[name] for name in ("_semlock", "_flag", "_lock") if name in vars(of))
        return of.name or baton.mark(of)

    def send(_, of, *__, **___):
        baton.tell("send", channel(of), type(of).__name__, 0)

    def receive(done, of, *_, **__):
        if done:
            baton.tell("receive", channel(of), 0, True)

    for kind in (_multiprocessing.SemLock, synchronize.SemLock):
        reports(baton, kind, "__enter__", receive, own_code=True)
        reports(baton, kind, "__exit__", send, own_code=True)
    reports(baton, _multiprocessing.SemLock, "acquire", receive, own_code=True)
    reports(baton, _multiprocessing.SemLock, "release", send, own_code=True)
    reports(baton, synchronize.Condition, "wait wait_for", receive, own_code=True)
    reports(baton, synchronize.Condition, "notify notify_all", send, own_code=True)
    reports(baton, synchronize.Event, "wait", receive, own_code=True)
    reports(baton, synchronize.Event, "set", send, own_code=True)
