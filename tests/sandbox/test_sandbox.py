"""The sandbox, from inside: what a program can reach and how much of it, as root and as an ordinary user."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from cwm_jax.sandbox import Isolation, Limits, Process, SandboxMissing, python_paths

ROOT = Path(__file__).parents[2]


def run(source: str, limits: Limits = Limits(), isolation: Isolation = Isolation.BUBBLEWRAP):  # noqa: B008
    """Exit status, what a program wrote to its one open file, and its standard error."""
    ours, theirs = os.pipe()
    argv = [sys.executable, "-c", f"import os\nout = {theirs}\n" + textwrap.dedent(source)]
    try:
        with Process(argv, limits, isolation, readable=python_paths(), pass_fds=(theirs,)) as process:
            os.close(theirs)
            status = process.wait(limits.wall_seconds)
            process.kill()
            with open(ours, "rb", closefd=False) as file:
                return status, file.read().decode(), process.errors()
    finally:
        os.close(ours)


def test_there_is_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
            import socket
            try:
                socket.create_connection(('127.0.0.1', {port}), 2)
                os.write(out, b'reached')
            except OSError:
                os.write(out, b'refused')
        """
        assert run(code)[1] == "refused"
        assert run(code, isolation=Isolation.LIMITS_ONLY)[1] == "reached", "the test can tell"


def test_the_system_is_read_only_and_the_rest_of_the_machine_is_not_there(tmp_path):
    (tmp_path / "secret").write_text("secret")
    status, written, _ = run(f"""
        def attempt(path):
            try:
                with open(path, 'w') as file:
                    file.write('x')
                return 'written'
            except OSError as error:
                return type(error).__name__
        places = ['/usr/x', '/x', '/etc/x', '/dev/x', '/bin/x', {str(ROOT / "x")!r}]
        os.write(out, ' '.join(map(attempt, places)).encode())
        hidden = [{str(tmp_path / "secret")!r}, '/etc/passwd', '/home', '/var']
        os.write(out, str(list(map(os.path.exists, hidden))).encode())
    """)
    assert status == 0
    assert "written" not in written and written.endswith("[False, False, False, False]")
    assert not (ROOT / "x").exists()


@pytest.mark.parametrize("isolation", Isolation)
def test_the_working_folder_is_writable_and_thrown_away(isolation):
    code = """
        assert os.listdir('.') == []
        open('x', 'w').write('y')
        assert os.environ['HOME'] == os.getcwd()
        os.write(out, os.getcwd().encode())
    """
    status, folder, errors = run(code, isolation=isolation)
    assert status == 0, errors
    assert not (Path(folder) / "x").exists()
    assert (folder == "/sandbox") == (isolation is Isolation.BUBBLEWRAP)


