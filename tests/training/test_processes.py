"""Two processes train as one does, and one goes on where two stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cwm_jax.training.processes import join_processes

ROOT = Path(__file__).parents[2]


def start(gin_file, out, **env):
    command = [sys.executable, "-m", "cwm_jax", "train", f"--gin_file={gin_file}", "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | env, stderr=subprocess.PIPE, text=True)


def start_two(gin_file, out):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    return [start(gin_file, out, **together, JAX_PROCESS_ID=str(number)) for number in range(2)]


def losses(out):
    return {line["step"]: line["loss"] for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines())}


@pytest.fixture(scope="module")
def stopped(gin_file, tmp_path_factory):
    """The folder of a run of two processes, one of which got SIGTERM after step 20."""
    out = tmp_path_factory.mktemp("two") / "run"
    processes = start_two(gin_file, out)
    until = time.monotonic() + 300
    while not (out / "metrics.jsonl").exists() or len(losses(out)) < 20:
        assert all(process.poll() is None for process in processes), [process.communicate() for process in processes]
        assert time.monotonic() < until
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    # JAX looks once a second whether the signal came, in which these small steps would be over: they are slowed.
    for _ in range(10):
        for number, seconds in ((signal.SIGSTOP, 0.3), (signal.SIGCONT, 0.01)):
            for process in processes:
                process.send_signal(number)
            time.sleep(seconds)
    for process in processes:
        error = process.communicate(timeout=300)[1]
        assert process.returncode == 0, error
        assert "stopped by SIGTERM" in error
    return out


def test_their_losses_are_those_of_one_process(stopped, trained_run):
    together, alone = losses(stopped), losses(trained_run)
    assert 20 <= len(together) < 40
    for step in range(1, 21):
        assert together[step] == pytest.approx(alone[step], abs=1e-5)


def test_one_process_goes_on_where_two_stopped(stopped, gin_file, trained_run):
    done = max(losses(stopped))
    process = start(gin_file, stopped)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 0, error
    assert "instead" not in error  # what was read has the fingerprint of what two processes wrote
    lines = [json.loads(line)["step"] for line in (stopped / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(1, 41)) and done < 40  # no step twice, none left out
    assert losses(stopped)[done + 1] == pytest.approx(losses(trained_run)[done + 1], abs=1e-4)


def test_half_an_address_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match="JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID is not; set all three"):
        join_processes(2)
