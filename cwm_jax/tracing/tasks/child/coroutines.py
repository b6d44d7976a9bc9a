"""The tasks of asyncio: whose step runs, who started whom, and what one waited for.

asyncio is used in its Python form, which does the same as the one in C and can be watched.
"""

import sys


def use_python_asyncio() -> None:
    """To be called before asyncio is imported."""
    sys.modules["_asyncio"] = None


def report_coroutines(baton, render, reports) -> None:
    """Has the tasks of asyncio reported; to be called before the program runs."""
    import asyncio

    baton.order(asyncio.Future)
    woken = _Woken(baton)
    _report_steps(asyncio, baton, woken)
    _report_starts(asyncio, baton, woken)
    _report_results(asyncio, baton, render, reports)
    _report_groups(asyncio, woken)

    def put(_, queue, item):
        baton.tell("send", baton.channel(queue), type(queue).__name__, id(item), render(item, "item"))

    def got(item, queue):
        baton.tell("receive", baton.channel(queue), id(item), False)

    reports(baton, asyncio.Queue, "put_nowait", put)
    reports(baton, asyncio.Queue, "get_nowait", got)


def _report_steps(asyncio, baton, woken) -> None:
    """Whoever runs a step is the task that reports; and first it says what has woken it up."""
    thread, step, wakeup = baton.thread, asyncio.Task._Task__step, asyncio.Task._Task__wakeup
    await_result = asyncio.Future.__await__

    def run_step(self, *exception):
        before, thread.task = thread.task, getattr(self, "_number", thread.task)
        cause, thread.cause = thread.cause, None
        inside, thread.stepping = thread.stepping, True
        try:
            if (awaited := self.__dict__.pop("_awaited", None)) is not None:
                woken.by(awaited)
            step(self, *exception)
        finally:
            if self.done() and thread.task > 0:
                baton.tell("over")
            thread.task, thread.cause, thread.stepping = before, cause, inside

    def wake(self, future):
        self._awaited = future
        wakeup(self, future)

    def wait(self):
        if self.done() and thread.stepping:  # nobody needs to wake the task up
            woken.by(self)
        return (yield from await_result(self))

    wake.__qualname__ = "Task.task_wakeup"  # as asyncio in C calls it where a future prints whom it will call
    asyncio.Task._Task__step, asyncio.Task._Task__wakeup = run_step, wake
    asyncio.Future.__await__ = asyncio.Future.__iter__ = wait


def _report_starts(asyncio, baton, woken) -> None:
    loop = asyncio.BaseEventLoop
    create, until_complete = loop.create_task, loop.run_until_complete

    def create_task(self, coroutine, **kwargs):
        task = create(self, coroutine, **kwargs)
        name = f"{task.get_name()} ({getattr(coroutine, '__name__', 'coroutine')})"  # as threads are named
        # Before the entry is entered, whatever runs is the main task: it may be a coroutine itself.
        task._number = baton.spawn("asyncio", name, None, False) if baton.recording else baton.thread.task
        return task

    def run_until_complete(self, future):
        future = asyncio.ensure_future(future, loop=self)
        try:
            return until_complete(self, future)
        finally:
            if future.done():
                woken.by(future)

    loop.create_task, loop.run_until_complete = create_task, run_until_complete


def _report_results(asyncio, baton, render, reports) -> None:
    """A result that a task sets is a message; one that a callback sets has the cause of that callback."""
    thread, run, copy = baton.thread, asyncio.Handle._run, asyncio.futures._copy_future_state

    def result_set(_, future, value=None):
        if not thread.stepping:
            if thread.cause is not future:
                future._cause = thread.cause
        elif not isinstance(future, asyncio.Task):
            baton.tell("send", baton.channel(future), "Future", 0, render(value, "result"))

    def run_handle(self):
        first = self._args[0] if self._args else None
        thread.cause = first if isinstance(first, asyncio.Future) else None
        try:
            run(self)
        finally:
            thread.cause = None

    def copy_state(source, destination):
        quiet, thread.quiet = thread.quiet, True  # it is the loop that looks, no task
        copy(source, destination)
        thread.quiet = quiet
        destination._cause = source

    reports(baton, asyncio.Future, "set_result set_exception", result_set)
    asyncio.Handle._run, asyncio.futures._copy_future_state = run_handle, copy_state


class _Woken:
    """Reports what has woken a task up: the end of others, or a result that somebody set."""

    def __init__(self, baton):
        self._baton = baton

    def by(self, future) -> None:
        seen = []
        while future is not None and not any(future is other for other in seen):
            seen.append(future)
            if hasattr(future, "_number"):
                self.joined([future])
                return
            if hasattr(future, "_children"):  # of gather()
                for child in future._children:
                    self.by(child)
                return
            following = getattr(future, "_cause", None)
            if following is None:
                self._baton.tell("receive", self._baton.channel(future), 0, True)
            future = following

    def joined(self, tasks) -> None:
        for task in tasks:
            if task._number >= 0 and task._number != self._baton.thread.task:
                self._baton.tell("join", task._number, None)


def _report_groups(asyncio, woken) -> None:
    """What ends together is waited for by a future of asyncio's own, which the last of them resolves."""
    group_exit, group_done, wait = asyncio.TaskGroup.__aexit__, asyncio.TaskGroup._on_task_done, asyncio.tasks._wait

    def on_task_done(self, task):
        self.__dict__.setdefault("_ended", []).append(task)
        group_done(self, task)

    async def exit_group(self, *error):
        try:
            return await group_exit(self, *error)
        finally:
            woken.joined(self.__dict__.get("_ended", ()))

    async def wait_for_all(*args):
        done, pending = await wait(*args)
        woken.joined(task for task in done if hasattr(task, "_number"))
        return done, pending

    asyncio.TaskGroup.__aexit__, asyncio.TaskGroup._on_task_done = exit_group, on_task_done
    asyncio.tasks._wait = wait_for_all
