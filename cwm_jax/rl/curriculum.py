"""What is trained on when: stages with shares of environments, options of tasks, and bounds on how hard they are.

Stages are counted in groups, not in steps, so that a task follows from the number of its ticket alone: a board that
is started again gives out the very same tickets.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from cwm_jax.rl.trajectory import group_uid


class Choice(NamedTuple):
    """What a ticket is for.

    Attributes:
      uid: of the group.
      env: name of the environment.
      task: name of the task there.
      options: that the task is begun with, such as `{"plugins": False}`.
    """

    uid: str
    env: str
    task: str
    options: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Stage:
    """A part of a run (CWM's joint RL has three, facts §6.5).

    Attributes:
      groups: how many it has; the last stage goes on for ever.
      shares: weights of environments by name, such as `(("code", 0.5), ("maths", 0.2))`; all alike if empty.
      options: probability with which an option of tasks is on, such as `(("plugins", 0.5), ("hint", 0.0))`.
      easiest, hardest: tasks with a solve rate outside of these are left out (CWM: 0.7 and 0.1), where one is known.
      prefer_hard: 0 draws tasks alike; else a task of solve rate r weighs (1 - r) to this power. Where all are always
        solved, all are alike.
    """

    groups: int = 1
    shares: tuple[tuple[str, float], ...] = ()
    options: tuple[tuple[str, float], ...] = ()
    easiest: float = 1.0
    hardest: float = 0.0
    prefer_hard: float = 0.0

    def __post_init__(self):
        if self.groups < 1 or not 0 <= self.hardest <= self.easiest <= 1:
            raise ValueError(
                f"Stage.groups={self.groups} must be at least 1, and hardest={self.hardest} <= "
                f"easiest={self.easiest} between 0 and 1"
            )


@dataclass(frozen=True)
class Curriculum:
    """The stages of a run.

    Attributes:
      stages: in order.
      solve_rates: JSON file of the solve rate of each task, `{"code/sum": 0.4}`, as `results.json` of an earlier run
        has it under `solve_rates`; None where none is known.
      seed: of the order of tasks.
    """

    stages: tuple[Stage, ...] = field(default_factory=lambda: (Stage(),))
    solve_rates: str | None = None
    seed: int = 0

    def order(self, tasks: Mapping[str, Sequence[str]]) -> "Order":
        """The order of the tasks of environments, by name."""
        rates = json.loads(Path(self.solve_rates).read_text()) if self.solve_rates else {}
        return Order(tasks, self.seed, self.stages, rates.get("solve_rates", rates))


class Order:
    """What each ticket is for, by its number.

    In a stage that draws tasks alike they come pass after pass, each pass in an order of its own.

    Args:
      tasks: names of tasks by environment.
      seed: of the order.
      stages: of the run.
      rates: solve rates by `ENV/TASK`.

    Raises:
      ValueError: an environment of a stage has no task that it may give, or is not there.
    """

    def __init__(
        self,
        tasks: Mapping[str, Sequence[str]],
        seed: int = 0,
        stages: Sequence[Stage] = (Stage(),),
        rates: Mapping[str, float] = {},
    ):
        self._seed, self._stages = seed, tuple(stages)
        self._pools = [_pools(stage, tasks, rates) for stage in self._stages]
        self._choices: list[Choice] = []
        self._passes: dict[tuple[int, str], list[str]] = {}
        self._given = Counter[tuple[str, str]]()
        self._rates = rates

    def __call__(self, number: int) -> Choice:
        while len(self._choices) <= number:
            self._choices.append(self._next(len(self._choices)))
        return self._choices[number]

    def _next(self, number: int) -> Choice:
        place, begun = 0, self._stages[0].groups
        while place + 1 < len(self._stages) and number >= begun:
            place += 1
            begun += self._stages[place].groups
        stage, pools = self._stages[place], self._pools[place]
        rng = Random(f"{self._seed} {number}")
        weights = dict(stage.shares) or dict.fromkeys(pools, 1.0)
        (env,) = rng.choices(list(weights), list(weights.values()))
        hard: list[float] = []
        if stage.prefer_hard:
            hard = [(1 - self._rates.get(f"{env}/{task}", 0.5)) ** stage.prefer_hard for task in pools[env]]
        if any(hard):
            (task,) = rng.choices(pools[env], hard)
        else:
            left = self._passes.setdefault((place, env), [])
            if not left:
                left += rng.sample(pools[env], len(pools[env]))
            task = left.pop()
        count = self._given[env, task]
        self._given[env, task] += 1
        options = {name: rng.random() < share for name, share in stage.options}
        return Choice(group_uid(f"{env}/{task}", count, self._seed), env, task, options)


def _pools(stage: Stage, tasks: Mapping[str, Sequence[str]], rates: Mapping[str, float]) -> dict[str, list[str]]:
    """The tasks of each environment that a stage may give."""
    found = {}
    for env in dict(stage.shares) or tasks:
        if env not in tasks:
            raise ValueError(f"Stage.shares names {env!r}; the run's environments are {', '.join(tasks)}")
        found[env] = [
            task for task in tasks[env] if stage.hardest <= rates.get(f"{env}/{task}", stage.hardest) <= stage.easiest
        ]
        if not found[env]:
            raise ValueError(
                f"the environment {env!r} has no task with a solve rate from {stage.hardest} to {stage.easiest} "
                f"among {len(tasks[env])}; widen Stage.hardest and Stage.easiest"
            )
    return found
