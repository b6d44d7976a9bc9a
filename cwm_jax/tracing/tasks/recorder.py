"""Records programs that use threads, asyncio, multiprocessing or subprocess: every task, in one causal order.

One task runs at a time, in a schedule drawn from a seed (see `conductor.py`), on a clock of its own that stands while
somebody runs and leaps where all of them wait. So one program and one seed give one run, and a deadlock shows at once.

Recorded are the frames of the context's code in every thread, asyncio task, fork and spawn of `multiprocessing` and
`os.fork`, and of what `sys.executable` runs with `-c` or from a file. What is started otherwise (other programs,
`python -m`, the fork server) is a task without frames that ends with its status.

Not deterministic, so record twice and compare (runs are equal or not): programs that wait for unrecorded processes;
process ids outside of bubblewrap; `datetime.now`; `id`. No messages, though in
order: bytes through sockets, `asyncio.Event` and the like where nobody waits. Blocking calls that pass
by Python's `os`, selectors and `socket` (`fcntl.lockf`, a lock in C) hold everybody up until `wall_seconds`.
"""

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

from cwm_jax import sandbox
from cwm_jax.sandbox import Isolation
from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.language import plain_text
from cwm_jax.tracing.recorder import Limits, caps_of
from cwm_jax.tracing.tasks.conductor import Conductor, Over
from cwm_jax.tracing.tasks.log import Log
from cwm_jax.tracing.tasks.run import TaskRun
from cwm_jax.tracing.verdicts import death

_CHILD = Path(__file__).parent / "child"
_PLAIN_CHILD = Path(__file__).parents[1] / "child"
_EXIT_SECONDS = 5


def record_tasks(
    context: str,
    limits: Limits = Limits(),  # noqa: B008
    isolation: Isolation = Isolation.BUBBLEWRAP,
    stdin: str = "",
    seed: int = 0,
) -> TaskRun:
    """The run of one program and of all tasks that it starts.

    Args:
      context: source text in which one `def` line ends in `  # << START_OF_TRACE`.
      limits: caps on the run; those on frames and characters hold for all tasks together, `max_depth` for each;
        `processes` bounds the threads and processes at once.
      isolation: how far to keep the program from the machine.
      stdin: what the program reads as its standard input.
      seed: of the schedule: who runs when, among those that can.

    Returns:
      A run whose `verdict` is `returned` or `raised` if the entry was left and the program came to its end, or else
      the cap or fault that cut it short: `deadlock` where every task waits for another.

    Raises:
      ValueError: a control token stands in the context, or this Python is too new for it.
      SandboxMissing: the tools for `isolation` are not installed.
    """
    plain_text(context, "the context", st.TASK_TOKEN_PATTERN)
    if sys.version_info >= (3, 13):
        raise ValueError("tasks are recorded on Python 3.11 and 3.12 only: threads start in another way since 3.13")
    log = Log(context, limits)
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        program = os.memfd_create("program")
        stack.callback(os.close, program)
        os.write(program, context.encode() + stdin.encode())
        files = {"control": theirs.fileno(), "context": program}
        settings = files | {"stdin": len(context.encode())} | caps_of(limits)
        argv = [sys.executable, "-s", "-S", str(_CHILD / "start.py"), *(f"{k}={v}" for k, v in settings.items())]
        readable = [*sandbox.python_paths(), str(_CHILD), str(_PLAIN_CHILD)]
        process = sandbox.Process(argv, limits, isolation, readable=readable, pass_fds=tuple(files.values()))
        stack.enter_context(process)
        theirs.close()
        conductor = Conductor(ours, seed, limits)
        stack.callback(conductor.close)
        try:
            if not conductor.start():
                process.kill()
                raise sandbox.SandboxError(f"the child interpreter does not start: {process.errors()}")
            for record in conductor.run():
                log.add(record)
            status = process.wait(_EXIT_SECONDS)
            ending = ("killed", "") if status is None else death(status)
        except Over as over:
            ending = over.args
        return log.run(ending)
