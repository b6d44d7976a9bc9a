"""A shell that keeps its state from command to command, inside bubblewrap, and gets a successor when it ends."""

import contextlib
import io
import itertools
import os
import re
import secrets
import select
import stat
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import PurePosixPath
from typing import NamedTuple

from cwm_jax.sandbox.command import Isolation
from cwm_jax.sandbox.limits import Limits
from cwm_jax.sandbox.process import Process, SandboxError

LIMITS = Limits(wall_seconds=120, cpu_seconds=120, memory_mb=4096, processes=128, file_mb=64)
MOST_OUTPUT = 480 << 10  # bytes of a command (CWM, facts §6.8)
_STARTING = 60.0  # seconds; it takes hundredths of one, unless the machine is very busy
_MOST_FILES, _DEEPEST, _LONGEST = 10_000, 32, 1000  # of those that are kept: how many, folders and bytes of a path
_PAGE = 4096  # bytes; a file takes whole ones

# Commands come on standard input, each after a mark that nobody can guess, which is said again when it is done. The
# NUL before it is something that no variable holds, so that `set` does not show what looks like an end.
# Bash is given other files for each command, and its own back afterwards: `exec >file` does not mislay the next end.
_LOOP = r"""
tar --extract --touch --file=- <&"$1" || exit
eval "exec $1<&-"
export PATH="$2:$PATH"
set --
exec 3>&1 >/dev/null 2>&1
while IFS= read -r -d '' __mark && IFS= read -r -d '' __command; do
    eval "$__command" </dev/null >&3 2>&3 3>&-
    printf '\0%s %d\0' "$__mark" $? >&3
done
"""


class Ended(StrEnum):
    """Why a session is over."""

    TIME = "timeout"
    DEATH = "terminated unexpectedly"
    FLOOD = "too much output"


class Output(NamedTuple):
    """What came of a command.

    Attributes:
      text: what it wrote, to standard output and error alike; what is not UTF-8 shows as U+FFFD.
      status: its exit status; None if the session ended first.
      ended: why the session ended, None if it goes on.
    """

    text: str
    status: int | None = None
    ended: Ended | None = None


class _File(NamedTuple):
    path: str
    content: bytes
    mode: int = 0o644


