"""Being asked to stop: SIGTERM, as schedulers send before they take a machine away, and Ctrl-C."""

import gc
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import jax
from jax.experimental import multihost_utils

_MOMENT = 0.02  # seconds after which a signal that came amid garbage collection comes again


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, and nothing is lost.

    Attributes:
      status: what the process should exit with: 0 after SIGTERM, because a scheduler takes anything else for a failed
        job; 130 after Ctrl-C, as shells and scripts expect.
    """

    def __init__(self, received: signal.Signals, where: str):
        name = "SIGTERM" if received is signal.SIGTERM else "Ctrl-C"
        super().__init__(f"stopped by {name} {where}")
        self.status = 0 if received is signal.SIGTERM else 130


def leave(stopped: Stopped, call: Sequence[str]) -> int:
    """Says how to go on, and ends this process; the status is returned where processes that train together part first.

    Args:
      stopped: what came of the signal.
      call: the verb that was stopped, and its arguments.
    """
    print(f"{stopped}; go on with: {shlex.join(['python', '-m', 'cwm_jax', *call])}", file=sys.stderr)
    if not jax.distributed.is_initialized():
        sys.stderr.flush()
        os._exit(stopped.status)  # a thread may still be in the compiler, which crashes if the interpreter goes
    return stopped.status


class StopSignals:
    """While this context lasts, SIGTERM and Ctrl-C raise `Stopped`; inside `held` they wait to be asked for.

    A second Ctrl-C does not wait. With several processes JAX's own notifier has SIGTERM, and all agree on the step.
    """

    def __init__(self):
        self._received: signal.Signals | None = None
        self._held = False
        self._before = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread() and not jax.distributed.is_initialized():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._held and _collects_garbage(frame):  # what is raised there is printed and lost
            threading.Timer(_MOMENT, os.kill, (os.getpid(), number)).start()
            return
        again, self._received = self._received is not None, signal.Signals(number)
        if not self._held:
            raise Stopped(self._received, "while it took no steps; what was finished before is kept")
        if again and number == signal.SIGINT:
            raise Stopped(self._received, "twice; the newest checkpoint stands")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Signals are only noted, for `requested`."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def requested(self, step: int) -> signal.Signals | None:
        """The signal that asks to stop after `step`; to be called after every step. The same on all processes.

        The one place where processes agree on when to stop: JAX's coordination service names a step that none of them
        has passed yet.
        """
        if jax.distributed.is_initialized() and multihost_utils.reached_preemption_sync_point(step):
            self._received = signal.SIGTERM
        return self._received


def _collects_garbage(frame: FrameType | None) -> bool:
    """Whether this frame is a callback of the garbage collector, as JAX has one, or called by one."""
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame and frame.f_code not in callbacks:
        frame = frame.f_back
    return frame is not None
