"""Threads, locks, queues and the clock, so that they wait by passing the baton on; and what they tell each other."""

import _thread
import sys
import time
from functools import wraps

from baton import MARK

_EPOCH = 1_700_000_000.0  # when programs run: the same for all


class Lock:
    """`_thread.lock`, for threads of which one runs at a time."""

    __slots__ = ("__weakref__", "_held", "notes")
    baton = None  # set once, for all

    def __init__(self):
        self._held, self.notes = False, {}

    def acquire(self, blocking=True, timeout=-1):
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return self._take() or (bool(blocking) and self.baton.wait(self._take, None if timeout < 0 else timeout))

    def _take(self) -> bool:
        free, self._held = not self._held, True
        return free

    def release(self):
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held = False

    def locked(self):
        return self._held

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()

    def _at_fork_reinit(self):
        self._held = False

    def __repr__(self):
        return f"<{'locked' if self._held else 'unlocked'} _thread.lock object at {id(self):#x}>"


def reports(baton, owner, names, tell, own_code: bool = False) -> None:
    """Has methods report what they did, by `tell(result, *arguments)`, once they have done it.

    What they call in turn reports nothing. `own_code`: only where the program's own code is the caller.
    """
    for name in names.split():
        setattr(owner, name, _reporting(baton, getattr(owner, name), tell, own_code))


def _reporting(baton, original, tell, own_code: bool):
    thread = baton.thread

    @wraps(original)
    def call(*args, **kwargs):
        if thread.quiet or (own_code and not baton.own_code(1)):
            return original(*args, **kwargs)
        thread.quiet = True
        try:
            result = original(*args, **kwargs)
        finally:
            thread.quiet = False
        tell(result, *args, **kwargs)
        return result

    return call


def replace_primitives(baton, trace) -> None:
    """To be called before `threading` is imported. `trace()` switches tracing on in a new thread."""
    thread, start, Lock.baton = baton.thread, _thread.start_new_thread, baton

    def start_new_thread(function, args, kwargs={}):  # noqa: B006
        owner = getattr(function, "__self__", None)
        task = baton.spawn("thread", getattr(owner, "name", None) or function.__name__)
        if owner is not None:
            owner._task = task
            vars(owner._started)[MARK] = None  # how a thread starts is nobody's message

        def run():
            thread.ident = identity(task)
            baton.attach(task, "t")
            try:
                trace()
                function(*args, **kwargs)
            finally:
                sys.settrace(None)
                if thread.sentinel is not None and thread.sentinel.locked():
                    thread.sentinel.release()
                baton.detach()

        baton.start(task, start, run, ())
        return identity(task)

    def set_sentinel():
        thread.sentinel = Lock()
        return thread.sentinel

    _thread.allocate_lock = _thread.allocate = _thread.LockType = Lock
    _thread.start_new_thread = _thread.start_new = start_new_thread
    _thread._set_sentinel = set_sentinel
    _thread.get_ident = lambda: thread.ident
    _replace_clock(baton)


def identity(task: int) -> int:
    """A thread's identity: no address, but a number that is the same run after run, and of no two threads."""
    return 2 * task + 1 if task >= 0 else -2 * task


def _replace_clock(baton) -> None:
    for name in ("monotonic", "perf_counter"):
        setattr(time, name, baton.clock)
        setattr(time, f"{name}_ns", lambda: int(baton.clock() * 1e9))
    time.time = lambda: _EPOCH + baton.clock()
    time.time_ns = lambda: int((_EPOCH + baton.clock()) * 1e9)
    time.sleep = baton.sleep


def report_threads(baton, render) -> None:
    """Has what threads tell each other reported; to be called before the program runs."""
    import queue
    import threading
    from concurrent import futures

    baton.order(threading.Thread)
    # Those in Python are built on `Lock`; those in C are not.
    threading._CRLock = None
    threading._RLock.__module__ = "_thread"
    threading._RLock.__name__ = threading._RLock.__qualname__ = "RLock"
    queue.SimpleQueue = queue._PySimpleQueue
    queue.SimpleQueue.__name__ = queue.SimpleQueue.__qualname__ = "SimpleQueue"

    def send(of, key=0, *value):
        if baton.mark(of) is not None:
            baton.tell("send", baton.channel(of), type(of).__name__, key, *(render(item, "item") for item in value))

    def receive(of, key=0, latest=False):
        if baton.mark(of) is not None:
            baton.tell("receive", baton.channel(of), key, latest)

    def got(done, of, *_, **__):
        if done:
            receive(of, latest=True)

    def put(_, of, item, *__, **___):
        send(of, id(item), item)

    for kind in (queue.Queue, queue.SimpleQueue):
        reports(baton, kind, "put", put)
        reports(baton, kind, "get", lambda item, of, *_, **__: receive(of, id(item)))
    for kind in (Lock, threading._RLock):
        reports(baton, kind, "acquire __enter__", got, own_code=True)
        reports(baton, kind, "release __exit__", lambda _, of, *__: send(of), own_code=True)
    for kind in (threading.Semaphore, threading.BoundedSemaphore):
        reports(baton, kind, "release __exit__", lambda _, of, *__, **___: send(of))
    reports(baton, threading.Semaphore, "acquire __enter__", lambda done, of, *_, **__: done and receive(of))
    reports(baton, threading.Condition, "notify notify_all", lambda _, of, *__, **___: send(of))
    reports(baton, threading.Condition, "wait wait_for", got)
    reports(baton, threading.Event, "set", lambda _, of: send(of))
    reports(baton, threading.Event, "wait", got)
    reports(baton, futures.Future, "set_result", lambda _, of, result: send(of, 0, result))
    reports(baton, futures.Future, "set_exception", lambda _, of, error: send(of, 0, error))
    for name in ("result", "exception"):
        setattr(futures.Future, name, _awaited(baton, getattr(futures.Future, name), receive))
    _report_arrivals(baton, threading.Barrier, send, receive)
    join = threading.Thread.join

    def join_thread(of, timeout=None):
        join(of, timeout)
        if not of.is_alive() and (task := getattr(of, "_task", -1)) >= 0:
            baton.tell("join", task, None)

    threading.Thread.join = join_thread


def _awaited(baton, original, receive):
    @wraps(original)
    def wait(of, timeout=None):
        try:
            return original(of, timeout)
        finally:  # an exception is a result, too
            if of.done() and not baton.thread.quiet:
                receive(of, latest=True)

    return wait


def _report_arrivals(baton, barrier, send, receive) -> None:
    """Whoever arrives at a barrier tells those who come after it; whoever passes has heard from all."""
    wait = barrier.wait

    def wait_at(of, timeout=None):
        receive(of, latest=True)
        send(of)
        quiet, baton.thread.quiet = baton.thread.quiet, True
        try:
            result = wait(of, timeout)
        finally:
            baton.thread.quiet = quiet
        receive(of, latest=True)
        return result

    barrier.wait = wait_at
