"""T15: whatever is published, leased, swapped, sealed and learnt from, nothing piles up in memory, files or folders."""

import gc
import json
import os
import signal
import threading
import time
from collections import defaultdict
from pathlib import Path

import jax
import numpy as np
import pytest
from small_rl import small
from test_kills import SLOWLY, begin, newest, pids

from cwm_jax.rl.in_one_process import run_together, together
from cwm_jax.rl.ledger import Ledger

WARM, STEPS = 23, 83  # some steps behind a checkpoint
# Megabytes. TensorStore 0.1.86 loses some 50 KB with every checkpoint that is written and read, in `to_json` and in
# `experimental_collect_matching_metrics`, and the ledger's names stay; a set of weights, or a batch, is more.
PER_VERSION = 0.3
REPORT = Path("experiments/rl/soak.json")


def megabytes(pid: int | str) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors(pid: int | str) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def held(run: Path) -> dict[str, int]:
    """What this process and the folder of its run hold."""
    gc.collect()
    folders = ("spool", "policy", "board", "state", "held_out", "journal")
    return {
        "arrays": len(jax.live_arrays()), "threads": threading.active_count(), "descriptors": descriptors("self"),
        **{name: len(os.listdir(run / name)) for name in folders},
    }  # fmt: skip


def test_nothing_piles_up(tmp_path):
    """A step is a publication, a lease, a swap in the middle of answers, and four groups or more, sealed and read."""
    rl = small(
        STEPS, 2, "EngineConfig.slots=48", "Sampling.groups=12", "Rl.checkpoint_every=5", "Sampling.journal=True"
    )
    found, resident = {}, {}

    def told(step, _):
        if step in (WARM, STEPS):
            roles.learner._checkpoints.wait()  # Orbax has an event loop for everything that it writes
            found[step], resident[step] = held(tmp_path), megabytes("self")

    with together(rl, tmp_path) as roles:
        run_together(roles.learner, roles.samplers, told)
        assert roles.board.accounts().holds and roles.samplers[0].engine.counts.swaps >= STEPS - 1
    grown = {name: found[STEPS][name] - count for name, count in found[WARM].items()}
    room = {"spool": 40, "descriptors": 6, "journal": 12}  # what is under way differs from step to step
    assert all(more <= room.get(name, 2) for name, more in grown.items()), grown
    assert resident[STEPS] - resident[WARM] < PER_VERSION * (STEPS - WARM), resident


def slope(samples: list[tuple[float, float]]) -> float:
    """Of the later half of `(x, y)`, by least squares."""
    return float(np.polyfit(*np.transpose(samples[len(samples) // 2 :]), 1)[0])


def soaked(run: Path, minutes: float) -> dict[str, dict[str, float]]:
    """Runs all roles so long; what each held at the end, and how that grew with each version in the later half."""
    process, until = begin(run, 10**6, SLOWLY), time.monotonic() + 60 * minutes
    samples = defaultdict(list)
    while time.monotonic() < until:
        time.sleep(5)
        assert process.poll() is None, process.communicate()[0][-3000:]
        for role, pid in pids(run).items():
            samples[role].append((newest(run)[1], megabytes(pid), descriptors(pid)))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=200)
    assert Ledger(run / "ledger.jsonl").steps, "nothing was learnt"
    return {
        role: {
            "versions": told[-1][0], "megabytes": told[-1][1], "descriptors": told[-1][2],
            "megabytes_a_version": slope([(version, resident) for version, resident, _ in told]),
            "descriptors_a_version": slope([(version, files) for version, _, files in told]),
        }
        for role, told in samples.items()
    }  # fmt: skip


@pytest.mark.soak
def test_half_an_hour(tmp_path):
    """`make rl-soak`."""
    told = soaked(tmp_path, minutes=30)
    REPORT.write_text(json.dumps({"command": "make rl-soak", "minutes": 30, "roles": told}, indent=2) + "\n")
    assert {"learner", "sampler-0", "env", "board"} <= told.keys()
    for role, one in told.items():
        assert one["megabytes_a_version"] < PER_VERSION and one["descriptors_a_version"] < 0.01, (role, one)
