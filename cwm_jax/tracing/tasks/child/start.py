"""Records programs whose tasks talk: the script that runs in each of their interpreters, on the standard library alone.

It is the program itself when no `task` is given; else a Python that the program has started, of which the words
after `--` say what it is to run.
"""

import atexit
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_PLAIN = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "child")
sys.path[:1] = [_HERE, _PLAIN]

from baton import Baton  # noqa: E402
from coroutines import report_coroutines, use_python_asyncio  # noqa: E402
from descriptors import replace_calls, replace_waits, wait_at_standard_pipes  # noqa: E402
from frames import Frames  # noqa: E402
from main import Recorder  # noqa: E402
from processes import replace_starts, report_processes  # noqa: E402
from threads import identity, replace_primitives, report_threads, reports  # noqa: E402
from values import Renderer, to_json  # noqa: E402


class Journal:
    """What the plain recorder writes to its journal, said to the parent."""

    def __init__(self, baton: Baton):
        self._baton = baton
        self.add = baton.say

    def note(self, record: str) -> None:
        self._baton.say(record)

    def drop_note(self) -> None:
        self._baton.say('["render","",""]')

    def rewind(self) -> None:
        """Nothing to go back to: one interpreter, one program."""

    def detach(self) -> None:
        """A copy introduces itself as another task."""


class TaskRecorder(Recorder):
    """Records one program, or one that it has started."""

    def __init__(self, baton: Baton, caps: dict):
        super().__init__(Journal(baton), -1, caps)
        self._baton = baton
        self._trace = None

    def install(self) -> None:
        """Puts what waits and reports into the place of what waits alone, before the program can import any of it."""
        render = Renderer(self._caps["max_value_chars"], self.journal, self.finish)
        self._render = render
        replace_primitives(self._baton, self.trace)
        replace_calls(self._baton)
        replace_starts(self._baton, self._command, {self._caps["control"], self._caps["context"]})
        use_python_asyncio()
        import site

        site.main()
        replace_waits(self._baton)
        report_threads(self._baton, render)
        report_processes(self._baton, render, reports)
        report_coroutines(self._baton, render, reports)
        for name, module in list(sys.modules.items()):
            if os.path.dirname(getattr(module, "__file__", None) or "") in (_HERE, _PLAIN) and name != "__main__":
                del sys.modules[name]
        del sys.path[:2]

    def trace(self) -> None:
        sys.settrace(self._trace)

    def run(self, context: str, stdin: bytes) -> None:
        """Runs the program, as far as its end."""
        self._entered = self._ended = False
        self.journal.add(f'["start","{".".join(map(str, sys.version_info[:3]))}",""]')
        module = self._prepare(context, stdin)
        atexit.register(self._report_output)  # first in, last out
        verdict, detail = self._run(context, module)
        if not self._ended:
            self._end(verdict, detail)

    def _report_output(self) -> None:
        self._streams.flush()
        if printed := self._streams.printed():
            self.journal.add(f'["print",{to_json(printed)},""]')

    def run_started(self, words: list[str], context: str) -> None:
        """Runs `-c CODE …` or `FILE …`."""
        wait_at_standard_pipes()
        self._start_tracing(None, [])
        module = type(sys)("__main__")
        module.__dict__["__builtins__"] = __builtins__
        spawned = "--multiprocessing-fork" in words
        if spawned:
            module.__dict__["__name__"] = "__mp_main__"
            sys.modules["__mp_main__"] = module
            sys.modules["__main__"] = module
            self._stop_tracing()
            exec(compile(context, "<context>", "exec", dont_inherit=True), module.__dict__)
            self.trace()
        sys.modules["__main__"] = module
        if words[0] == "-c":
            code, sys.argv, sys.path[:0] = words[1], ["-c", *words[2:]], [""]
        else:
            with open(words[0], encoding="utf-8") as file:
                code = file.read()
            module.__dict__["__file__"] = words[0]
            sys.argv, sys.path[:0] = words, [os.path.dirname(os.path.abspath(words[0]))]
        exec(compile(code, "<string>" if spawned else "<context>", "exec", dont_inherit=True), module.__dict__)

    def _start_tracing(self, entry, lines: list) -> None:
        self._trace = Frames(entry, self._baton, self._render, self._caps["max_depth"], self).on_call
        self._ours = True
        self.trace()
        self._ours = False

    def enter(self) -> None:
        self._entered = self._baton.recording = True

    def leave(self, verdict: str, error: type | None) -> None:
        if verdict == "raised" and issubclass(error, MemoryError):
            verdict = "memory_limit"
        self._end(verdict, "")
        self._baton.left = True

    def finish(self, verdict: str, detail: str = "") -> None:
        self._baton.say(f'["finish","{verdict}",{to_json(detail[:1000])}]')
        os._exit(0)

    def _end(self, verdict: str, detail: str) -> None:
        self._ended = True
        self.journal.add(f'["end","{verdict}",{to_json(detail[:1000])}]')

    def _forked(self) -> None:
        """`Baton.forked` says what a copy is."""

    def _command(self, task: int, options: list[str], words: list[str]) -> list[str]:
        settings = [f"{name}={value}" for name, value in (self._caps | {"task": task}).items()]
        return [sys.executable, *options, "-S", os.path.join(_HERE, "start.py"), *settings, "--", *words]


def main() -> None:
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    caps = {name: int(value) for name, value in (word.split("=") for word in sys.argv[1:cut])}
    task, words = caps.pop("task", 0), sys.argv[cut + 1 :]
    file = caps["context"]
    size = os.fstat(file).st_size
    context, stdin = os.pread(file, caps["stdin"], 0).decode(), os.pread(file, size, caps["stdin"])
    baton = Baton(caps["control"])
    recorder = TaskRecorder(baton, caps)
    baton.thread.ident = identity(task)
    recorder.install()
    if task:
        baton.recording = True
        baton.attach(task, "p")
        recorder.run_started(words, context)
    else:
        baton.attach(0, "p")
        os.dup2(1, 2)
        recorder.run(context, stdin)


main()
