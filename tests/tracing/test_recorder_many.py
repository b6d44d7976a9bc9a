"""Many programs in one interpreter, and what is left of it afterwards: nothing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cwm_jax.tracing import Isolation, Limits, Recorder, record, record_many

TRUSTED = Isolation.LIMITS_ONLY


def test_a_program_that_ends_the_interpreter_takes_no_other_with_it():
    def program(body: str) -> str:
        return f"def main():  # << START_OF_TRACE\n    {body}\n"

    bodies = ["return 1", "import os; os._exit(7)", "return 2", "import sys; sys.settrace(None)", "return 3",
              "import os; os.closerange(3, 99)", "return 4", "sum(iter(int, 1))", "return 5",
              "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "return 6"]  # fmt: skip
    traces = list(record_many(map(program, bodies), Limits(wall_seconds=1.5), TRUSTED))
    verdicts = [trace.verdict for trace in traces]
    assert verdicts[1::2] == ["exited", "trace_replaced", "returned", "timeout", "crashed"]
    assert [trace.frames[-1].value for trace in traces[::2]] == list("123456")


def test_what_happens_after_the_entry_returned_is_not_blamed_on_the_next_program():
    tail = ["import os; os._exit(1)", "raise SystemExit", "main()", "1 / 0", "sum(iter(int, 1))"]
    tail += ["pass"]
    programs = [f"def main():  # << START_OF_TRACE\n    return {i}\nmain()\n{code}\n" for i, code in enumerate(tail)]
    traces = list(record_many(programs, Limits(wall_seconds=1.5), TRUSTED))
    assert [(trace.verdict, trace.frames[-1].value) for trace in traces] == [("returned", c) for c in "012345"]


def test_a_copy_that_a_program_forks_off_takes_no_program_from_the_others():
    source = "import os\ndef main():  # << START_OF_TRACE\n    return os.getpid()\nmain()\n"
    traces = list(record_many([source, source + "os.fork()\n", *[source] * 4], Limits(wall_seconds=3), TRUSTED))
    assert len({trace.frames[-1].value for trace in traces}) == 1, "no interpreter had to be replaced"


def test_what_a_program_leaves_behind_does_not_run_in_the_next_trace():
    leaves = (
        "class A:\n    def __del__(self):\n        self.n = 1\nkept = A()\nkept.me = kept\n"
        "def main():  # << START_OF_TRACE\n    return 1\n"
    )
    collects = "import gc, sys\ndef main():  # << START_OF_TRACE\n    gc.collect()\n    return 'kept' in globals()\n"
    _, trace = record_many([leaves, collects], isolation=TRUSTED)
    assert [(frame.event, frame.line) for frame in trace.frames] == [
        ("call", 2),
        ("line", 3),
        ("line", 4),
        ("return", 4),
    ]
    assert trace.frames[-1].value == "False"


def test_a_long_context_and_a_long_trace_after_short_ones():
    short = "def main():  # << START_OF_TRACE\n    return 1\n"
    long = short + "# padding\n" * 200_000
    loop = "def main():  # << START_OF_TRACE\n    for i in range(4_000):\n        i\n"
    traces = list(record_many([short, long, loop, short], Limits(max_trace_chars=10_000_000), TRUSTED))
    assert [len(trace.frames) for trace in traces] == [3, 3, 8_003, 3]


def test_contexts_are_read_one_ahead_and_no_further():
    asked = []

    def contexts():
        for number in range(9):
            asked.append(number)
            yield f"def main():  # << START_OF_TRACE\n    return {number}\n"

    traces = record_many(contexts(), isolation=TRUSTED)
    assert [next(traces).frames[-1].value for _ in range(3)] == ["0", "1", "2"]
    assert asked == [0, 1, 2, 3]
    traces.close()


def test_a_reader_who_takes_his_time_loses_no_trace():
    source = "def main():  # << START_OF_TRACE\n    return 1\n"
    traces = record_many([source] * 3, Limits(wall_seconds=0.5), TRUSTED)
    verdicts = []
    for trace in traces:
        verdicts.append(trace.verdict)
        time.sleep(0.7)
    assert verdicts == ["returned"] * 3


def test_nothing_is_left_behind():
    def state() -> tuple[set[str], set[str]]:
        here = Path("/proc/self")
        children = {child for task in here.glob("task/*/children") for child in task.read_text().split()}
        return {path.name for path in (here / "fd").iterdir()}, children

    record("def main():  # << START_OF_TRACE\n    return 1\n")  # whatever opens once opens now
    before = len(state()[0]), state()[1]
    for isolation in Isolation:
        record("import os\nos.fork()\ndef main():  # << START_OF_TRACE\n    return 1\n", isolation=isolation)
        record("def main():  # << START_OF_TRACE\n    sum(iter(int, 1))\n", Limits(wall_seconds=0.5), isolation)
    assert (len(state()[0]), state()[1]) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("isolation", Isolation)
def test_the_end_of_the_parent_is_the_end_of_the_child(isolation, number):
    script = (
        "from cwm_jax.tracing import record, Isolation\n"
        "source = 'def main():  # << START_OF_TRACE\\n    sum(iter(int, 1))\\n'\n"
        f"record(source, isolation=Isolation.{isolation.name})\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, cwd=root) as parent:
        wait_until(lambda: any(map(is_running_the_program, descendants(parent.pid))))
        children = descendants(parent.pid)
        parent.send_signal(number)
        assert parent.wait(timeout=8) != 0
        assert (b"KeyboardInterrupt" in parent.stderr.read()) == (number == signal.SIGINT)
    wait_until(lambda: not any(map(command, children)))


def wait_until(true, seconds: float = 8) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for file in Path(f"/proc/{pid}").glob("task/*/children"):
        for child in map(int, file.read_text().split()):
            found |= {child} | descendants(child)
    return found


def command(pid: int) -> str:
    """The command line of a process; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def is_running_the_program(pid: int) -> bool:
    """An interpreter that has used more processor time than it takes to start."""
    try:
        used = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
    except OSError:
        return False
    return command(pid).startswith(sys.executable) and used > 20  # hundredths of a second


@pytest.mark.parametrize("isolation", [TRUSTED, Isolation.BUBBLEWRAP])
def test_a_recorder_gives_what_record_gives_whatever_came_before(isolation):
    bodies = ["return 1", "import os; os._exit(7)", "return 2", "return 3"]
    programs = [f"def main():  # << START_OF_TRACE\n    {body}\n" for body in bodies]
    alone = [record(program, isolation=isolation) for program in programs]
    with Recorder(isolation=isolation) as recorder:
        for number in (0, 1, 2, 3, 1, 1, 0):
            assert recorder.record(programs[number]) == alone[number]


def test_a_recorder_keeps_its_interpreter_under_limits_alone():
    source = "import os\ndef main():  # << START_OF_TRACE\n    return os.getpid()\n"
    with Recorder(isolation=TRUSTED) as recorder:
        assert len({recorder.record(source).frames[-1].value for _ in range(3)}) == 1