class Shell:
    """Bash, in sessions: one begins with the first command, and another with the first after it ended.

    Within a session variables, the current folder and processes in the background stay. A session that ends takes all
    its processes with it; the next one begins in the working folder, with the files that were there, and nothing else.

    Commands are one at a time; `close` may be called meanwhile. A context manager.

    Args:
      files: texts by path, relative to the working folder, in which they are at first.
      limits: of a session; its `wall_seconds` are not used, since each command has its own.
      readable: paths to show, read-only and at the same place.

    Raises:
      ValueError: a path is absolute, or leads out of the working folder; or the files are more than a session keeps.
    """

    def __init__(self, files: Mapping[str, str] = {}, limits: Limits = LIMITS, readable: tuple[str, ...] = ()):
        for path in files:
            parts = PurePosixPath(path).parts
            if not parts or parts[0] == "/" or ".." in parts:
                raise ValueError(f"files: {path!r} does not lie in the working folder; write a relative path")
        self._files = [_File(path, text.encode()) for path, text in files.items()]
        if len(_fitting(iter(self._files), limits)) < len(files):
            raise ValueError(f"files: more than {limits.file_mb} MiB or {_MOST_FILES} files; raise Limits.file_mb")
        self._limits, self._readable = limits, readable
        self._session: _Session | None = None
        self._closed = False
        self._lock = threading.Lock()
        # A sandbox dies with the thread that starts it, and who calls may be of any.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="shell")

    def run(self, command: str, seconds: float) -> Output:
        """Runs a command, one line or many, whose standard input is empty.

        What processes in the background wrote since the last one comes first.

        Args:
          command: for bash; NULs, which it cannot take, are left out.
          seconds: after which the session ends.

        Raises:
          SandboxMissing: the tools of the sandbox are not installed.
          SandboxError: the sandbox did not start, or this shell is closed.
        """
        with self._lock:
            if self._session is None and not self._closed:
                self._session = self._starter.submit(_Session, self._files, self._limits, self._readable).result()
            if self._closed:  # maybe just now
                raise SandboxError("this shell is closed")
            output = self._session.run(command, seconds)
            if output.ended:
                self._session.process.kill()
                self._files = self._session.files()
                self._end()
            return output

    def files(self) -> dict[str, bytes]:
        """The files of the working folder by path: as many as are kept, neither links nor what cannot be read."""
        with self._lock:
            files = self._session.files() if self._session else self._files
            return {file.path: file.content for file in files}

    def close(self) -> None:
        """Ends the session, and a command that runs."""
        self._closed = True
        if session := self._session:
            session.process.kill()
        with self._lock:
            self._end()
            self._starter.shutdown()

    def _end(self) -> None:
        if self._session:
            self._session.close()
            self._session = None

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Session:
    """One bash in one sandbox.

    Args:
      files: of its working folder.
      limits, readable: as of `Shell`.

    Attributes:
      process: the sandbox.
    """

    def __init__(self, files: list[_File], limits: Limits, readable: tuple[str, ...]):
        self._limits = limits
        self._before = b""  # said after the last end
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as theirs:
            given = theirs.enter_context(_packed(files)).fileno()
            asked, self._ask = os.pipe()
            self._said, said = os.pipe()
            for keeper, end in ((stack, self._ask), (stack, self._said), (theirs, asked), (theirs, said)):
                keeper.callback(os.close, end)
            os.set_blocking(self._ask, False)
            argv = ["/bin/bash", "-c", _LOOP, "bash", str(given), f"{sys.base_prefix}/bin"]
            self.process = stack.enter_context(
                Process(argv, limits, Isolation.BUBBLEWRAP, readable=(sys.base_prefix, *readable), pass_fds=(given,),
                        stdin=asked, stdout=said)
            )  # fmt: skip
            theirs.close()  # what it says ends when it ends
            if (first := self.run("", _STARTING)).ended:
                self.process.kill()
                raise SandboxError(f"the shell does not start ({first.ended}): {self.process.errors()}")
            self._folder = self.process.working_folder()
            stack.callback(os.close, self._folder)
            self._stack = stack.pop_all()

    def run(self, command: str, seconds: float) -> Output:
        """As `Shell.run`; once it has ended it may not be called again."""
        until = time.monotonic() + seconds
        mark = secrets.token_hex(16).encode()
        left = b"\0".join([mark, command.replace("\0", "").encode(errors="replace"), b""])
        end = re.compile(b"\0" + mark + rb" (\d+)\x00")
        text, self._before = bytearray(self._before), b""
        poll = select.poll()
        poll.register(self._ask, select.POLLOUT)
        for file in (self._said, self.process.exit_fd):
            poll.register(file, select.POLLIN)
        while (now := time.monotonic()) < until:
            ready = dict(poll.poll((until - now) * 1000))
            if self._ask in ready:
                with contextlib.suppress(BrokenPipeError):  # it has ended, as will be seen
                    left = left[os.write(self._ask, left) :]
                if not left or not ready[self._ask] & select.POLLOUT:
                    poll.unregister(self._ask)
            if self._said in ready:
                if not (data := os.read(self._said, 1 << 16)):
                    return _output(text, Ended.DEATH)
                text += data
                done = end.search(text, max(0, len(text) - len(data) - len(mark) - 8))
                if (done.start() if done else len(text)) > MOST_OUTPUT:
                    return _output(text, Ended.FLOOD)
                if done:
                    self._before = bytes(text[done.end() :])
                    return Output(_decoded(text[: done.start()]), int(done[1]))
            elif self.process.exit_fd in ready:  # all that it said is read
                return _output(text, Ended.DEATH)
        return _output(text, Ended.TIME)

    def files(self) -> list[_File]:
        """What the working folder holds, which nobody may trust to hold still."""
        return _fitting(_walk(self._folder, self._limits.file_mb << 20), self._limits)

    def close(self) -> None:
        self._stack.close()


def _output(said: bytearray, ended: Ended) -> Output:
    return Output(_decoded(said[:MOST_OUTPUT]), None, ended)


def _decoded(said: bytes) -> str:
    return said.decode(errors="replace")


def _fitting(files: Iterator[_File], limits: Limits) -> list[_File]:
    """The first files, as many as a working folder holds for sure."""
    found, room = [], limits.file_mb << 20
    for file in itertools.islice(files, _MOST_FILES):
        if (room := room - -(-len(file.content) // _PAGE) * _PAGE) < 0:
            break
        found.append(file)
    return found


def _packed(files: list[_File]) -> io.FileIO:
    """An archive without a name."""
    memory = os.fdopen(os.memfd_create("files"), "w+b", buffering=0)
    with tarfile.open(fileobj=memory, mode="w") as archive:
        for path, content, mode in files:
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    memory.seek(0)
    return memory


def _walk(folder: int, most: int, path: str = "", depth: int = 0) -> Iterator[_File]:
    """Files of at most so many bytes, one name at a time, so that no link leads out and no pipe holds it up."""
    for name in sorted(os.listdir(folder)):
        try:
            item = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except OSError:
            continue
        try:
            about = os.fstat(item)
            if len(os.fsencode(path + name)) > _LONGEST:
                continue
            if stat.S_ISDIR(about.st_mode) and depth < _DEEPEST:
                yield from _walk(item, most, f"{path}{name}/", depth + 1)
            elif stat.S_ISREG(about.st_mode) and about.st_size <= most:
                with open(item, "rb", closefd=False) as file:
                    yield _File(path + name, file.read(most + 1), stat.S_IMODE(about.st_mode))
        finally:
            os.close(item)
