"""The baton: of all threads of all processes of a program, the one that holds it runs, and the others wait.

The parent (see `conductor.py`) passes it on when its holder waits for something, has used up its turn, or ends. So
waiting is trying, and passing the baton on until it works; and as nobody else runs meanwhile, what a task has just
done cannot have been seen by another before it is written down.
"""

import _socket
import json
import os
import struct
import sys
from _thread import _local

FILE_NAME = "<context>"
MARK = "mark of the recorder"
GRANT = struct.Struct("=dqI")  # the clock, the answer to a question, what its turn is worth
_write, _read, _exit = os.write, os.read, os._exit  # before they are replaced by what waits
_TICK = 1e-6  # seconds that pass with each look at the clock, so that waiting for a time by looking comes to an end


class _Thread(_local):
    """What a thread knows of itself.

    Attributes:
      socket: its connection to the parent.
      base: number of its task.
      ident: what `threading.get_ident` answers.
      task: number of the task that it works for: its own, or that of an asyncio task. Below zero: nobody reports it.
      turn: lines and attempts until it passes the baton on.
      quiet: whether it is inside an operation that is reported as a whole.
      stepping: whether it runs a step of an asyncio task.
      spawning: kind and name of the process that it is about to start.
      cause: the future whose callback it runs.
      sentinel: the lock that tells `threading` that it has ended.
    """

    socket = spawning = cause = sentinel = None
    base = task = turn = 0
    ident = 1
    quiet = stepping = False


class Baton:
    """The connections of this process's tasks.

    Attributes:
      control: descriptor on which tasks introduce themselves.
      thread: see `_Thread`.
      recording: whether the entry has been entered.
      left: whether it has been left: what its task does after that is no part of the run.
      now: the clock of the program, in seconds. It stands while somebody runs.
      outsiders: processes that nobody records, started here and not waited for yet.
    """

    def __init__(self, control: int):
        self.control = control
        self.thread = _Thread()
        self.recording = self.left = False
        self.now = 0.0
        self.outsiders: set[int] = set()
        self._sockets: list = []
        self._marks = self._process = 0

    def attach(self, task: int, kind: str) -> None:
        """Introduces this thread (`kind` t) or process (p) as a task, and waits for its first turn."""
        mine, theirs = _socket.socketpair()
        control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, os.dup(self.control))
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", theirs.fileno()))
        control.sendmsg([f"{kind}{task}".encode()], [rights])
        control.close()
        theirs.close()
        self._sockets.append(mine)
        self.thread.socket = mine
        self.thread.base = self.thread.task = task
        if kind == "p":
            self._process = task
        self._receive()

    def detach(self) -> None:
        """This thread ends; the baton goes on."""
        self._sockets.remove(self.thread.socket)
        self.thread.socket.close()

    def forked(self, task: int) -> None:
        """This process is a copy: what it inherited belongs to the original."""
        for socket in self._sockets:
            socket.close()
        self._sockets, self.outsiders = [], set()
        self.attach(task, "p")

    def say(self, record: str) -> None:
        data = record.encode() + b"\n"
        file = self.thread.socket.fileno()
        try:
            while data:
                data = data[_write(file, data) :]
        except OSError:  # the parent has gone, or the program closed it
            _exit(1)

    def tell(self, *record: object) -> None:
        """Reports what the current task does."""
        if self.recording and (task := self.task()) >= 0:
            self.say(json.dumps([record[0], task, *record[1:]]))

    def task(self) -> int:
        """Number of the task that runs; below zero if nobody reports what it does."""
        task = self.thread.task
        return -1 if task == 0 and self.left else task

    def spawn(self, kind: str, name: str, code: str | None = None, attached: bool = True) -> int:
        """Announces a task; its number. `attached`: it will introduce itself."""
        hidden = self.thread.quiet or self.task() < 0
        self.say(json.dumps(["spawn", self.task(), kind, str(name), code, attached, hidden]))
        return self._receive()

    def start(self, task: int, begin, *args):
        """`begin(*args)`, which makes the announced task; if it cannot, there is none."""
        try:
            return begin(*args)
        except BaseException:
            self.say(f'["gone",{task}]')
            raise

    def wait(self, attempt, timeout: float | None = None) -> bool:
        """Passes the baton on until `attempt()` is true, or false for `timeout` seconds of the program's clock."""
        self.spend()  # library code, too, may look at something over and over
        if attempt():
            return True
        deadline = None if timeout is None else self.now + max(0.0, timeout)
        fresh = True
        while deadline is None or self.now < deadline:
            self._pass("wait", deadline, fresh)
            fresh = False
            if attempt():
                return True
        return False

    def spend(self) -> None:
        """A line has been recorded, or something is about to be tried: a part of this thread's turn is over."""
        self.thread.turn -= 1
        if self.thread.turn <= 0:
            self._pass("ready", None, True)

    def sleep(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        if seconds:
            self.wait(lambda: False, seconds)
        else:
            self._pass("ready", None, True)

    def clock(self) -> float:
        self.now += _TICK
        return self.now

    def own_code(self, depth: int) -> bool:
        return sys._getframe(depth + 1).f_code.co_filename == FILE_NAME

    def channel(self, value: object) -> str:
        """What tells a lock, a queue … from all others that this process can see; copies made by a fork are others."""
        return f"{self._process}/{self.mark(value)}"

    def mark(self, value: object) -> str:
        """What tells a value from all others of all processes, but not from the copies that forks make of it."""
        notes = value.__dict__ if hasattr(value, "__dict__") else value.notes
        if MARK not in notes:
            self._marks += 1
            notes[MARK] = f"{self.thread.base}.{self._marks}"
        return notes[MARK]

    def order(self, kind: type) -> None:
        """Has sets of such objects stand in one order, run after run, and not in that of their addresses."""
        kind.__hash__ = lambda value: hash(self.mark(value))

    def _pass(self, how: str, deadline: float | None, fresh: bool) -> None:
        self.say(json.dumps([how, self.now, deadline, fresh, bool(self.outsiders)]))
        self._receive()

    def _receive(self) -> int:
        try:
            data = _read(self.thread.socket.fileno(), GRANT.size)
        except OSError:
            data = b""
        if len(data) != GRANT.size:  # the run is over
            _exit(1)
        now, answer, turn = GRANT.unpack(data)
        self.now = max(self.now, now)
        self.thread.turn = turn or self.thread.turn
        return answer
