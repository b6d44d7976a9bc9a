"""What the roles of a run have told so far, read from its folder."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

AGES = ("0", "1", "2-3", "4-7", "8+")  # versions; the classes of cwm_jax.rl.objective.AGES
WAITING = {"learner": ("wait_batch",), "sampler": ("wait_request", "wait_env"), "env": ("idle",)}  # by kind of role
STAGES = ("announced", "seen", "loaded", "swapped")  # what a host does with a version


class Told(NamedTuple):
    """What a run has told so far.

    Attributes:
      results: of `results.json`; empty while it goes on.
      roles: rows of `metrics/ROLE.jsonl` by role: the learner, hosts by number, environments.
      steps: rows of the learner by step; of one that was made again, what it told last.
      examinations: on held-out tasks, by step.
    """

    results: dict[str, Any]
    roles: dict[str, list[dict[str, Any]]]
    steps: list[dict[str, Any]]
    examinations: list[dict[str, Any]]

    @property
    def environments(self) -> list[str]:
        """Names, in the order in which they were met."""
        met = [*(one["environments"] for one in self.examinations), *(row.get("reward", {}) for row in self.steps)]
        return list(dict.fromkeys(name for names in met for name in names))

    @property
    def hosts(self) -> list[str]:
        return [role for role in self.roles if role.startswith("sampler")]

    @property
    def began(self) -> float:
        """When the first role did, seconds since 1970."""
        return min((row["began"] for rows in self.roles.values() for row in rows), default=0.0)

    def lives(self, role: str) -> list[dict[str, Any]]:
        """The last row of each life of a role."""
        return list({row["began"]: row for row in self.roles[role]}.values())

    def hours(self, role: str) -> dict[str, float]:
        """Seconds of each part of a role's time, all of its lives together."""
        total: Counter[str] = Counter()
        for row in self.lives(role):
            total.update(row["hours"])
        return dict(total)

    def idle(self, role: str) -> float:
        """The share of its time that a role waited."""
        spent = self.hours(role)
        return sum(spent.get(part, 0.0) for part in WAITING[kind_of(role)]) / max(math.fsum(spent.values()), 1e-9)

    def ages(self) -> list[int]:
        """Tokens learnt from, by how many versions old they were, from 0 on."""
        total: Counter[int] = Counter()
        for row in self.steps:
            total.update(dict(enumerate(row.get("age", ()))))
        return [total[age] for age in range(max(total, default=-1) + 1)]

    def counted(self, name: str) -> Counter[str]:
        """The sum over steps of a field that counts by name, most first."""
        total: Counter[str] = Counter()
        for row in self.steps:
            total.update(row.get(name, {}))
        return Counter(dict(total.most_common()))

    def weights(self, host: str) -> list[dict[str, float]]:
        """When a host took each version: `version` and `STAGES`, seconds since 1970."""
        return [one for row in self.roles[host] for one in row.get("weights", ())]


def read(run: Path) -> Told:
    """Reads `results.json`, `metrics/` and `held_out/` of a run; what is not there yet is left out."""
    found = {path.stem: rows for path in (run / "metrics").glob("*.jsonl") if (rows := _rows(path))}
    roles = {role: found[role] for role in sorted(filter(kind_of, found), key=_place)}
    steps = {row["step"]: row for row in roles.get("learner", ()) if "step" in row}
    held_out = sorted(map(_json, (run / "held_out").glob("*.json")), key=lambda one: one["version"])
    examinations = {one["step"]: one for one in held_out}
    in_order = ([rows[step] for step in sorted(rows)] for rows in (steps, examinations))
    return Told(_json(run / "results.json"), roles, *in_order)


def kind_of(role: str) -> str | None:
    """Of `WAITING`; None for what is no role."""
    kind = role.partition("-")[0]
    return kind if kind in WAITING else None


def _place(role: str) -> tuple[int, int]:
    kind, _, number = role.partition("-")
    return list(WAITING).index(kind), int(number or 0)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file. A killed role leaves half a line, in the middle too where it came back."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def since(one: dict[str, float]) -> dict[str, float]:
    """Seconds from the announcement to each stage."""
    return {stage: one[stage] - one["announced"] for stage in STAGES[1:]}