def test_the_environment_holds_nothing_of_ours(monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    for isolation in Isolation:
        assert "SECRET" not in run("os.write(out, str(dict(os.environ)).encode())", isolation=isolation)[1]


def test_no_right_over_the_machine_remains():
    code = """
        attempts = [lambda: os.setuid(0), lambda: os.chroot('/usr'), lambda: os.chown('/tmp', 0, 0)]
        attempts.append(lambda: os.kill(1, 9))
        for attempt in attempts:
            try:
                attempt()
                os.write(out, b'done ')
            except OSError:
                os.write(out, b'refused ')
    """
    status, written, _ = run(code)
    assert (status, written.split()[:3]) == (0, ["refused"] * 3)
    assert len(written.split()) == 4, "the first process of the sandbox cannot be killed from inside"


@pytest.mark.parametrize("isolation", Isolation)
def test_limits_on_memory_file_size_and_time(isolation):
    memory = run(
        "try:\n    bytearray(300 << 20)\nexcept MemoryError:\n    os.write(out, b'no')",
        Limits(memory_mb=256),
        isolation,
    )
    assert memory[1] == "no"
    file = run(
        "try:\n    open('f', 'wb').write(b'x' * (2 << 20))\nexcept OSError:\n    os.write(out, b'no')",
        Limits(file_mb=1),
        isolation,
    )
    assert file[1] == "no"
    status, _, _ = run("while True: pass", Limits(cpu_seconds=1), isolation)
    assert status in (-signal.SIGXCPU, 128 + signal.SIGXCPU)
    status, _, _ = run("import time; time.sleep(60)", Limits(wall_seconds=0.5), isolation)
    assert status is None


def test_many_small_files_hit_the_limit_of_the_folder():
    for folder in ("/sandbox", "/tmp", "/dev/shm"):
        code = f"n = 0\ntry:\n    while n < 100:\n        open('{folder}/%d' % n, 'wb').write(b'x' * 100_000); n += 1\n"
        status, written, _ = run(code + "except OSError:\n    pass\nos.write(out, str(n).encode())", Limits(file_mb=1))
        assert status == 0 and 0 < int(written) <= 11


def test_processes_are_limited_and_their_number_is_the_sandbox_s_own():
    code = """
        n = 0
        try:
            while n < 50:
                if os.fork() == 0:
                    signal.pause()
                n += 1
        except OSError:
            pass
        os.write(out, f'{n} '.encode())
    """
    first = run("import signal\n" + textwrap.dedent(code), Limits(processes=8))
    second = run("import signal\n" + textwrap.dedent(code), Limits(processes=12))
    assert 0 < int(first[1]) < 8 <= int(second[1]) < 12


@pytest.mark.parametrize("isolation", Isolation)
def test_what_a_process_leaves_running_ends_with_it(isolation):
    status, pid, _ = run(
        "pid = os.fork()\nif pid:\n    os.write(out, b'x')\nelse:\n    import time; time.sleep(60)", isolation=isolation
    )
    assert (status, pid) == (0, "x"), "reading to the end of the file waits for every holder of it"


def test_a_process_closed_while_its_sandbox_is_set_up_leaves_nothing_running():
    seconds = f"1234.{os.getpid()}"  # a command line of its own
    for attempt in range(60):
        with Process(["/bin/sleep", seconds], Limits(), Isolation.BUBBLEWRAP):
            time.sleep(attempt / 3_000)

    def running() -> bool:
        words = ["pgrep", "--full", f"sleep {seconds}"]
        return subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0

    deadline = time.monotonic() + 5
    while running():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_that_is_closed_leaves_nothing_to_reap():
    """Bubblewrap's own child must be reaped by bubblewrap: the first process of a container often reaps nobody."""
    children = set()
    for _ in range(10):
        with Process(["/bin/sleep", "60"], Limits(), Isolation.BUBBLEWRAP) as process:
            process.wait(0.05)
            pid = re.search(r"^Pid:\s*(\d+)", Path(f"/proc/self/fdinfo/{process.exit_fd}").read_text(), re.MULTILINE)[1]
            children |= set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    assert children
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_a_missing_tool_names_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxMissing, match=r"apt-get install bubblewrap.*--unsafe"):
        Process(["true"], Limits(), Isolation.BUBBLEWRAP)
    with pytest.raises(SandboxMissing, match="apt-get install util-linux"):
        Process(["true"], Limits(), Isolation.LIMITS_ONLY)


@pytest.mark.parametrize(("field", "value"), [
    ("wall_seconds", 0), ("cpu_seconds", 1.5), ("memory_mb", -1), ("processes", "5"), ("file_mb", None),
    ("wall_seconds", float("inf")), ("processes", True),
])  # fmt: skip
def test_limits_that_are_none_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=re.escape(f"{field}={value!r}")):
        Limits(**{field: value})


NOBODY = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]


def user_namespaces() -> bool:
    return subprocess.run([*NOBODY, "unshare", "-U", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are run by an ordinary user already")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs a Python that an ordinary user can reach")
@pytest.mark.skipif(os.geteuid() == 0 and not user_namespaces(), reason="ordinary users may not make namespaces here")
def test_an_ordinary_user_gets_the_same_sandbox():
    script = """
import os
from cwm_jax.sandbox import Isolation, Limits, Process
ours, theirs = os.pipe()
shell = f"id -u >&{theirs}; touch /usr/x /x /dev/x /etc/x || ls /usr/x /x /dev/x /etc/x >&{theirs}; "
shell += f"touch /tmp/x && ulimit -u >&{theirs}"
argv = ["/bin/bash", "-c", shell]
with Process(argv, Limits(processes=9), Isolation.BUBBLEWRAP, pass_fds=(theirs,)) as process:
    print(process.wait(10), os.read(ours, 100).decode().split(), process.errors())
"""
    with tempfile.TemporaryDirectory() as folder:  # which such a user can read, as it cannot this checkout
        package = Path(folder) / "cwm_jax" / "sandbox"
        shutil.copytree(ROOT / "cwm_jax" / "sandbox", package, ignore=shutil.ignore_patterns("__pycache__"))
        (package.parent / "__init__.py").touch()
        Path(folder).chmod(0o755)
        words = [*NOBODY, "/usr/bin/python3", "-B", "-c", script]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("0 ['54321', '9']"), done.stdout + done.stderr
