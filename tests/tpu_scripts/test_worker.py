"""What runs on a worker: training that is interrupted goes on, a worker that goes away says that work is left.

A stand-in keeps the contract of `python -m cwm_jax train`: SIGTERM saves, says "stopped by SIGTERM" and exits 0;
the same call goes on from there.
"""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_cloud import ROOT

TRAIN = """#!{python}
import signal, sys, time
from pathlib import Path
assert sys.argv[1:4] == ["-m", "cwm_jax", "train"], sys.argv
saved = Path(sys.argv[sys.argv.index("--out") + 1])
step = int(saved.read_text()) if saved.exists() else 0
def stop(*_):
    saved.write_text(str(step))
    print(f"stopped by SIGTERM at step {{step}}, saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print(f"training: starts at step {{step}}")
while not Path("end").exists():
    step += 1
    time.sleep(0.01)
sys.exit(int(Path("end").read_text()))
"""


@pytest.fixture
def worker(project):
    """The project as it is on a worker that is set up."""
    root = project.root
    for name in ("requirements.txt", "requirements-tpu.txt"):
        (root / name).write_text(f"{name}\n")
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(TRAIN.format(python=sys.executable))
    python.chmod(stat.S_IRWXU)
    (root / ".venv" / ".requirements-tpu").write_text("requirements.txt\nrequirements-tpu.txt\n")
    started = []

    def start(script: str, *arguments: str) -> subprocess.Popen:
        command = [project.bin / "bash", f"tpu_scripts/worker/{script}.sh", *arguments]
        environment = {"PATH": str(project.bin)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        started.append(subprocess.Popen(command, cwd=root, env=environment, start_new_session=True, **pipes))
        return started[-1]

    start.root = root
    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def wait_for(condition, seconds: float = 30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def log(root: Path) -> str:
    return (root / "train.log").read_text() if (root / "train.log").exists() else ""


def test_sigterm_to_training_alone_goes_on_from_what_was_saved(worker):
    process = worker("train", "--gin_file=F", "--out", "saved")
    wait_for(lambda: "starts at step 0\n" in log(worker.root))
    os.kill(int((worker.root / "train.pid").read_text()), signal.SIGTERM)
    wait_for(lambda: log(worker.root).count("training: starts") == 2 and log(worker.root).endswith("\n"))
    step = (worker.root / "saved").read_text()
    assert f"stopped by SIGTERM at step {step}, " in log(worker.root)
    assert log(worker.root).endswith(f"saved; going on\ntraining: starts at step {step}\n")
    (worker.root / "end").write_text("0")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"training: starts at step {step}" in output.decode()


def test_sigterm_to_the_script_saves_and_says_that_work_is_left(worker):
    process = worker("train", "--gin_file=F", "--out", "saved")
    wait_for(lambda: "starts at step 0\n" in log(worker.root))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert (worker.root / "saved").exists() and log(worker.root).count("training: starts") == 1


def test_a_failure_is_not_tried_again(worker):
    (worker.root / "end").write_text("3")
    process = worker("train", "--gin_file=F", "--out", "saved")
    process.communicate(timeout=30)
    assert process.returncode == 3 and log(worker.root).count("training: starts") == 1


def test_a_worker_that_cannot_be_set_up_does_not_train(worker):
    (worker.root / "requirements-tpu.txt").write_text("other pins\n")  # and there is no python3 to install them
    process = worker("train", "--gin_file=F", "--out", "saved")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 127 and b"python3" in output and log(worker.root) == ""


def test_the_drill(worker):
    training = worker("train", "--gin_file=F", "--out", "saved")
    wait_for(lambda: "starts at step 0\n" in log(worker.root))
    old = (worker.root / "train.pid").read_text().strip()
    drill = worker("drill", "30")
    output = drill.communicate(timeout=60)[0].decode()
    new = (worker.root / "train.pid").read_text().strip()
    assert drill.returncode == 0 and new != old, output
    assert output.startswith(f"SIGTERM to {old}\n") and output.endswith(f"{new} goes on where {old} stopped\n")
    (worker.root / "end").write_text("0")
    training.communicate(timeout=30)
    drill = worker("drill", "30")
    assert b"nothing trains on this worker" in drill.communicate(timeout=60)[0] and drill.returncode == 1


def test_the_drill_fails_where_training_does_not_come_back(worker):
    training = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (worker.root / "train.pid").write_text(str(training.pid))
    (worker.root / "train.log").write_text("training: before\n")
    drill = worker("drill", "1")
    output, _ = drill.communicate(timeout=60)
    assert drill.returncode == 1 and b"training did not go on within 1 s" in output
    assert training.wait(timeout=30) == -signal.SIGTERM


def test_training_says_what_the_script_listens_for():
    preemption = pytest.importorskip("cwm_jax.training.preemption")
    said = str(preemption.Stopped(signal.SIGTERM, "at step 3"))
    listened_for = re.search(r'grep -c "(.*)"', (ROOT / "tpu_scripts/worker/train.sh").read_text())[1]
    assert listened_for in said


def test_a_bucket_is_mounted_once_and_its_folder_named(tmp_path):
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "gcsfuse"
    fake.write_text('#!/bin/sh\necho "$@" >> ' + str(tmp_path / "calls"))
    fake.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "BUCKETS": str(tmp_path / "buckets")}

    def mount(argument, **changed):
        command = ["bash", "tpu_scripts/worker/mount.sh", argument]
        return subprocess.run(command, cwd=ROOT, env=env | changed, capture_output=True, text=True)

    place = tmp_path / "buckets" / "my-bucket"
    assert mount("gs://my-bucket/runs/x").stdout == f"{place}/runs/x\n"
    assert mount("gs://my-bucket").stdout == f"{place}\n"
    assert (tmp_path / "calls").read_text().splitlines()[0] == f"--implicit-dirs my-bucket {place}"
    assert mount("--gin_file=a b.gin").stdout == "--gin_file=a b.gin\n"
    (tmp_path / "bin" / "gcsfuse").unlink()
    missing = mount("gs://my-bucket/x", PATH="/usr/bin:/bin")
    assert missing.returncode == 1 and "gcsfuse is missing" in missing.stderr
