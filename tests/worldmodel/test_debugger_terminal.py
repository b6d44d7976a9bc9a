"""The terminal's debugger: it stops where pdb stops, and says what pdb says."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from debugger_variants import Variants

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.debugger import Program, Session
from cwm_jax.worldmodel.debugger.terminal import Terminal
from cwm_jax.worldmodel.real import RealRun

ROOT = Path(__file__).parent.parent.parent
REAL = RealRun(Isolation.LIMITS_ONLY)
PLACE = re.compile(r"^(?:\(Pdb\) )?> .*?\((\w+)\)(\S+?)\(\)(->.*)?$", re.MULTILINE)

PROGRAM = """
def g(n):
    if n == 2:
        raise ValueError("no")
    return [k * n for k in (1, 2)]


def h(n):
    yield n
    yield n + 1


def f(xs):
    total = 0
    for x in xs:
        try:
            total += sum(g(x))
        except ValueError:
            total -= 1
    both = list(h(total))
    return total, both


def main():  # << START_OF_TRACE
    return f([1, 2, 3])
"""

PDB = """
import io, json, pdb, sys
sys.argv = ["program.py"]
names = {"__name__": "program"}
exec(compile(open(sys.orig_argv[-2]).read(), "program.py", "exec"), names)
said = []
for script in json.load(open(sys.orig_argv[-1])):
    out = io.StringIO()
    debugger = pdb.Pdb(stdin=io.StringIO("\\n".join([*script, "q"]) + "\\n"), stdout=out, nosigint=True, readrc=False)
    debugger.use_rawinput = False
    try:
        debugger.runcall(names["main"])
    except BaseException as error:
        if type(error).__name__ != "BdbQuit":
            raise
    said.append(out.getvalue())
