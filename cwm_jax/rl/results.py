"""`results.json` of a run: what it came to, from what its roles told."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from cwm_jax.files import write_json
from cwm_jax.rl.examiner import read_examinations
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.figures import read_figures

_WAITING = {"learner": ("wait_batch",), "sampler": ("wait_request", "wait_env"), "env": ("idle",)}


def write_results(rl: Rl, run: Path, came_to: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Writes and returns them.

    Args:
      rl: the configuration.
      run: folder of the run.
      came_to: what `run_on_ray` returned.
      seconds: that this call took.
    """
    steps = learner_steps(run)
    ages = np.zeros(1, np.int64)
    for row in steps:
        ages = _added(ages, np.array(row["age"] or [0]))
    examinations = read_examinations(run)
    reward = {}
    for name in examinations[0]["environments"] if examinations else ():
        values = [one["environments"][name]["reward"] for one in examinations]
        reward[name] = {"before": values[0], "after": values[-1]}
    solved = defaultdict(list)
    for row in steps:
        for task, rate in row["solved"].items():
            solved[task].append(rate)
    roles = {
        role: hours(run, role) for role in ("learner", *(f"sampler-{n}" for n in range(rl.samplers)), *_pools(run))
    }
    again = {name: count for name, count in came_to["restarts"].items() if count}
    identity = came_to["accounts"].as_json()
    results = {
        "steps": len(steps),
        "minutes": seconds / 60,
        "reward": reward,
        "examinations": examinations,
        "identity": {key: identity[key] for key in
                     ("issued", "consumed", "rejected", "sealed", "in_flight", "residual")},
        "rejected": identity["reasons"],
        "versions": {
            "published": max((row["version"] for row in steps), default=0) + 1,
            "epochs": max((row["epoch"] for row in read_figures(run, "learner")), default=0),
            "taken": len(taken(run, rl.samplers)),
        },
        "staleness": {
            "mean": float((ages * np.arange(len(ages))).sum() / max(ages.sum(), 1)),
            "oldest": int(np.flatnonzero(ages).max(initial=0)),
            "tokens_by_age": ages.tolist(),
        },
        "idle": {role: _idle(role, spent) for role, spent in roles.items() if spent},
        "hours": roles,
        "kills_survived": sum(again.values()),
        "restarts": again,
        "tickets_again": came_to["again"],
        "solve_rates": {task: float(np.mean(rates)) for task, rates in sorted(solved.items())},
    }  # fmt: skip
    write_json(run / "results.json", results)
    return results


def learner_steps(run: Path) -> list[dict[str, Any]]:
    """What the learner told of each step; of one that was made again, what it told last."""
    rows = {row["step"]: row for row in read_figures(run, "learner") if "step" in row}
    return [rows[step] for step in sorted(rows)]


def hours(run: Path, role: str) -> dict[str, float]:
    """Seconds of each part of a role's time, all of its lives together."""
    lives = {row["began"]: row["hours"] for row in read_figures(run, role)}
    total: Counter[str] = Counter()
    for spent in lives.values():
        total.update(spent)
    return dict(total)


def taken(run: Path, samplers: int) -> list[dict[str, Any]]:
    """When each host took each version: `announced`, `seen`, `loaded`, `swapped`, seconds since 1970."""
    hosts = [f"sampler-{number}" for number in range(samplers)]
    return [{"host": host, **one} for host in hosts for row in read_figures(run, host) for one in row["weights"]]


def restarts(run: Path) -> dict[str, int]:
    """How often each role that told figures was started again."""
    roles = [path.stem for path in (run / "metrics").glob("*.jsonl")]
    return {role: len({row["began"] for row in read_figures(run, role)}) - 1 for role in roles}


def _pools(run: Path) -> list[str]:
    """Names of the pools of environments that told figures."""
    return sorted(path.stem for path in (run / "metrics").glob("env*.jsonl"))


def _idle(role: str, spent: dict[str, float]) -> float:
    waiting = _WAITING[role.partition("-")[0]]
    return sum(spent.get(part, 0.0) for part in waiting) / max(sum(spent.values()), 1e-9)


def _added(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    length = max(len(one), len(other))
    return np.pad(one, (0, length - len(one))) + np.pad(other, (0, length - len(other)))
