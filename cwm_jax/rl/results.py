"""`results.json` of a run: what it came to, from what its roles told."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from cwm_jax.files import write_json
from cwm_jax.report.rl.told import read
from cwm_jax.rl.examiner import read_examinations


def write_results(run: Path, came_to: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Writes and returns them.

    Args:
      run: folder of the run.
      came_to: what `run_on_ray` returned.
      seconds: that this call took.
    """
    told = read(run)
    steps, ages = told.steps, np.array(told.ages() or [0])
    examinations = read_examinations(run)
    reward = {}
    for name in examinations[0]["environments"] if examinations else ():
        values = [one["environments"][name]["reward"] for one in examinations]
        reward[name] = {"before": values[0], "after": values[-1]}
    solved = defaultdict(list)
    for row in steps:
        for task, rate in row["solved"].items():
            solved[task].append(rate)
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
            "epochs": max((row["epoch"] for row in told.roles.get("learner", ())), default=0),
            "taken": sum(len(told.weights(host)) for host in told.hosts),
        },
        "staleness": {
            "mean": float((ages * np.arange(len(ages))).sum() / max(ages.sum(), 1)),
            "oldest": int(np.flatnonzero(ages).max(initial=0)),
            "tokens_by_age": ages.tolist(),
        },
        "idle": {role: told.idle(role) for role in told.roles},
        "hours": {role: told.hours(role) for role in told.roles},
        "kills_survived": sum(again.values()),
        "restarts": again,
        "tickets_again": came_to["again"],
        "solve_rates": {task: float(np.mean(rates)) for task, rates in sorted(solved.items())},
    }  # fmt: skip
    write_json(run / "results.json", results)
    return results


def restarts(run: Path) -> dict[str, int]:
    """How often each role that told figures was started again."""
    told = read(run)
    return {role: len(told.lives(role)) - 1 for role in told.roles}
