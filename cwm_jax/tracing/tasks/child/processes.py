"""Processes, so that they wait by passing the baton on; and what they tell each other."""

import _posixsubprocess
import io
import json
import os
import sys
import types

from descriptors import name_of, open_pipe

_ALONE = {"-s", "-S", "-u", "-B", "-E", "-I", "-O", "-OO"}  # options of Python's without an argument
_HELPER = "multiprocessing.resource_tracker"  # a process of the library's that nobody waits for
_waitpid, _fork, _fork_exec = os.waitpid, os.fork, _posixsubprocess.fork_exec


def replace_starts(baton, command, files: set[int]) -> None:
    """To be called before `multiprocessing` and `subprocess` are imported.

    Args:
      baton: see `Baton`.
      command: `command(task, options, words)`: the command line of a Python that is recorded as this task.
      files: descriptors that it needs.
    """
    children: dict[int, int] = {}  # process -> task

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

    os.fork, os.waitpid, os.wait = fork, waitpid, lambda: waitpid(-1, 0)
    _posixsubprocess.fork_exec = fork_exec


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

    def send(file, kind, value):
        baton.tell("send", name_of(file), kind, 0, render(value, "item"))

    def receive(file):
        baton.tell("receive", name_of(file), 0, False)

    kind = connection.Connection
    reports(baton, kind, "send send_bytes", lambda _, of, value, *__: send(of.fileno(), "Connection", value))
    reports(baton, kind, "recv recv_bytes recv_bytes_into", lambda _, of, *__: receive(of.fileno()))

    def pipe_of(queue):  # both ends are one pipe; some workers close the one that they do not need
        return (queue._writer if queue._reader.closed else queue._reader).fileno()

    for kind in (queues.Queue, queues.SimpleQueue):
        reports(baton, kind, "put", lambda _, of, value, *__, **___: send(pipe_of(of), "Queue", value))
        reports(baton, kind, "get", lambda _, of, *__, **___: receive(pipe_of(of)))
    reports(baton, resource_tracker.ResourceTracker, "_send _check_alive", lambda *_: None)  # the library's own affair
    _wait_at_semaphores(baton)
    _report_semaphores(baton, reports)
    pipe = connection.Pipe

    def connect(duplex=True):
        ends = pipe(duplex)
        if duplex:
            baton.say(json.dumps(["pair", *(name_of(end.fileno()) for end in ends)]))
        return ends

    connection.Pipe = connect


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
