"""The shell, in real sandboxes: what stays from command to command, and what comes of those that misbehave (T11)."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from cwm_jax.sandbox import Limits, SandboxError
from cwm_jax.sandbox.shell import MOST_OUTPUT, Ended, Shell

ROOT = Path(__file__).parents[2]
SECONDS = 60.0  # for what ends by itself


@pytest.fixture
def shell():
    with Shell({"a.txt": "one\n", "folder/b.txt": "zwö\n"}) as shell:
        yield shell


def said(shell, command, seconds=SECONDS):
    output = shell.run(command, seconds)
    assert output.ended is None, output
    return output.text


def namespaces():
    """Of processes, of the sandboxes that this process has started."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):  # it has just ended
                for inside in Path(f"/proc/{child}/task/{child}/children").read_text().split():
                    found.add(os.readlink(f"/proc/{inside}/ns/pid"))
    return found - {os.readlink("/proc/self/ns/pid")}


def count(namespace):
    """How many processes live there."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found += os.readlink(process / "ns/pid") == namespace
    return found


def assert_gone(namespace):
    deadline = time.monotonic() + 30
    while count(namespace):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_session_keeps_its_state(shell):
    assert said(shell, "pwd; cat a.txt folder/b.txt") == "/sandbox\none\nzwö\n"
    assert said(shell, "cd folder\nexport X=3\nf() {\n  echo f$1\n}") == ""
    assert said(shell, "pwd; echo $X; f 2") == "/sandbox/folder\n3\nf2\n"
    assert said(shell, "sleep 60 & echo $! >pid") == ""
    assert said(shell, "kill $(cat pid) && echo killed") == "killed\n"


def test_status_errors_and_an_empty_input(shell):
    assert shell.run("(exit 7)", SECONDS) == ("", 7, None)
    assert shell.run("echo wrong >&2; false", SECONDS) == ("wrong\n", 1, None)
    assert shell.run("cat; read x || echo nothing", SECONDS) == ("nothing\n", 0, None)
    assert shell.run("if", SECONDS).status == 2
    assert shell.run("", SECONDS) == ("", 0, None)
    assert said(shell, "python3 -c 'print(1 + 1)'") == "2\n"


def test_what_a_command_does_to_its_files_and_options_is_its_own_affair(shell):
    assert said(shell, "exec >/dev/null 2>&1; exec </dev/zero; echo lost") == ""
    assert said(shell, "echo there; cat") == "there\n"
    assert said(shell, "set -x; true").endswith("true\n")
    assert said(shell, "set +x; set").count("\0") == 0
    forged = "printf '\\0%s 0\\0' 00000000000000000000000000000000"
    assert said(shell, f"{forged}; echo more") == f"\0{'0' * 32} 0\0more\n"


def test_bytes_of_all_kinds(shell):
    assert said(shell, r"printf 'a\xff\xfeb\0c\xc3'") == "a\ufffd\ufffdb\0c\ufffd"
    assert said(shell, "echo 'ü\0x'; echo '\ud800'") == "üx\n?\n"
    assert said(shell, f"x='{'y' * 300_000}'; echo ${{#x}}") == "300000\n"
    assert len(said(shell, f"head -c {MOST_OUTPUT} /dev/zero")) == MOST_OUTPUT


def test_what_the_background_says_comes_with_the_next_command(shell):
    said(shell, "(sleep 0.2; echo late) &")
    assert said(shell, "wait; echo now") == "late\nnow\n"


FAULTS = {
    "hang": ("sleep 1000", 0.5, Ended.TIME),
    "busy": ("while :; do :; done", 0.5, Ended.TIME),
    "deaf": ("trap '' TERM INT HUP; exec sleep 1000", 0.5, Ended.TIME),
    "detached": ("setsid sleep 1000 & disown; setsid sleep 1000", 0.5, Ended.TIME),
    "closes its output": ("eval 'exec '{0..30}'>&-;'; sleep 1000", 1.0, Ended.TIME),
    "gigabyte": ("head -c 1000000000 /dev/zero", SECONDS, Ended.FLOOD),
    "endless": ("yes", SECONDS, Ended.FLOOD),
    "one byte too many": (f"head -c {MOST_OUTPUT + 1} /dev/zero; sleep 1000", SECONDS, Ended.FLOOD),
    "fork bomb": ("bomb() { bomb | bomb & }; bomb; sleep 1000", 2.0, Ended.TIME),
    "exit": ("exit 3", SECONDS, Ended.DEATH),
    "exit with company": ("sleep 1000 & exit 0", SECONDS, Ended.DEATH),
    "kills its shell": ("kill -9 $$", SECONDS, Ended.DEATH),
    "kills all": ("sleep 1000 & python3 -c 'import os; os.kill(-1, 9)'; exit", SECONDS, Ended.DEATH),
    "crash": ("kill -SEGV $$", SECONDS, Ended.DEATH),
    "strict": ("set -e; false", SECONDS, Ended.DEATH),
    "replaced": ("exec true", SECONDS, Ended.DEATH),
}


@pytest.mark.parametrize("command, seconds, reason", FAULTS.values(), ids=FAULTS)
def test_a_fault_ends_the_session_and_leaves_nothing_running(shell, command, seconds, reason):
    said(shell, "cd folder; X=1; echo new >c.txt")
    (namespace,) = namespaces()
    assert count(namespace)
    text, status, ended = shell.run(command, seconds)
    assert (ended, status) == (reason, None) and len(text) <= MOST_OUTPUT
    assert_gone(namespace)
    assert said(shell, "pwd; echo [$X]; cat folder/c.txt") == "/sandbox\n[]\nnew\n"


def test_a_program_that_crashes_ends_alone(shell):
    assert shell.run("python3 -c 'import ctypes; ctypes.string_at(0)'", SECONDS).status == 139
    assert said(shell, "echo on") == "on\n"


def test_files_outlive_a_session_as_far_as_they_are_safe(shell):
    said(shell, """
        printf '#!/bin/sh\\necho ran' >folder/run; chmod +x folder/run; printf '\\377\\0' >bytes; rm a.txt
        ln -s /etc/ld.so.cache link; ln -s / root; mkfifo pipe; truncate -s 40M sparse1 sparse2
        mkdir -p $(printf 'd/%.0s' {1..100}); (cd $(printf 'd/%.0s' {1..100}); touch deep); touch $'z\\xff'
    """)  # fmt: skip
    assert shell.run("exit", SECONDS).ended is Ended.DEATH
    files = shell.files()
    assert files["folder/run"].endswith(b"echo ran") and files["bytes"] == b"\xff\0" and "sparse1" in files
    assert not files.keys() & {"a.txt", "link", "pipe", "sparse2"}
    assert all(not path.startswith(("root", "d/")) for path in files)
    assert said(shell, "folder/run; ls link 2>&1 | wc -l; test -e a.txt || echo gone") == "ran\n1\ngone\n"
    assert shell.files() == files


def test_small_files_do_not_outgrow_the_next_session():
    with Shell(limits=Limits(file_mb=1)) as shell:
        shell.run("for i in {1..5000}; do echo $i >$i || break; done; exit", SECONDS)
        assert 200 < len(shell.files()) <= 257  # 4 KiB each, and one that found no room
        assert said(shell, "ls | wc -l").strip() == str(len(shell.files()))


def test_files_are_told_before_the_first_command_and_without_one():
    shell = Shell({"a": "x"})
    assert shell.files() == {"a": b"x"} and not namespaces()
    shell.close()
    with pytest.raises(SandboxError, match="closed"):
        shell.run("true", SECONDS)


def test_who_closes_does_not_wait_for_a_command(shell):
    said(shell, "true")
    (namespace,) = namespaces()
    found = []
    thread = threading.Thread(target=lambda: found.append(shell.run("sleep 1000", 1000)))
    thread.start()
    time.sleep(0.2)
    shell.close()
    thread.join(60)
    assert found[0].ended is Ended.DEATH
    assert_gone(namespace)


def test_a_session_outlives_the_thread_that_began_it(shell):
    thread = threading.Thread(target=lambda: said(shell, "X=1"))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert said(shell, "echo $X") == "1\n"


def test_nothing_stays_open(shell):
    said(shell, "true")
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        shell.run("exit", SECONDS)
        said(shell, "true")
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", ""])
def test_files_lie_in_the_working_folder(path):
    with pytest.raises(ValueError, match="relative path"):
        Shell({path: ""})


def test_files_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"Limits\.file_mb"):
        Shell({"a": "x" * (1 << 20), "b": "x"}, Limits(file_mb=1))


def test_a_sandbox_that_does_not_start_is_no_output():
    with Shell(readable=("/no/such/path",)) as shell, pytest.raises(SandboxError, match="/no/such/path"):
        shell.run("true", SECONDS)


NOBODY = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are run by an ordinary user already")
def test_an_ordinary_user_gets_the_same_shell():
    if subprocess.run([*NOBODY, "unshare", "-U", "true"], capture_output=True).returncode:
        pytest.skip("ordinary users may not make namespaces here")
    python = "/usr/bin/python3"
    if subprocess.run([python, "-c", "from enum import StrEnum"], capture_output=True).returncode:
        pytest.skip("needs a Python that an ordinary user can reach")
    script = """
from cwm_jax.sandbox.shell import Shell
with Shell({"a": "x"}) as shell:
    print(shell.run("echo y >b; cat a; exit", 60).ended.name, shell.run("cat b; id -u", 60).text.split())
"""
    with tempfile.TemporaryDirectory() as folder:  # which such a user can read, as it cannot this checkout
        package = Path(folder) / "cwm_jax" / "sandbox"
        shutil.copytree(ROOT / "cwm_jax" / "sandbox", package, ignore=shutil.ignore_patterns("__pycache__"))
        (package.parent / "__init__.py").touch()
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [*NOBODY, python, "-B", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120
        )
    assert done.stdout == "DEATH ['y', '54321']\n", done.stdout + done.stderr
