"""Measures versions of the weights on held-out tasks, on a host that goes on making groups meanwhile."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cwm_jax.envs.env import OK, Env, Reward, Task
from cwm_jax.files import write_json
from cwm_jax.rl.rollout import Drawing, Rollout, rollout
from cwm_jax.rl.trajectory import Trajectory


@dataclass(frozen=True)
class Examining:
    """What is measured.

    Attributes:
      tasks: held-out ones of each environment.
      every: steps of training between two measurements; the first weights and the last are measured always.
      temperature: 1 measures the policy as it is trained, 0 its likeliest answers.
    """

    tasks: int = 64
    every: int = 25
    temperature: float = 1.0


class Examiner:
    """Holds the examinations of one host. Their requests are pinned to a version: a swap changes nothing in them.

    Args:
      run: folder of the run; `held_out/VERSION.json` tells what came out.
      playgrounds: held-out environments by name, each with its reward.
      examining: what is measured.
      drawing: how episodes are made.
      vocab_size: ids are below it.
    """

    def __init__(
        self,
        run: Path,
        playgrounds: Mapping[str, tuple[Env, Reward]],
        examining: Examining,
        drawing: Drawing,
        vocab_size: int,
    ):
        self._folder = Path(run) / "held_out"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._playgrounds, self._examining, self._vocab_size = playgrounds, examining, vocab_size
        self._drawing = replace(drawing, kv="pin", temperature=examining.temperature, most_stale=None)
        self._tasks = {name: list(env.tasks())[: examining.tasks] for name, (env, _) in playgrounds.items()}
        steps = [one["step"] for one in read_examinations(run)]
        self._last: int | None = max(steps, default=None)
        self._under_way: dict[int, dict[tuple[str, int], Trajectory | None]] = {}
        self._steps: dict[int, int] = {}
        self.until: int | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is under way and the weights of step `until` are measured."""
        return not self._under_way and self.until is not None and (self._last or 0) >= self.until

    @property
    def versions(self) -> set[int]:
        """Of the weights that are needed until they are measured."""
        return set(self._under_way)

    def begin(self, version: int, step: int) -> Iterator[tuple[Any, Rollout]]:
        """The rollouts to be made with the present weights, by key; none where these need not be measured.

        Args:
          version: of the weights.
          step: of training that they come from.
        """
        ended = self.until is not None and step >= self.until
        if self._under_way and not ended:
            return  # the weights of one are enough to be held
        due = self._last is None or step >= self._last + (1 if ended else self._examining.every)
        if not due:
            return
        self._last, self._steps[version] = step, step
        wanted = [(name, n) for name, tasks in self._tasks.items() for n in range(len(tasks))]
        if not wanted:
            return self._write(version, {})
        self._under_way[version] = dict.fromkeys(wanted)
        for name, number in list(self._under_way[version]):
            env, reward = self._playgrounds[name]
            yield (
                ("held out", version, name, number),
                self._rollout(env, self._tasks[name][number], reward, f"held out {version} {name} {number}", number),
            )

    def take(self, key: Any, trajectory: Trajectory) -> bool:
        """Takes what came of a rollout; False if it is none of these."""
        if key[0] != "held out":
            return False
        _, version, name, number = key
        found = self._under_way[version]
        found[name, number] = trajectory
        if all(one is not None for one in found.values()):
            del self._under_way[version]
            self._write(version, found)
        return True

    def _rollout(self, env: Env, task: Task, reward: Reward, name: str, number: int) -> Rollout:
        version = int(name.split()[2])
        return rollout(
            env, task, reward, self._drawing, name=name, member=0, seed=number * 4096, version=lambda: version,
            vocab_size=self._vocab_size,
        )  # fmt: skip

    def _write(self, version: int, found: Mapping[tuple[str, int], Trajectory]) -> None:
        told: dict[str, Any] = {"version": version, "step": self._steps.pop(version), "environments": {}}
        for name in self._tasks:
            counted = [one for (env, _), one in found.items() if env == name and one.status == OK]
            told["environments"][name] = {
                "n": len(counted),
                "failed": len(self._tasks[name]) - len(counted),
                "reward": float(np.mean([one.reward for one in counted])) if counted else None,
                "pass": float(np.mean([one.outcomes.get("pass", 0.0) for one in counted])) if counted else None,
                "tokens": float(np.mean([one.agent_tokens for one in counted])) if counted else None,
            }
        write_json(self._folder / f"{version}.json", told)


def read_examinations(run: Path) -> list[dict[str, Any]]:
    """What was measured in a run, in the order of versions: `version`, `step` and `environments`."""
    paths = sorted((Path(run) / "held_out").glob("*.json"), key=lambda path: int(path.stem))
    return [json.loads(path.read_text()) for path in paths]
