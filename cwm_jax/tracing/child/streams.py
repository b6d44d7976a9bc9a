"""Standard input and output of one program after another: each has its own, whatever the one before did to them."""

import os
import sys
from contextlib import suppress

MOST_OUTPUT = 1 << 16  # bytes that are kept of what a program prints: our choice, more than a contest's answers need


class Streams:
    """New files in memory behind descriptors 0 and 1, and a new `sys.stdin` and `sys.stdout` over them.

    Files and not pipes, as under `python program.py <input >output`: nobody has to feed or to drain
    them, and what an earlier program or its forked copies still hold are other files.
    """

    def __init__(self):
        self._output = -1

    def open(self, stdin: bytes) -> None:
        """Gives the next program its input and an empty output."""
        while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:  # a number that the program before closed
            pass
        os.close(spare)
        source = os.memfd_create("stdin")
        os.write(source, stdin)
        os.lseek(source, 0, os.SEEK_SET)
        os.dup2(source, 0)
        os.close(source)
        self._output = os.memfd_create("stdout")
        os.dup2(self._output, 1)
        sys.stdin = sys.__stdin__ = _text(0, "r", "<stdin>")
        sys.stdout = sys.__stdout__ = self._stdout = _text(1, "w", "<stdout>")

    def flush(self) -> None:
        """As the interpreter does at its end: runs the program's own code where it put something else there."""
        with suppress(BaseException):
            sys.stdout.flush()

    def printed(self) -> str:
        """The start of what the program has printed; empty if it took our hold on its output away."""
        with suppress(Exception):  # closed, detached, or stopped in the middle of a write
            self._stdout.flush()
        try:
            return os.pread(self._output, MOST_OUTPUT, 0).decode("utf-8", "replace")
        except OSError:
            return ""

    def close(self) -> None:
        """What the program printed last goes to its own output before the next one has its own."""
        sys.stdin = sys.stdout = sys.__stdin__ = sys.__stdout__ = self._stdout = None
        with suppress(OSError):
            os.close(self._output)


def _text(file: int, mode: str, name: str):
    """A text stream as CPython makes its own under Linux, name included: traces show it."""
    text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
    stream = open(file, mode, closefd=False, **text)  # noqa: SIM115
    stream.buffer.raw.name = name
    return stream
