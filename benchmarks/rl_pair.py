"""A learner and a sampler with a core each, whose environments only sleep: what `rl_async.py` compares."""

import os
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from cwm_jax.envs.env import Score, Task, Transition
from cwm_jax.inference.config import EngineConfig
from cwm_jax.model.transformer import ModelConfig
from cwm_jax.report.rl.told import read
from cwm_jax.rl.batches import Batching, Stale
from cwm_jax.rl.board import Admission
from cwm_jax.rl.curriculum import Curriculum
from cwm_jax.rl.examiner import Examining
from cwm_jax.rl.experiment import Environment, Rl
from cwm_jax.rl.learner import Learning
from cwm_jax.rl.roles import Context, LearnerRole, SamplerRole, board_of, compile_once, pin
from cwm_jax.rl.rollout import Drawing
from cwm_jax.rl.sampler import Sampling
from cwm_jax.rl.simulate import Episodes, LogNormal, Publishing, Samplers, System

WARM = 3  # steps before anything counts
MEMBERS, GROUPS = 4, 8  # of a group; of a step, and under way at once
SLOTS = MEMBERS * GROUPS // 2  # so that drawing a step's groups takes about as long as learning from them
PROMPT, LONGEST = 4, 252
LENGTHS = LogNormal(64, 0.5, LONGEST)
MODEL = ModelConfig(layers=2, d_model=128, q_heads=4, kv_heads=2, head_dim=32, d_ff=384)
LARGER = ModelConfig(layers=4, d_model=384, q_heads=6, kv_heads=2, head_dim=64, d_ff=1152)
VOCABULARY = 512
ROWS = 12  # of a batch: a step takes about as long as its groups


@dataclass(frozen=True)
class Sleepy:
    """Answers of a given length, a call that sleeps, a reward that nobody could foresee. An `EnvConfig`.

    Attributes:
      latencies: seconds of a call; None for none.
      telling: of so many groups one has rewards that differ; the others are drawn, and not learnt from.
      count: tasks.
    """

    latencies: LogNormal | None = None
    telling: int = 1
    count: int = 4096

    def open(self, vocabulary: Any, held_out: bool = False) -> "Asleep":
        return Asleep(self)


class Asleep:
    """`Sleepy`, opened."""

    name = "sleepy"
    stop_ids = ()
    vocab_size = VOCABULARY
    instant = False

    def __init__(self, config: Sleepy):
        self._config, self._begun = config, Counter()
        order = Curriculum().order({self.name: [task.name for task in self.tasks()]})
        self._turns = {order(number).task: number for number in range(config.count)}  # the ticket that a task is for

    def tasks(self) -> list[Task]:
        return [Task(str(number)) for number in range(self._config.count)]

    def start(self, task: Task) -> tuple[dict[str, float], Transition]:
        # The draws of a member of a group as `simulate` makes them; which of its members is called first is all one.
        turn, member = self._turns[task.name], self._begun[task.name] % MEMBERS
        self._begun[task.name] += 1
        draw = Random(turn)
        draw.random()
        length, latency = [(draw.gauss(), draw.gauss()) for _ in range(MEMBERS)][member]
        state = {
            "length": max(1, round(LENGTHS.at(length) - PROMPT)),
            "latency": self._config.latencies.at(latency) if self._config.latencies else 0.0,
            "telling": turn % self._config.telling == 0,
        }
        return state, Transition(tuple(1 + (turn * PROMPT + place) % (VOCABULARY - 1) for place in range(PROMPT)))

    def step(self, state: dict[str, float], action: Sequence[int]) -> Transition:
        time.sleep(state["latency"])
        return Transition(over=True, outcomes={"score": state["telling"] * (hash(tuple(action)) % 997 / 996)})

    def max_action(self, state: dict[str, float]) -> int:
        return state["length"]

    def close(self, state: dict[str, float]) -> None:
        pass


def configured(
    steps: int, latencies: LogNormal | None = None, ahead: int = 1, telling: int = 1, model: ModelConfig = MODEL
) -> Rl:
    """A run of `steps` steps; `ahead` times the groups of a step are under way on the sampler."""
    batching = Batching(ROWS * (LONGEST + PROMPT), ROWS, LONGEST + PROMPT, GROUPS, (Stale(),))
    return Rl(
        model=model, environments=(Environment(Sleepy(latencies, telling), Score()),), steps=steps,
        learning=Learning(batching=batching), admission=Admission(4, GROUPS), checkpoint_every=10**6,
        sampling=Sampling(MEMBERS, GROUPS * ahead, MEMBERS * GROUPS * ahead, poll=0.02, ask=0.01),
        drawing=Drawing(max_context=LONGEST + PROMPT), examining=Examining(1, 10**6),
        engine=EngineConfig(SLOTS, LONGEST + PROMPT, page=16, chunk=16, rows=8, steps=4, prefixes=0),
    )  # fmt: skip


