"""Records programs: the script that runs in the child interpreter, on the standard library alone.

It shares three files with its parent: the journal, the *request* pipe, from which it reads
how long the next program and its standard input are (both lie behind the journal), and the
*done* pipe, where it says with one byte that it is ready, for the first program and for each
that follows. It ends when the request pipe does.

A record of the journal is one line of JSON: `["start", python, ""]`, `[event, line, locals or
value]` for a frame (behind its locals its hidden state, where that is asked for), `["render",
what, ""]` while a `__repr__` runs, `["print", output, ""]` and `["end", verdict, detail]`.
"""

import builtins
import gc
import os
import resource
import sys
import types
from _thread import get_ident

from streams import Streams
from tracer import FILE_NAME
from values import Renderer, to_json

try:  # the same in C, where cwm_jax/tracing/native.py has built it
    from native import Journal, make_tracer
except ImportError:
    from journal import Journal
    from tracer import make_tracer

MARKER = "# << START_OF_TRACE"
OURS = {"native", "journal", "streams", "tracer", "values", "hidden", "aliases", "loops", "remaining", "stack"}
CO_OPTIMIZED, CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x1, 0x20, 0x80, 0x200


class Recorder:
    """Records one program after another into the journal."""

    def __init__(self, journal: Journal, done: int, caps: dict, make_tracer=make_tracer):
        self.journal = journal
        self._done = done
        self._caps = caps
        self._make_tracer = make_tracer
        self._streams = Streams()
        self._ours = True  # whether a call of sys.settrace is ours
        self._thread = get_ident()
        sys.addaudithook(self._guard)
        os.register_at_fork(after_in_child=self._forked)

    def record(self, context: str, stdin: bytes) -> None:
        """Runs one program and answers the parent."""
        self._entered = self._ended = False
        self.journal.rewind()
        self.journal.add(f'["start","{".".join(map(str, sys.version_info[:3]))}",""]')
        module = self._prepare(context, stdin)
        try:
            verdict, detail = self._run(context, module)
        except MemoryError:
            verdict, detail = "memory_limit", ""
        self._stop_tracing()
        if not self._ended:
            self._end(verdict, detail)
        module.__dict__.clear()
        self._streams.close()
        gc.collect()  # what this program leaves behind must not run its __del__ in the next trace

    def _prepare(self, context: str, stdin: bytes) -> types.ModuleType:
        """Puts the interpreter into the state in which every program starts."""
        used, limit = resource.getrusage(resource.RUSAGE_SELF), resource.getrlimit(resource.RLIMIT_CPU)[1]
        soon = int(used.ru_utime + used.ru_stime) + 1 + self._caps["cpu_seconds"]
        resource.setrlimit(resource.RLIMIT_CPU, (soon if limit == -1 else min(soon, limit), limit))
        # Our own callback runs on top of the program's calls; max_depth has to end those first.
        sys.setrecursionlimit(min(4 * self._caps["max_depth"] + 1000, 2**31 - 1))
        self._streams.open(stdin)
        sys.stderr = sys.__stderr__
        sys.argv = [""]
        if "random" in context or "random" in sys.modules:
            import random

            random.seed(0)
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        module.__dict__["__builtins__"] = builtins
        return module

    def _run(self, context: str, module: types.ModuleType) -> tuple:
        """Verdict and detail for a program whose entry was not left (else `leave` has given them already)."""
        lines = context.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        text = context.removeprefix("\ufeff")
        try:
            code = compile(text, FILE_NAME, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError) as error:
            return "syntax_error", describe(error)
        marked = {number for number, line in enumerate(lines, start=1) if line.rstrip().endswith(MARKER)}
        entry = next((function for function in functions(code) if not marked.isdisjoint(header(function))), None)
        if entry is None:
            return "entry_missing", "no function that the program can reach carries the start marker"
        if entry.co_flags & CO_COROUTINE:
            import asyncio  # noqa: F401, now, because tracing slows it down
        self._start_tracing(entry, lines)
        verdict, detail, name = "module_raised", "", entry.co_name
        try:
            exec(code, module.__dict__)
            verdict, detail = "entry_missing", f"the body of {name} was never entered"
            if not self._entered:
                call(module.__dict__.get(name), entry.co_flags)
        except MemoryError:
            raise
        except BaseException as error:  # SystemExit too
            detail = f"{name}() raised {describe(error)}" if verdict == "entry_missing" else describe(error)
        return ("unfinished", name) if self._entered else (verdict, detail)

    def _start_tracing(self, entry: types.CodeType, lines: list) -> None:
        render = Renderer(self._caps["max_value_chars"], self.journal, self.finish)
        sys.settrace(self._make_tracer(entry, lines, self._caps, render, self))
        self._ours = False

    def _stop_tracing(self) -> None:
        self._ours = True
        sys.settrace(None)

    def enter(self) -> None:
        self._entered = True

    def leave(self, verdict: str, error: type | None) -> None:
        self._stop_tracing()
        self._streams.flush()
        if verdict == "raised" and issubclass(error, MemoryError):
            verdict = "memory_limit"
        self._end(verdict, "")

    def _end(self, verdict: str, detail: str) -> None:
        self._ended = True
        if printed := self._streams.printed():
            self.journal.add(f'["print",{to_json(printed)},""]')
        self.journal.add(f'["end","{verdict}",{to_json(detail[:1000])}]')
        try:
            os.write(self._done, b".")
        except OSError:  # the program closed it, or this is a copy that it forked off: nobody waits here
            os._exit(0)

    def finish(self, verdict: str, detail: str = "") -> None:
        """Ends this process: a program that hit a cap cannot be relied on to let itself be stopped."""
        self._end(verdict, detail)
        os._exit(0)

    def _guard(self, event: str, args: tuple) -> None:
        if event == "sys.settrace" and not self._ours and get_ident() == self._thread:
            self.finish("trace_replaced")

    def _forked(self) -> None:
        self.journal.detach()
        self._done = -1
        self._ended = False  # so that the copy ends where it would answer


