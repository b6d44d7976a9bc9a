"""Passes the baton: which task of a program runs, when its clock goes on, and when nothing can go on any more.

The tasks speak to us over sockets of their own, line by line, in JSON; only who holds the baton speaks. Each has one
for as long as it lives, so that its death, too, is noticed. The schedule is drawn from a seed: whom the baton goes to,
among those that may be able to go on, and for how many lines.
"""

import json
import math
import os
import random
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from cwm_jax.tracing.recorder import Limits

_GRANT = struct.Struct("=dqI")
_CHUNK = 1 << 16
_LONGEST_TURN = 24  # lines: our choice, so that some tasks of a few lines are interrupted and some are not
_START_SECONDS = 30
_KILL_SECONDS = 5
_SLACK = 1 << 19  # of one record, beyond the whole trace: its last values as JSON
_NAP = 0.005  # seconds between two looks at what processes that nobody records may have done


class Over(Exception):
    """The run is over: `args` are verdict and detail."""


@dataclass
class _Task:
    """A thread of a process.

    Attributes:
      name: for people.
      connection: where it speaks; None until it has introduced itself.
      waits: whether it tries something over and over; `tried`, when it did so last, in steps of progress.
      deadline: until when, on the program's clock.
      outsiders: whether its process waits for processes that nobody records.
      process: a pidfd, where it is the first thread of its process.
    """

    name: str
    connection: socket.socket | None = None
    waits: bool = False
    tried: int = -1
    deadline: float | None = None
    outsiders: bool = False
    process: int | None = None
    unread: bytes = field(default=b"", repr=False)


class Conductor:
    """Runs the tasks of one program by turns.

    Args:
      control: the socket on which tasks introduce themselves.
      seed: of the schedule.
      limits: its time, how many tasks may be open at once, and how long what they say may be.
    """

    def __init__(self, control: socket.socket, seed: int, limits: Limits):
        self._control, self._limits = control, limits
        self._max_line = limits.max_trace_chars + _SLACK
        self._deadline = time.monotonic() + _START_SECONDS
        self._random = random.Random(seed)
        self._tasks: dict[int, _Task] = {0: _Task("the main task")}
        self._clock, self._progress = 0.0, 0
        self._shown = self._hidden = 0  # numbers given so far

    def start(self) -> bool:
        """Waits until the main task has introduced itself; whether it has."""
        try:
            self._meet(0)
        except Over:
            return False
        self._deadline = time.monotonic() + self._limits.wall_seconds
        return True

    def run(self) -> Iterator[list]:
        """Yields the records of the run, in the order in which things happened.

        Of a spawned task the record is `["spawn", parent, number, kind, name, code]`, and of one that has ended, or of
        a process that has, `["over", number]`. Raises `Over` when nothing goes on; the last task leaves without it.
        """
        while 0 in self._tasks:
            number = self._choose()
            task = self._tasks[number]
            if task.connection is None:
                self._meet(number)
            self._grant(task)
            yield from self._listen(number, task)

    def close(self) -> None:
        """Ends every process that is left."""
        processes = [task.process for task in self._tasks.values() if task.process is not None]
        for process in processes:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        self._deadline = time.monotonic() + _KILL_SECONDS
        with suppress(Over):
            for process in processes:
                self._await(process)
        for process in processes:
            os.close(process)
        for task in self._tasks.values():
            if task.connection is not None:
                task.connection.close()
        self._tasks = {}

    def _choose(self) -> int:
        while True:
            able = [number for number, task in self._tasks.items() if self._may_go_on(task)]
            if able:
                return self._random.choice(able)
            if any(task.outsiders for task in self._tasks.values()):
                time.sleep(_NAP)
                self._check_time()
                self._clock += _NAP
                self._progress += 1
                continue
            deadlines = [task.deadline for task in self._tasks.values() if task.deadline is not None]
            if not deadlines:
                names = ", ".join(task.name for task in self._tasks.values())
                raise Over("deadlock", names)
            self._clock = min(deadlines)

    def _may_go_on(self, task: _Task) -> bool:
        late = task.deadline is not None and task.deadline <= self._clock
        return not task.waits or task.tried != self._progress or late

    def _meet(self, number: int) -> None:
        """Waits until the task has introduced itself."""
        while self._tasks[number].connection is None:
            self._await(self._control)
            words, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
            try:
                task = self._tasks[int(words[1:])]
                task.connection = socket.socket(fileno=descriptors[0])
                pid = struct.unpack("iII", task.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
                if pid == os.getpid():  # it sent us a socket of our own
                    raise ValueError("no task of the program")
                task.process = os.pidfd_open(pid) if words[:1] == b"p" else None
            except (ValueError, LookupError, OSError):
                raise Over("corrupted", "") from None

    def _listen(self, number: int, task: _Task) -> Iterator[list]:
        """The records of a task until it passes the baton on."""
        while (line := self._line(task)) is not None:
            try:
                record = json.loads(line)
                kind = record[0]
                if kind == "spawn":
                    yield self._spawn(task, *record[1:])
                elif kind == "gone":
                    self._tasks.pop(record[1], None)
                    yield ["over", record[1]]
                elif kind in ("wait", "ready"):
                    self._passed(task, *record)
                    return
                else:
                    yield record
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                raise Over("corrupted", "") from None
        self._ended(number, task)
        yield ["over", number]

    def _spawn(self, parent: _Task, spawner: int, kind: str, name: str, code: str | None, attached: bool, hidden: bool):
        if hidden:
            self._hidden -= 1
        else:
            self._shown += 1
        number = self._hidden if hidden else self._shown
        if attached:
            self._tasks[number] = _Task(name)
            if len(self._tasks) > self._limits.processes:
                raise Over("task_limit", "")
        self._grant(parent, number)
        return ["spawn", spawner, number, kind, name, code]

    def _passed(self, task: _Task, how: str, now: float, deadline: float | None, fresh: bool, outsiders: bool) -> None:
        if not all(math.isfinite(seconds or 0.0) for seconds in (now, deadline)):
            raise ValueError("no time")
        self._clock = max(self._clock, now)
        if fresh:
            self._progress += 1
        task.waits, task.tried, task.deadline, task.outsiders = how == "wait", self._progress, deadline, outsiders

    def _ended(self, number: int, task: _Task) -> None:
        task.connection.close()
        if task.process is not None:  # gone for its parent, too, before that looks
            self._await(task.process)
            os.close(task.process)
        del self._tasks[number]
        self._progress += 1

    def _grant(self, task: _Task, answer: int = 0) -> None:
        turn = 0 if answer else self._random.randint(1, _LONGEST_TURN)
        with suppress(OSError):  # it has ended: its silence will say so
            task.connection.sendall(_GRANT.pack(self._clock, answer, turn))

    def _line(self, task: _Task) -> bytes | None:
        """The next record; None if the task has ended."""
        while b"\n" not in task.unread:
            if len(task.unread) > self._max_line:
                raise Over("corrupted", "")
            self._await(task.connection)
            try:
                data = task.connection.recv(_CHUNK)
            except OSError:
                data = b""
            if not data:
                return None
            task.unread += data
        line, _, task.unread = task.unread.partition(b"\n")
        return line

    def _await(self, file) -> None:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        if not poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000):
            raise Over("timeout", "")

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise Over("timeout", "")
