"""A run of plain processes, a role each, without Ray; two of them are killed and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from cwm_jax.report.rl.told import read
from cwm_jax.rl.cli import load
from cwm_jax.rl.on_processes import play

ROLES = ("board", "env-0", "learner", "sampler-0")


def begin(run, role: str, *more: str, **world: str) -> subprocess.Popen:
    command = [
        sys.executable, "-m", "cwm_jax", "rl", "--gin_file=experiments/tiny/reverse.gin", "--out", str(run),
        "--role", role, "--gin.Rl.steps=12", "--gin.Rl.ttl=8.0", "--gin.Reverse.instant=False",
        "--gin.Examining.tasks=8", *more,
    ]  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | world
    )


def wait_until(there, processes) -> None:
    until = time.monotonic() + 1800
    while not there():
        assert time.monotonic() < until
        for role, process in processes.items():
            assert process.poll() is None, (role, process.communicate()[0][-3000:])
        time.sleep(0.2)


@pytest.fixture
def processes(tmp_path):
    """One for each role."""
    found = {role: begin(tmp_path, role) for role in ROLES}
    yield found
    for process in found.values():
        process.kill()


def test_four_plain_processes_finish_a_run(tmp_path, processes):
    ledger = tmp_path / "ledger.jsonl"
    wait_until(lambda: ledger.exists() and ledger.read_text().count('"consumed": ["') >= 2, processes)
    key = json.loads((tmp_path / "board" / "at-board.json").read_text())["key"]
    for role in ("env-0", "board"):
        processes[role].send_signal(signal.SIGKILL)
        processes[role].communicate()
        processes[role] = begin(tmp_path, role)
    for role, process in processes.items():
        said = process.communicate(timeout=1800)[0]
        assert process.returncode == 0, (role, said[-3000:])
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["steps"] == 12 and results["identity"]["residual"] == 0
    assert results["restarts"] == {"env-0": 1} and (tmp_path / "report.html").exists()
    assert [one["step"] for one in results["examinations"]][-1] == 12, "the last weights are measured"
    assert json.loads((tmp_path / "board" / "at-board.json").read_text())["key"] != key
    assert not list((tmp_path / "board").glob("lease-*")) and "ray" not in os.listdir(tmp_path)


def test_a_sampler_of_two_processes_takes_weights_at_one_step(tmp_path):
    mesh = ["--gin.Rl.inference_mesh=@host/MeshShape()", "--gin.host/MeshShape.tensor=2", "--gin.Reverse.letters=5"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    found = {role: begin(tmp_path, role, *mesh) for role in ROLES if role != "sampler-0"}
    for number in "01":
        world = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": number}
        found[f"sampler-0 {number}"] = begin(tmp_path, "sampler-0", *mesh, **world, XLA_FLAGS="")
    try:
        until = time.monotonic() + 1800
        while waiting := [role for role, process in found.items() if process.poll() is None]:
            for role in found.keys() - waiting:
                assert found[role].returncode == 0, (role, found[role].communicate()[0][-3000:])
            assert time.monotonic() < until, waiting
            time.sleep(0.2)
    finally:
        for process in found.values():
            process.kill()
            process.wait()
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["steps"] == 12 and results["identity"]["residual"] == 0 and results["restarts"] == {}
    assert [one["step"] for one in results["examinations"]][-1] == 12
    lines = read(tmp_path).roles["sampler-0"]
    taken = [one["version"] for line in lines for one in line["weights"]]
    assert len(taken) > 3 and taken == sorted(taken) and lines[-1]["swaps"] == len(taken)


def test_there_are_four_kinds_of_roles(tmp_path):
    rl = load(["experiments/tiny/reverse.gin"], [])
    for role in ("judge", "sampler-x", "board"):
        with pytest.raises(ValueError, match="write board, learner, sampler-0"):
            play(rl, tmp_path, role)
