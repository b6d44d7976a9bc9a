"""Asynchronous RL against the same run synchronous, and what its parts cost: rows R1 to R10.

    python benchmarks/rl_async.py [--quick] [--out FILE]

Both sides are one configuration, tasks and groups of a step alike; one of them is `synchronous(rl)`. Learner and
sampler are processes with a core each (Ray's own processes would disturb them; R9, where roles die, is on Ray).
Environments only sleep. Lengths of answers and latencies are lognormal, and the very ones that the simulation of the
same system draws, so its speed-up is the bound; what a step, a token and a publication take in it was measured in the
synchronous runs. All is compiled before, counted is from step 3 on, the sides run in turns, the median counts.

R1 step for step; R2, R3 how busy sampler and learner are where each is the bottleneck; R4 the pause of a swap, on an
engine alone; R5 from publishing to drawing, with the publisher in one process and the host in another; R6 a swap in
flight against one that waits until no answer is under way; R7 reward for the same number of samples; R8 latency that
is hidden; R9 what a killed role costs beside the time between two checkpoints; R10 caches of layers with windows.
"""

import os
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from random import Random
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

import numpy as np

from cwm_jax.envs.env import Score, Task, Transition
from cwm_jax.inference.engine import EngineConfig
from cwm_jax.model.transformer import ModelConfig
from cwm_jax.rl.batches import Batching, Stale
from cwm_jax.rl.board import Admission, Board
from cwm_jax.rl.curriculum import Curriculum
from cwm_jax.rl.examiner import Examining
from cwm_jax.rl.experiment import Environment, Rl
from cwm_jax.rl.learner import Learning
from cwm_jax.rl.results import learner_steps, taken
from cwm_jax.rl.roles import Context, LearnerRole, SamplerRole, pin, read_figures
from cwm_jax.rl.rollout import Drawing
from cwm_jax.rl.sampler import Sampling
from cwm_jax.rl.simulate import Episodes, LogNormal, Publishing, Samplers, System

ROOT = Path(__file__).resolve().parent.parent
WARM = 3  # steps before anything counts
MEMBERS, GROUPS = 4, 8  # of a group; of a step, and under way at once
SLOTS = MEMBERS * GROUPS
PROMPT, LONGEST = 4, 252
LENGTHS = LogNormal(64, 0.5, LONGEST)
LATENCIES = LogNormal(1.0, 1.2)
MODEL = ModelConfig(layers=2, d_model=128, q_heads=4, kv_heads=2, head_dim=32, d_ff=384)
VOCABULARY = 512


@dataclass(frozen=True)
class Sleepy:
    """Answers of a given length, a call that sleeps, a reward that nobody could foresee. Its own `EnvConfig`.

    Attributes:
      lengths: of answers, in tokens.
      latencies: seconds of a call; None for none.
      count: tasks.
    """

    lengths: LogNormal = LENGTHS
    latencies: LogNormal | None = None
    count: int = 4096
    name: ClassVar[str] = "sleepy"
    stop_ids: ClassVar[tuple[int, ...]] = ()
    vocab_size: ClassVar[int] = VOCABULARY
    instant: ClassVar[bool] = False

    def open(self, vocabulary, held_out: bool = False) -> "Sleepy":
        return replace(self)

    def tasks(self) -> list[Task]:
        return [Task(str(number)) for number in range(self.count)]

    @cached_property
    def _turns(self) -> dict[str, int]:
        """The number of the ticket that a task is for."""
        order = Curriculum().order({self.name: [task.name for task in self.tasks()]})
        return {order(number).task: number for number in range(self.count)}

    @cached_property
    def _begun(self) -> Counter[str]:
        return Counter()

    def start(self, task: Task) -> tuple[dict[str, float], Transition]:
        # The draws of a member of a group as `simulate` makes them; which of its members is called first is all one.
        turn, member = self._turns[task.name], self._begun[task.name]
        self._begun[task.name] += 1
        draw = Random(turn)
        draw.random()
        drawn = [(draw.gauss(), draw.gauss()) for _ in range(MEMBERS)][member % MEMBERS]
        latency = self.latencies.at(drawn[1]) if self.latencies else 0.0
        state = {"length": max(1, round(self.lengths.at(drawn[0]) - PROMPT)), "latency": latency}
        return state, Transition(tuple(1 + (turn * PROMPT + place) % (VOCABULARY - 1) for place in range(PROMPT)))

    def step(self, state: dict[str, float], action: tuple[int, ...]) -> Transition:
        time.sleep(state["latency"])
        return Transition(over=True, outcomes={"score": hash(tuple(action)) % 997 / 996})

    def max_action(self, state: dict[str, float]) -> int:
        return state["length"]

    def close(self, state: dict[str, float]) -> None:
        pass