def _prepare(core: int, folder: Path) -> None:
    """A process for one role after the other."""
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    pin(core)
    compile_once(folder)


class _Boards(BaseManager):
    """Runs a board in a process of its own."""


_Boards.register("board", board_of, exposed=("lease", "renew", "give_back", "accounts"))


def _role(kind: str, rl: Rl, run: Path, board: Any) -> None:
    role = LearnerRole(rl) if kind == "learner" else SamplerRole(rl, 0)
    role.run(Context(run, board, (run / "stop").exists))


@dataclass(frozen=True)
class Ran:
    """What a run came to, from step `WARM` to the last.

    Attributes:
      rl: its configuration.
      seconds: of a step, from the end of one to that of the next.
      sampler, learner: shares of their time in which they draw or read, and learn or publish.
      publishing: what it took for weights to get to the sampler.
      rewards: of each step, the warm ones too.
    """

    rl: Rl
    seconds: float
    sampler: float
    learner: float
    publishing: Publishing
    rewards: list[float] = field(default_factory=list)

    def system(self, base: float, read: float) -> System:
        """Its like for the simulation, where a step of decoding takes `base` seconds, and reading a token `read`."""
        latencies = self.rl.environments[0].env.latencies or LogNormal(1e-9)
        episodes = Episodes(LENGTHS, 1 - PROMPT / LENGTHS.mean, 1, latencies, MEMBERS)
        sampling, admission = self.rl.sampling, self.rl.admission
        samplers = Samplers(1, sampling.groups, SLOTS, sampling.threads, base, 0.0, read)
        return System(
            self.rl.steps, WARM, self.seconds * self.learner, admission, samplers, episodes, self.publishing
        )  # fmt: skip


class Pair:
    """A learner's process and a sampler's; runs come one after the other, so that Python and JAX start once."""

    def __init__(self, folder: Path):
        self.folder, self._count = folder, 0
        context = get_context("spawn")
        self.learner, self.sampler = (ProcessPoolExecutor(1, context, _prepare, (core, folder)) for core in range(2))

    def run(self, rl: Rl) -> Ran:
        """Runs to the end."""
        self._count += 1
        run = self.folder / str(self._count)
        with _Boards(ctx=get_context("spawn")) as manager:
            board = manager.board(rl, run)
            sampler = self.sampler.submit(_role, "sampler", rl, run, board)
            learner = self.learner.submit(_role, "learner", rl, run, board)
            learner.result()
            (run / "stop").touch()
            sampler.result()
            if not board.accounts().holds:
                raise ArithmeticError(f"the accounts of {run} do not add up: {board.accounts()}")
        return self._told(rl, run)

    def _told(self, rl: Rl, run: Path) -> Ran:
        told = read(run)
        steps = told.steps
        first, last = steps[WARM - 1], steps[-1]
        wall = last["time"] - first["time"]
        learnt = sum(last["hours"][part] - first["hours"][part] for part in ("pack", "h2d", "fwd_bwd", "publish_block"))
        lines = [row for row in told.roles["sampler-0"] if first["time"] - 1 < row["time"] < last["time"] + 1]
        drawn = [sum(row["hours"][part] for part in ("decode", "prefill", "reprefill")) for row in lines]
        busy = (drawn[-1] - drawn[0]) / (lines[-1]["time"] - lines[0]["time"]) if len(lines) > 1 else float("nan")
        weights = {one["version"]: one for one in told.weights("sampler-0")}
        found = [
            (one["announced"] - step["time"], one["loaded"] - one["seen"], one["swapped"] - one["loaded"])
            for step in steps[WARM:] if (one := weights.get(step["version"] + 1))
        ]  # fmt: skip
        write, load_, swap = (max(0.0, statistics.median(values)) for values in zip(*found)) if found else (0, 0, 0)
        publishing = Publishing(1, write, rl.sampling.poll, load_, swap)
        rewards = [float(np.mean([*row["reward"].values()])) for row in steps]
        return Ran(rl, wall / (len(steps) - WARM), busy, learnt / wall, publishing, rewards)

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self.learner, self.sampler):
            pool.shutdown()