def functions(code: types.CodeType):
    """The code of every function inside `code`, outer ones first, in the order of the source."""
    for item in code.co_consts:
        if isinstance(item, types.CodeType):
            if item.co_flags & CO_OPTIMIZED and not item.co_name.startswith("<"):
                yield item
            yield from functions(item)


def header(code: types.CodeType) -> range:
    """The lines of a function from its first decorator to where its body starts."""
    first = code.co_firstlineno
    body = min((line for *_, line in code.co_lines() if line and line > first), default=first + 1)
    return range(first, body)


def call(function, flags: int) -> None:
    """Calls the entry without arguments; a coroutine is run, a generator run to its end."""
    if function is None:
        raise NameError("it is not a top-level function, and the program's own code never calls it")
    if flags & CO_ASYNC_GENERATOR:
        raise TypeError("an async generator cannot be the entry; mark an async function that iterates over it")
    result = function()
    if flags & CO_COROUTINE:
        import asyncio

        asyncio.run(result)
    elif flags & CO_GENERATOR:
        for _ in result:
            pass


def describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
    except BaseException:  # the program's own __str__ may do anything
        return "an exception that cannot be printed"


def main() -> None:
    settings = dict(word.split("=", 1) for word in sys.argv[1:])
    imports = settings.pop("imports").split(os.pathsep)
    settings = {name: int(value) for name, value in settings.items()}
    tracer_of = make_tracer
    if "places" in settings:  # one of the bounds of hidden state
        from hidden import make_tracer as tracer_of
    for name in {*sys.modules} & OURS:
        del sys.modules[name]
    del sys.path[0]
    sys.path += filter(None, imports)
    os.dup2(1, 2)
    files = [settings.pop(name) for name in ("journal", "request", "done")]
    capacity = settings.pop("capacity")
    recorder = Recorder(Journal(files[0], capacity), files[2], settings, tracer_of)
    gc.freeze()
    os.write(files[2], b".")
    while len(request := os.read(files[1], 16)) == 16:
        context, stdin = (int.from_bytes(half, "little") for half in (request[:8], request[8:]))
        recorder.record(os.pread(files[0], context, capacity).decode(), os.pread(files[0], stdin, capacity + context))


if __name__ == "__main__":
    main()