print(json.dumps(said))
"""


def terminal_of(code=PROGRAM, predictor=REAL, **arguments):
    out = io.StringIO()
    terminal = Terminal(
        Session(Program.of_context(code), predictor, REAL), stdin=io.StringIO(), stdout=out, **arguments
    )
    out.truncate(0), out.seek(0)

    def say(*lines):
        out.truncate(0), out.seek(0)
        for line in lines:
            terminal.onecmd(line)
        return out.getvalue()

    return terminal, say


def test_it_stops_where_pdb_stops(tmp_path):
    """Random walks of step, next, until and return; our first frame is the call, pdb's the line behind it."""
    rng = Random(5)
    walks, expected = [], []
    for _ in range(40):
        terminal, say = terminal_of()
        walk, stops = [], PLACE.findall(say("step"))
        while not terminal._session.ended and len(walk) < 40:
            # pdb's `return` at a return means the caller's next line, ours its return
            choices = ["s", "n", "s", "unt"] + ["r"] * (terminal._session.at.event != "return")
            walk.append(rng.choice(choices))
            stops += PLACE.findall(say(walk[-1]))
        walks.append(walk), expected.append(stops)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "walks.json").write_text(json.dumps(walks))
    (tmp_path / "walk.py").write_text(PDB)
    done = subprocess.run(
        [sys.executable, tmp_path / "walk.py", tmp_path / "program.py", tmp_path / "walks.json"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for walk, ours, theirs in zip(walks, expected, json.loads(done.stdout), strict=True):
        assert ours == PLACE.findall(theirs), walk


def test_an_empty_line_repeats_and_q_leaves():
    terminal, _ = terminal_of()
    terminal.cmdqueue = ["s", "", "", "q"]
    terminal.cmdloop()
    assert len(terminal._session.frames) == 4


def test_looking_around():
    _, say = terminal_of()
    say("b g", "c", "s")
    assert say("w").splitlines()[-1] == "-> if n == 2:" and say("bt").count("->") == 3
    assert say("p n") == "1\n" and say("p n + 1") == "2\n" and say("[n, n]") == "[1, 1]\n"
    assert say("p") == "n = 1\n" and say("a") == "n = 1\n"
    assert "> program(17)f()" in say("u") and say("p total") == "0\n"
    assert "newest" in say("d", "d") and "oldest" in say("u", "u", "u")
    assert "  3  ->     if n == 2:" in say("c", "l") or "-> def g" in say("l .")
    assert say("ll").count("\n") == 4 and "def g" in say("ll")
    assert say("l 2, 4").count("\n") == 3 == say("l 2, 2").count("\n") + 2
    assert "step" in say("h") and "into calls" in say("h s") and "No help on nothing" in say("h nothing")


def test_breakpoints_are_set_listed_and_cleared():
    _, say = terminal_of()
    assert say("b 16, x > 1") == "Breakpoint 1 at line 16, if x > 1\n"
    assert say("tbreak g") == "Breakpoint 2 at line 2 (once)\n"
    assert say("b if total == 3") == "Breakpoint 3 anywhere, if total == 3\n"
    assert say("b").count("\n") == 3
    assert "Breakpoint 2\n" in say("c") and say("b").count("\n") == 2
    assert "Breakpoint 3\n" in say("c") and say("p total") == "3\n"
    assert say("cl 1", "cl") == "Deleted breakpoint 1\nDeleted breakpoint 3\n" and say("b") == ""
    for bad in ("b 999", "b 1", "b nowhere", "b 14, x ==", "cl 7"):
        assert say(bad).startswith("*** "), bad


def test_breakpoints_are_changed():
    _, say = terminal_of()
    say("b 16", "b if total == 3")
    assert say("condition 1 x > 1") == "Breakpoint 1 at line 16, if x > 1\n"
    assert say("disable 2") == "Breakpoint 2 anywhere, if total == 3 (disabled)\n"
    assert "Breakpoint 1\n" in say("c") and say("p x") == "2\n"
    assert say("condition 1", "b") == "Breakpoint 1 at line 16\n1 at line 16\n2 anywhere, if total == 3 (disabled)\n"
    say("reset")
    assert "Breakpoint 1\n" in say("c") and say("p x") == "1\n"
    say("disable 1", "enable 2")
    assert "Breakpoint 2\n" in say("c")
    for bad in ("condition 2", "condition 1 x >", "enable 7", "disable x"):
        assert say(bad).startswith("*** "), bad


def test_what_is_displayed_is_shown_where_it_changes():
    _, say = terminal_of()
    assert say("display total * 2") == "display total * 2: unknown here\n"
    _, say = terminal_of()
    say("b 15", "c", "display total")
    assert [line for line in say(*["n"] * 12).splitlines() if line.startswith("display")] == [
        "display total: 3",
        "display total: 2",
        "display total: 11",
    ]
    assert say("undisplay total", "n") and "*** " in say("undisplay total")


COUNTDOWN = "def f(n):\n    steps = 0\n    while n > 1:\n        n -= 2\n        steps += 1\n    return steps\n"


def test_what_if_and_verify():
    contexts = [wrap(COUNTDOWN, "f", str(n)) for n in (4, 6)]
    _, say = terminal_of(contexts[0], Variants(contexts))
    say("s", "s")
    assert "n = 6" in say("!n = n + 2", "p") and say("n") and "✗ frame 3" in say("verify")
    assert say("back 2", "p n").endswith("4   (100 %)\n")
    assert "returns 2 after" in say("futures 2") and "->2" in say("take 1")
    assert say("verify").startswith("✓ all ") and say("rv") == "2   (100 %)\n"
    assert "n = 6" in say("back", "set n 6", "p")
    assert "cannot jump to line 2" in say("back", "j 2") and "> program(7)f()" in say("s", "j 7")
    assert "! line" in say("frames 1")
    for bad in (
        "set n",
        "!n = zz",
        "take 9",
        "back 99",
        "j x",
        "futures x",
        "futures 0",
        "futures 999",
        "futures 1 1 -1",
    ):
        assert say(bad).startswith("*** "), bad


def debug(*arguments, commands="q\n"):
    return subprocess.run(
        [sys.executable, "-m", "cwm_jax", "debug", *map(str, arguments)],
        cwd=ROOT, input=commands, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_the_verb_on_a_function_of_a_file(tmp_path):
    (tmp_path / "one.py").write_text(COUNTDOWN)
    done = debug(f"{tmp_path}/one.py:f", "--args", "3", "--real", "--unsafe", commands="s\ns\nb 5\nc\np n\nc\nverify\n")
    assert done.returncode == 0, done.stderr
    assert "> one.py(start)main()" in done.stdout and "> one.py(5)f()" in done.stdout and "✓ all" in done.stdout


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["missing.py", "--real"], "missing.py"),
        ([], "name a program"),
        (["experiments/tiny/strawberry.py", "--checkpoint", "nowhere"], "nowhere"),
        (["experiments/tiny/strawberry.py", "--real", "--dap", "seven"], "write a port"),
    ],
)
def test_bad_calls_are_explained(arguments, complaint):
    done = debug(*arguments)
    assert done.returncode == 2 and complaint in done.stderr and "Traceback" not in done.stderr


def test_a_model_that_has_learnt_next_to_nothing_can_be_debugged_with(trained_run):
    commands = "s\ns\nn\np\nfutures 3\nfin\nverify\nback 2\nset c 'x'\nreset\nc\nq\n"
    done = debug("experiments/tiny/strawberry.py", "--checkpoint", trained_run, "--unsafe", commands=commands)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "--Call--" in done.stdout and "real run returned after 40 frames" in done.stdout
