"""T6: whoever is killed, whenever, the run comes to its end: nothing is lost, and nothing is learnt from twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

ROLES = ("learner", "sampler-0", "env", "board")
REPORT = Path("experiments/rl/kills.json")


def begin(run: Path, steps: int, *more: str) -> subprocess.Popen:
    command = [
        sys.executable, "-m", "cwm_jax", "rl", "--gin_file=experiments/tiny/reverse.gin", "--out", str(run),
        f"--gin.Rl.steps={steps}", "--gin.Rl.checkpoint_every=7", "--gin.Rl.ttl=8.0", "--gin.Reverse.instant=False",
        "--gin.Examining.tasks=16", "--gin.Sampling.journal=True", *more,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def newest(run: Path) -> tuple[int, int]:
    """Epoch and version of the newest announcement."""
    names = [re.findall(r"\d+", path.name) for path in (run / "board").glob("pub-*.json")]
    return max((tuple(map(int, numbers)) for numbers in names), default=(0, 0))


def pids(run: Path) -> dict[str, int]:
    path = run / "board" / "roles.json"
    return json.loads(path.read_text()) if path.exists() else {}


def steps_of(run: Path) -> int:
    path = run / "ledger.jsonl"
    return path.read_text().count('"consumed": ["') if path.exists() else 0


def kill_at_random(run: Path, process: subprocess.Popen, victims: list[str], rng: Random, pause: tuple[float, float]):
    """Kills one role after the other, each some time after the one before has come back; who was killed."""
    killed, last, dead = [], (0, 0), set()
    for role in victims:
        until, goal = time.monotonic() + 120, steps_of(run) + 1
        while time.monotonic() < until and process.poll() is None:
            found = newest(run)
            assert found >= last, "versions went backwards"
            last = found
            if pids(run).get(role, 0) not in {0, *dead} and steps_of(run) >= goal:
                break
            time.sleep(0.1)
        time.sleep(rng.uniform(*pause))
        if process.poll() is not None:
            break
        pid = pids(run)[role]
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        dead.add(pid)
        killed.append(role)
    return killed


def check(run: Path, killed: list[str]) -> dict:
    results = json.loads((run / "results.json").read_text())
    identity = results["identity"]
    assert identity["residual"] == 0 and identity["issued"] == sum(
        identity[name] for name in ("consumed", "rejected", "sealed", "in_flight")
    )
    entries = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    taken = Counter(uid for entry in entries for uid in (*entry["consumed"], *entry["rejected"]))
    assert max(taken.values()) == 1, "a group was taken twice"
    steps = [entry["step"] for entry in entries if entry["consumed"]]
    assert steps == [*range(1, len(steps) + 1)]
    assert results["kills_survived"] >= len(killed) - 1  # one that dies as the run ends is not started again
    assert results["versions"]["epochs"] >= killed.count("learner") + 1
    return results


def test_a_run_survives_the_death_of_each_of_its_roles(tmp_path):
    rng, victims = Random(0), list(ROLES)
    rng.shuffle(victims)
    process = begin(tmp_path, steps=60)
    killed = kill_at_random(tmp_path, process, victims, rng, (0.2, 1.5))
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out[-3000:]
    assert sorted(killed) == sorted(ROLES), (killed, out[-2000:])
    results = check(tmp_path, killed)
    assert results["steps"] == 60 and "residual 0" in out


SLOWLY = "--gin.AdamW.peak_lr=1e-6"  # a policy that could do everything would give nothing to learn from


@pytest.mark.kills
def test_twenty_rounds(tmp_path):
    """`make rl-kill`."""
    rng = Random(2026)
    victims = [rng.choice(ROLES) for _ in range(20)]
    process = begin(tmp_path, 2000, SLOWLY)
    began = time.monotonic()
    killed = kill_at_random(tmp_path, process, victims, rng, (0.5, 12.0))
    process.send_signal(signal.SIGINT)  # the command itself goes, too, and is called again
    process.communicate(timeout=200)
    rest = begin(tmp_path, 2000, SLOWLY)
    while time.monotonic() - began < 600 and rest.poll() is None:
        time.sleep(1)
    rest.send_signal(signal.SIGKILL)
    rest.communicate()
    time.sleep(5)  # Ray sees that its driver is gone, and its processes go
    last = begin(tmp_path, 2000, SLOWLY)
    out, _ = last.communicate(timeout=1500)
    assert last.returncode == 0, out[-3000:]
    results = check(tmp_path, [])
    told = {
        "command": "make rl-kill", "killed": dict(Counter(killed)), "rounds": len(killed), "driver": "SIGINT, SIGKILL",
        "minutes": (time.monotonic() - began) / 60,
        **{name: results[name] for name in ("steps", "identity", "rejected", "versions", "tickets_again", "reward")},
    }  # fmt: skip
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(told, indent=2) + "\n")
    assert len(killed) == 20
