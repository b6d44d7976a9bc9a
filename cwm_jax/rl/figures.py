"""What roles tell of themselves in `metrics/`, and what the learner tells of a step (names of rl.md, G.8)."""

import json
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from cwm_jax.envs.env import OK
from cwm_jax.files import full_disk
from cwm_jax.rl.batches import Gathered
from cwm_jax.rl.objective import AGES

_BINS = 10
_TELL = 2.0  # seconds between lines of figures


class Figures:
    """Lines of figures of one role, added to `metrics/ROLE.jsonl`; each tells when this life of the role began."""

    def __init__(self, run: Path, role: str):
        self._path = Path(run) / "metrics" / f"{role}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._began = time.time()
        self._told = 0.0

    def tell(self, values: dict[str, Any]) -> None:
        """Adds a line."""
        self._told = time.monotonic()
        line = json.dumps({"began": self._began, "time": time.time(), **values})
        with full_disk(self._path), self._path.open("a") as file:
            file.write(line + "\n")

    @property
    def due(self) -> bool:
        """Whether the last line is a while ago."""
        return time.monotonic() - self._told > _TELL


def of_batch(batch: Gathered, version: int) -> dict[str, Any]:
    """Figures of what a step learns from.

    Args:
      batch: what was gathered.
      version: of the weights that learn.

    Returns:
      `age`: tokens by how many versions old they are, a list from 0 on; `in_flight`, `in_queue`: mean age that came
      while the trajectory was drawn, and after; `oldest`, `newest`; `segments`: mean number of versions in a
      trajectory; `reward`, `pass`, `length`, `cut`: means by environment over all members; `solve_rates`: groups in
      each tenth; `solved`: rate by task; `statuses`: members that failed for no fault of the agent; `rejected`: groups
      by reason; `useful`: share of drawn tokens that is learnt from.
    """
    rows = batch.rows
    drawn = rows.mask > 0
    ages = np.maximum(version - rows.versions[drawn], 0)
    told: dict[str, Any] = {
        "age": np.bincount(ages).tolist() if len(ages) else [],
        "oldest": int(ages.max(initial=0)),
        "newest": int(ages.min(initial=np.iinfo(np.int32).max)) if len(ages) else 0,
        "rejected": dict(Counter(batch.rejected.values())),
    }
    members = [(group, one) for group in batch.groups for one in group.trajectories]
    counted = [(group, one) for group, one in members if one.status == OK and one.versions]
    newest = sum(one.agent_tokens * max(version - one.versions[1], 0) for _, one in counted)
    tokens = sum(one.agent_tokens for _, one in counted)
    age = sum(_ages(one, version).sum() for _, one in counted)
    told |= {
        "in_queue": newest / max(tokens, 1),
        "in_flight": float(age - newest) / max(tokens, 1),
        "segments": float(np.mean([_segments(one) for _, one in counted])) if counted else 0.0,
        "useful": float(drawn.sum()) / max(sum(one.agent_tokens for _, one in members), 1),
        "statuses": dict(Counter(one.status for _, one in members if one.status != OK)),
    }
    by_env = defaultdict(list)
    for group, one in counted:
        by_env[group.env].append(one)
    told |= {
        "reward": {env: float(np.mean([one.reward for one in some])) for env, some in by_env.items()},
        "pass": {env: float(np.mean([one.outcomes.get("pass", 0.0) for one in some])) for env, some in by_env.items()},
        "length": {env: float(np.mean([one.agent_tokens for one in some])) for env, some in by_env.items()},
        "cut": {env: float(np.mean([one.outcomes.get("cut", 0.0) for one in some])) for env, some in by_env.items()},
    }
    solved = {
        group.task: float(np.mean([one.outcomes.get("pass", 0.0) for one in group.trajectories if one.status == OK]))
        for group in batch.groups
        if any(one.status == OK for one in group.trajectories)
    }
    bins = np.minimum((np.array([*solved.values()]) * _BINS).astype(int), _BINS - 1)
    return told | {"solve_rates": np.bincount(bins, minlength=_BINS).tolist(), "solved": solved}


def by_age(sums: dict[str, Any]) -> dict[str, list[float | None]]:
    """Means for each class of age of `objective.AGES`, None where it has no token.

    Returns:
      `tokens`; `gap`, the mean of |log π_θ − log μ|; `k1`, `k3`; `ratio`; `ess`, the effective share of samples;
      `clip_low`, `clip_high`.
    """
    sums = {name: np.asarray(values, np.float64) for name, values in sums.items()}
    counts = sums["tokens"]

    def means(values: np.ndarray) -> list[float | None]:
        return [float(value / count) if count else None for value, count in zip(values, counts)]

    squared = np.where(counts > 0, sums["ratio"] ** 2 / np.maximum(sums["ratio_squared"], 1e-30), 0.0)
    assert len(counts) == len(AGES)
    return {
        "tokens": counts.tolist(),
        "gap": means(sums["log_ratio_abs"]),
        "k1": means(sums["k1"]),
        "k3": means(sums["k3"]),
        "ratio": means(sums["ratio"]),
        "ess": means(squared),
        "clip_low": means(sums["clipped_low"]),
        "clip_high": means(sums["clipped_high"]),
    }


def _ages(one, version: int) -> np.ndarray:
    drawn = np.concatenate([context.versions[context.agent] for context in one.contexts])
    return np.maximum(version - drawn, 0)


def _segments(one) -> int:
    return sum(len(set(context.versions[context.agent].tolist())) for context in one.contexts)