def configured(steps: int, rows: int, latencies: LogNormal | None = None, ahead: int = 1) -> Rl:
    """A run of `steps` steps of `rows` rows; `ahead` times the groups of a step are under way on the sampler."""
    batching = Batching(rows * (LONGEST + PROMPT), rows, LONGEST + PROMPT, GROUPS, (Stale(),))
    return Rl(
        model=MODEL, environments=(Environment(Sleepy(latencies=latencies), Score()),), steps=steps,
        learning=Learning(batching=batching), admission=Admission(4, GROUPS), checkpoint_every=10**6,
        sampling=Sampling(MEMBERS, GROUPS * ahead, SLOTS * ahead, poll=0.02, ask=0.01),
        drawing=Drawing(max_context=LONGEST + PROMPT), examining=Examining(1, 10**6),
        engine=EngineConfig(SLOTS, LONGEST + PROMPT, page=32, chunk=32, rows=SLOTS, steps=4, prefixes=0),
    )  # fmt: skip


def _prepare(core: int, compiled: str) -> None:
    """A process for one role after the other."""
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    pin(core)
    import jax

    jax.config.update("jax_compilation_cache_dir", compiled)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


class _Boards(BaseManager):
    """Runs a board in a process of its own."""


def _board(rl: Rl, run: Path) -> Board:
    tasks = {name: [task.name for task in one.env.tasks()] for name, one in rl.playgrounds().items()}
    return Board(run, rl.curriculum.order(tasks), rl.admission, rl.ttl)


_Boards.register("board", _board, exposed=("lease", "renew", "give_back", "accounts"))


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
        """Its like for the simulation, whose token takes `base` seconds, and reading one `read`."""
        latencies = self.rl.environments[0].env.latencies or LogNormal(1e-9)
        episodes = Episodes(LENGTHS, 1 - PROMPT / LENGTHS.mean, 1, latencies, MEMBERS)
        sampling = self.rl.sampling
        samplers = Samplers(1, sampling.groups, SLOTS, sampling.threads, base, 0.0, read)
        return System(self.rl.steps, WARM, self.seconds * self.learner, Admission(4, GROUPS), samplers, episodes,
                      self.publishing)  # fmt: skip


class Pair:
    """A learner's process and a sampler's; runs come one after the other, so that Python and JAX start once."""

    def __init__(self, folder: Path):
        self.folder, self._count = folder, 0
        context, compiled = get_context("spawn"), str(folder / "compiled")
        self.learner, self.sampler = (ProcessPoolExecutor(1, context, _prepare, (core, compiled)) for core in range(2))

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
        steps = learner_steps(run)
        first, last = steps[WARM - 1], steps[-1]
        wall = last["time"] - first["time"]
        learnt = sum(last["hours"][part] - first["hours"][part] for part in ("pack", "h2d", "fwd_bwd", "publish_block"))
        lines = [row for row in read_figures(run, "sampler-0") if first["time"] - 1 < row["time"] < last["time"] + 1]
        drawn = [sum(row["hours"][part] for part in ("decode", "prefill", "reprefill")) for row in lines]
        busy = (drawn[-1] - drawn[0]) / (lines[-1]["time"] - lines[0]["time"]) if len(lines) > 1 else float("nan")
        weights = {one["version"]: one for one in taken(run, 1)}
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
