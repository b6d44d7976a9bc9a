import io
import os
import pty
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.report.progress import LINE_EVERY, Pace, plain_lines


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.floats(0.01, 30), st.integers(1, 50)), min_size=1, max_size=60), st.integers(0, 10**6))
def test_the_start_changes_neither_rate_nor_time_left(work, start):
    clock = Clock()
    total = sum(units for _, units in work) + 1000
    fresh, resumed = Pace(total, "steps", 0, clock), Pace(start + total, "steps", start, clock)
    for seconds, units in work:
        clock.now += seconds
        fresh.update(fresh.done + units, "")
        resumed.update(resumed.done + units, "")
        assert resumed.rate == pytest.approx(fresh.rate)
        assert resumed.left == pytest.approx(fresh.left)


@given(st.floats(0.2, 40), st.integers(1, 9), st.integers(2, 50))
def test_steady_work_is_foretold(seconds, units, times):
    clock = Clock()
    pace = Pace(1000, "steps", 0, clock)
    for done in range(1, times + 1):
        clock.now += seconds
        pace.update(done * units, "")
    assert pace.rate == pytest.approx(units / seconds)
    assert pace.left == pytest.approx((1000 - times * units) * seconds / units)
    clock.now += 1  # time goes on between updates
    assert pace.left == pytest.approx((1000 - times * units) * seconds / units - 1)


def test_a_slow_start_is_forgotten():
    clock = Clock()
    pace = Pace(10_000, "steps", 0, clock)
    clock.now += 300  # compilation
    for done in range(1, 101):
        clock.now += 1
        pace.update(done, "")
    assert pace.rate == pytest.approx(1, rel=0.02)


@given(st.lists(st.floats(0, 25), max_size=40))
def test_plain_lines_are_ten_seconds_apart(pauses):
    clock, stream, times = Clock(), io.StringIO(), []
    with plain_lines("work", Pace(len(pauses), "items", 0, clock), stream, clock) as shown:
        for pause in pauses:
            clock.now += pause
            before = stream.tell()
            shown()
            if stream.tell() > before:
                times.append(clock.now)
    assert all(later - earlier >= LINE_EVERY for earlier, later in zip([100.0, *times], times, strict=False))
    assert not sum(pauses) >= 2 * LINE_EVERY or "work: " in stream.getvalue()


def test_a_line_says_it_all():
    clock = Clock()
    pace = Pace(4000, "steps", 1000, clock)
    clock.now += 10
    pace.update(1100, "loss 1.23")
    assert pace.describe() == "1,100/4,000 steps, 10/s, 4:50 left, loss 1.23"
    assert Pace(None, "tokens", 0, clock).describe() == "0 tokens"


PIPED = """
import cwm_jax.report.progress as module
module.LINE_EVERY = 0.0
with module.progress("outer", total=2, unit="sets", start=1) as outer:
    with module.progress("inner", total=3) as inner:
        inner.update(done=2, note="loss 1.5")
    outer.update(done=2)
    print("result")
with module.progress("next", total=1) as bar:
    raise SystemExit(3)
"""


def test_pipes_get_plain_lines_and_stdout_stays_clean():
    done = subprocess.run([sys.executable, "-c", PIPED], capture_output=True, text=True, env=plain_environment())
    assert done.stdout == "result\n" and done.returncode == 3
    assert "\x1b" not in done.stderr and "\r" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("inner: 2/3") and lines[0].endswith("loss 1.5")
    assert [line.split(": ")[0] for line in lines] == ["inner", "inner", "outer", "outer", "next"]
    assert lines[-1].startswith("next: stopped at 0/1")


def plain_environment() -> dict:
    return {**os.environ, "TERM": "xterm", "COLUMNS": "100"}


ON_TERMINAL = """
import time
from cwm_jax.report.progress import progress
with progress("first", total=2, unit="steps") as bar:
    bar.update(done=2)
with progress("outer", total=2) as outer:
    with progress("inner", total=3) as inner:
        inner.update(done=3)
        time.sleep(0.3)
    outer.update(done=1, note="ready")
    time.sleep(0.3)
    WAIT
"""


def run_on_terminal(script: str, interrupt_after: str = "") -> tuple[str, int]:
    """What the script writes to its terminal, and its exit status; Ctrl-C once it has written `interrupt_after`."""
    leader, follower = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", script], stdin=follower, stdout=follower, stderr=follower,
                             env=plain_environment(), start_new_session=True)  # fmt: skip
    os.close(follower)
    output = ""
    while True:
        try:
            output += os.read(leader, 65536).decode(errors="replace")
        except OSError:  # the child is gone
            break
        if interrupt_after and interrupt_after in output:
            child.send_signal(signal.SIGINT)
            interrupt_after = ""
    os.close(leader)
    return output, child.wait()


def test_a_terminal_gets_nested_bars():
    output, status = run_on_terminal(ON_TERMINAL.replace("WAIT", ""))
    assert status == 0
    assert "2/2 steps" in output and "inner" in output and "1/2" in output
    assert "inner" not in output[output.rindex("outer") :], "an inner bar goes when it ends"
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h") == 2


def test_ctrl_c_leaves_the_terminal_clean():
    output, status = run_on_terminal(ON_TERMINAL.replace("WAIT", "time.sleep(60)"), interrupt_after="ready")
    assert status == -signal.SIGINT and "KeyboardInterrupt" in output
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l"), "the cursor is shown again"
