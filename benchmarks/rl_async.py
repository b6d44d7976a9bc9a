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

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

import numpy as np
from decode import long_context

from cwm_jax.envs.env import Score, Task, Transition
from cwm_jax.inference.engine import Engine, EngineConfig
from cwm_jax.inference.request import Request, Token
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder
from cwm_jax.rl.batches import Batching, Stale
from cwm_jax.rl.board import Admission
from cwm_jax.rl.cli import load, synchronous
from cwm_jax.rl.curriculum import Curriculum
from cwm_jax.rl.examiner import Examining
from cwm_jax.rl.experiment import Environment, Rl
from cwm_jax.rl.learner import Learning
from cwm_jax.rl.on_ray import run_on_ray
from cwm_jax.rl.policy import PolicyReader, Publisher
from cwm_jax.rl.results import learner_steps, taken
from cwm_jax.rl.roles import Context, LearnerRole, SamplerRole, board_of, compile_once, pin, read_figures
from cwm_jax.rl.rollout import Drawing
from cwm_jax.rl.sampler import Sampling
from cwm_jax.rl.simulate import Episodes, LogNormal, Publishing, Samplers, System, simulate

ROOT = Path(__file__).resolve().parent.parent
WARM = 3  # steps before anything counts
MEMBERS, GROUPS = 4, 8  # of a group; of a step, and under way at once
SLOTS = MEMBERS * GROUPS // 2  # so that drawing a step's groups takes about as long as learning from them
PROMPT, LONGEST = 4, 252
LENGTHS = LogNormal(64, 0.5, LONGEST)
MODEL = ModelConfig(layers=2, d_model=128, q_heads=4, kv_heads=2, head_dim=32, d_ff=384)
VOCABULARY = 512
ROWS = 12  # of a batch: a step takes about as long as its groups
SYNCHRONOUS = "the same run synchronous"
MORE_IS_BETTER = ("tokens/s", "%", "reward")


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


def configured(steps: int, latencies: LogNormal | None = None, ahead: int = 1, telling: int = 1) -> Rl:
    """A run of `steps` steps; `ahead` times the groups of a step are under way on the sampler."""
    batching = Batching(ROWS * (LONGEST + PROMPT), ROWS, LONGEST + PROMPT, GROUPS, (Stale(),))
    return Rl(
        model=MODEL, environments=(Environment(Sleepy(latencies, telling), Score()),), steps=steps,
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


def engine_of(config: EngineConfig, model: ModelConfig = MODEL) -> tuple[Engine, Any]:
    """A compiled engine of random weights, and the weights."""
    params = init_params(model, VOCABULARY, 0)
    engine = Engine(rebuilder(model, VOCABULARY), params, config)
    for _ in engine.compile():
        pass
    return engine, params


def speed() -> tuple[float, float]:
    """Seconds of a step of decoding with all slots busy, and of reading a token of a prompt; on the engine alone."""
    engine, _ = engine_of(configured(1).engine)
    making, reading = [], []
    for _ in range(3):
        for number in range(SLOTS):
            engine.submit(Request((1 + number,) * PROMPT, 100, 1.0, seed=number))
        before = replace(engine.counts)
        while any(not one.decoding for one in engine.scheduler.running) or engine.counts.read == before.read:
            engine.step()
        reading.append((engine.counts.seconds_reading - before.seconds_reading) / (engine.counts.read - before.read))
        while engine.busy:
            if len(engine.scheduler.running) < SLOTS or engine.counts.made - before.made > SLOTS * 90:
                engine.step()
                continue
            made, seconds = engine.counts.made, engine.counts.seconds_making
            engine.step()
            making.append((engine.counts.seconds_making - seconds) * SLOTS / max(engine.counts.made - made, 1))
    return statistics.median(making), statistics.median(reading)


def swap_pauses(on_swap: str, swaps: int) -> tuple[list[float], list[float]]:
    """R4: gaps around swaps, and those of the peer, in steps of decoding.

    The peer of `keep` is the gap where nothing was swapped, that of `recompute` the wait of fresh prompts as long.
    """
    engine, params = engine_of(EngineConfig(SLOTS, 1024, page=16, chunk=64, rows=8, steps=1, prefixes=0))
    for number in range(SLOTS):
        engine.submit(Request((1 + number,) * 64, 900, 1.0, seed=number, on_swap=on_swap))
    last: dict[int, tuple[int, float]] = {}
    plain, gaps, lengths = [], [], []
    for version in range(swaps + 1):
        if version:
            lengths.append(round(statistics.mean(len(one.tokens) for one in engine.scheduler.running)))
            engine.swap(params, version)
        quiet = 0
        while quiet < 12:
            crossed = False
            for number, event in engine.step():
                before, then = last.get(number, (None, 0.0))
                last[number] = event.version, time.perf_counter()
                if before == event.version and quiet > 1:
                    plain.append(last[number][1] - then)
                elif before is not None and before != event.version:
                    gaps.append(last[number][1] - then)
                crossed |= before != event.version
            quiet = 0 if crossed or len(last) < SLOTS else quiet + 1
    step = statistics.median(plain)
    peer = plain if on_swap == "keep" else _waits(engine, lengths)
    return [gap / step for gap in gaps], [gap / step for gap in peer]


def _waits(engine: Engine, lengths: list[int]) -> list[float]:
    """Seconds until as many prompts as there are slots have their first tokens, all asked for at once; each length."""
    found = []
    for turn, length in enumerate(lengths):
        engine.forget([one.number for one in engine.scheduler.running])
        prompts = [((1 + turn, 100 + number) * length)[:length] for number in range(SLOTS)]
        began = time.perf_counter()
        left = {engine.submit(Request(prompt, 100, 1.0, seed=number)) for number, prompt in enumerate(prompts)}
        while left:
            for number, event in engine.step():
                if isinstance(event, Token) and number in left:
                    left.remove(number)
                    found.append(time.perf_counter() - began)
    return found


def tokens_per_second(answers: int, rounds: int, sigma: float = 0.9) -> list[tuple[float, float]]:
    """R6: with a swap for as many tokens as all slots' answers have, in flight and when no answer is under way."""
    engine, params = engine_of(configured(1).engine)
    return [tuple(_rate(engine, params, drained, answers, sigma) for drained in (False, True)) for _ in range(rounds)]


def _rate(engine: Engine, params: Any, drained: bool, answers: int, sigma: float) -> float:
    lengths, rng, first = LogNormal(64, sigma, LONGEST - PROMPT), Random(0), engine.counts.made
    each = round(SLOTS * lengths.mean_of(lambda length: length))
    due, left, began = first + each, answers, time.perf_counter()
    while left or engine.busy:
        if engine.counts.made >= due and not (drained and engine.busy):
            due = engine.counts.made + each
            engine.swap(params, engine.version + 1)
        while left and len(engine.scheduler.running) + engine.scheduler.waiting < SLOTS:
            if drained and engine.counts.made >= due:
                break
            engine.submit(Request((1 + left % 500,) * PROMPT, max(1, round(lengths.at(rng.gauss()))), 1.0, seed=left))
            left -= 1
        engine.step()
    return (engine.counts.made - first) / (time.perf_counter() - began)


def publish(run: Path, megabytes: int) -> tuple[float, float]:
    """When a publication began and when it was announced, by the clock on the wall."""
    import jax.numpy as jnp

    params = {f"w{number}": jnp.ones((megabytes, 25_000), jnp.float32) for number in range(10)}
    with Publisher(run) as publisher:
        began = time.time()
        publisher.publish(params, 1)
        publisher.wait()
        return began, time.time()


def take(run: Path, megabytes: int, after: int) -> tuple[float, float]:
    """When a version above `after` was seen and when it was ready to be drawn with."""
    import jax
    import jax.numpy as jnp

    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shape = jax.ShapeDtypeStruct((megabytes, 25_000), jnp.float32, sharding=place)
    reader = PolicyReader(run, "host")
    while (newest := reader.newest()) is None or newest.version <= after:
        time.sleep(0.02)
    seen = time.time()
    jax.block_until_ready(reader.load(newest, {f"w{number}": shape for number in range(10)}))
    reader.use(newest.version)
    return seen, time.time()


def kill_each(folder: Path, roles: dict[str, int], steps: int, every: int, watched: int) -> dict[str, float]:
    """R9: seconds that a `kill -9` of each role cost, over `watched` steps from the one at which it was done.

    Args:
      folder: of the run.
      roles: the step at which each is killed.
      steps: of the run.
      every: steps between checkpoints.
      watched: steps.

    Returns:
      And under the empty name, seconds between two checkpoints.

    Raises:
      ArithmeticError: a group was lost, or is in two places.
    """
    rl = replace(configured(steps), checkpoint_every=every, ttl=8.0)
    killed: dict[str, int] = {}

    def watch() -> None:
        while len(killed) < len(roles):
            time.sleep(0.05)
            done = max((row["step"] for row in learner_steps(folder)), default=0)
            for role, step in roles.items():
                if done >= step and role not in killed:
                    killed[role] = done
                    os.kill(json.loads((folder / "board" / "roles.json").read_text())[role], signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    came_to = run_on_ray(rl, folder, None, lambda accounts: None)
    if not came_to["accounts"].holds or {role for role, count in came_to["restarts"].items() if count} != {*roles}:
        raise ArithmeticError(f"what {folder} came to: {came_to}")
    # Of a step that was made again, when it was made first.
    first = {}
    for row in read_figures(folder, "learner"):
        if "step" in row:
            first.setdefault(row["step"], row["time"])
    spans = [first[step + 1] - first[step] for step in range(WARM, steps)]
    usual = statistics.mean(sorted(spans)[: len(spans) * 9 // 10])
    ends = {role: min(step + watched, steps) for role, step in killed.items()}
    costs = {role: first[end] - first[killed[role]] - usual * (end - killed[role]) for role, end in ends.items()}
    return costs | {"": usual * every}


def rows_of_runs(pair: Pair, quick: bool) -> list[dict]:
    """R1, R2, R3 and R8."""
    base, read = pair.sampler.submit(speed).result()
    pair.run(configured(4))  # compiles all there is
    made = []

    def compare(rounds: int, rl: Rl) -> tuple[list[Ran], list[Ran]]:
        runs = [(pair.run(rl), pair.run(synchronous(rl))) for _ in range(rounds)]
        return [ours for ours, _ in runs], [theirs for _, theirs in runs]

    balanced = compare(1 if quick else 3, configured(7 if quick else 13))
    waiting = compare(1, configured(6 if quick else 8, LogNormal(0.2 if quick else 1.0, 1.2)))
    for name, (ours, theirs) in {"gen:train": balanced, "latency lognormal, sigma 1.2": waiting}.items():
        system = theirs[0].system(base, read)
        inflight = replace(system, admission=ours[0].rl.admission)
        bound = simulate(system).interval / simulate(inflight).interval
        if name == "gen:train":
            drawing, learning = (_median(theirs, lambda ran, what=what: getattr(ran, what) * ran.seconds)
                                 for what in ("sampler", "learner"))  # fmt: skip
            simple = (drawing + learning) / max(drawing, learning)
            name = f"gen:train {drawing:.2f}:{learning:.2f} s, (Tg+Tt)/max {simple:.2f}"
        numbers = _median(ours, lambda ran: ran.seconds), _median(theirs, lambda ran: ran.seconds)
        goal = max(0.9 * bound, 1.5) if ours is balanced[0] else max(0.9 * bound, 3.0 * (bound >= 3))
        made.append(_row(f"R1 a step, {name}", *numbers, SYNCHRONOUS, "s", goal, numbers[1] / bound))
    slower = compare(1, configured(6 if quick else 12, telling=3))
    numbers = (100 * _median(some, lambda ran: ran.sampler) for some in slower)
    made.append(
        _row(
            "R2 sampler busy, the bottleneck: of 3 groups 1 is learnt from",
            *numbers,
            SYNCHRONOUS,
            "%",
            None,
            100,
            least=95,
        )
    )
    numbers = (100 * _median(some, lambda ran: ran.learner) for some in balanced)
    made.append(_row("R3 learner busy, generation is faster", *numbers, SYNCHRONOUS, "%", None, 100, least=85))
    sides = [pair.run(configured(7 if quick else 16, one, ahead=4)) for one in (LogNormal(0.5, 0.5), None)]
    numbers = [one.seconds for one in sides]
    made.append(_row("R8 a step, latency of 0.5 s", *numbers, "the same without latency", "s", 1 / 1.1, numbers[1]))
    return made


def rows_of_engines(pair: Pair, quick: bool) -> list[dict]:
    """R4, R5 and R6."""
    made, ask = [], pair.sampler.submit
    for on_swap, peer, goal in (("keep", "a step without a swap", 1 / 1.2), ("recompute", "reading as much", 0.8)):
        gaps = ask(swap_pauses, on_swap, 3 if quick else 8).result()
        for share in (0.5, 0.99):
            numbers = [float(np.quantile(some, share)) for some in gaps]
            made.append(_row(f"R4 swap pause, {on_swap}, p{share * 100:.0f}", *numbers, peer, "steps", goal, 1.0))
    for megabytes in (10,) if quick else (10, 100):
        found = []
        for turn in range(1 if quick else 3):
            run = pair.folder / f"weights {megabytes} {turn}"
            alone = pair.learner.submit(publish, run, megabytes).result()
            read = ask(take, run, megabytes, 0).result()
            reading = ask(take, run, megabytes, 1)
            began, _ = pair.learner.submit(publish, run, megabytes).result()
            found.append((reading.result()[1] - began, alone[1] - alone[0] + read[1] - read[0]))
        numbers = (1e3 * statistics.median(one[place] for one in found) for place in range(2))
        peer = "commit and restore, one after the other"
        made.append(_row(f"R5 from publishing to drawing, {megabytes} MB", *numbers, peer, "ms", 0.5, None))
    found = ask(tokens_per_second, 96 if quick else 384, 1 if quick else 3).result()
    numbers = (statistics.median(one[place] for one in found) for place in range(2))
    base, _ = ask(speed).result()
    made.append(_row("R6 swaps in flight, sigma 0.9", *numbers, "drained before", "tokens/s", 1.1, SLOTS / base))
    return made


def rows_of_learning(pair: Pair, quick: bool) -> list[dict]:
    """R7."""
    rl = load([str(ROOT / "experiments/tiny/reverse.gin")], [])
    batching = replace(rl.learning.batching, groups=rl.admission.groups, tokens=rl.learning.batching.rows * 64)
    rl = replace(rl, steps=20 if quick else 120, learning=replace(rl.learning, batching=batching),
                 examining=Examining(1, 10**6))  # fmt: skip
    areas = [statistics.mean(pair.run(side).rewards) for side in (rl, synchronous(rl))]
    samples = rl.steps * rl.admission.groups * rl.sampling.members
    return [_row(f"R7 mean reward of {samples:,} samples, reverse", *areas, SYNCHRONOUS, "reward", 0.95, 1.0)]


def rows_of_kills(pair: Pair, quick: bool) -> list[dict]:
    """R9."""
    roles = {"board": 15, "env": 40, "sampler-0": 65, "learner": 100}
    roles = {"board": 8, "sampler-0": 16} if quick else roles
    costs = kill_each(pair.folder / "kills", roles, *((30, 20, 8) if quick else (130, 40, 25)))
    between = costs.pop("")
    peer = "between two checkpoints; no group lost"
    return [_row(f"R9 a killed {role}", max(cost, 1e-3), between, peer, "s", 1.0, None) for role, cost in costs.items()]


def rows_of_caches(pair: Pair, quick: bool) -> list[dict]:
    """R10."""
    row = long_context()
    return [row | {"case": f"R10 {row['case']}: sum over layers of min(window, T) * 2 * heads * 128 * 2 bytes"}]


PARTS = {
    "runs": rows_of_runs, "engines": rows_of_engines, "learning": rows_of_learning, "kills": rows_of_kills,
    "caches": rows_of_caches,
}  # fmt: skip


def _median(runs: list[Ran], of: Callable[[Ran], float]) -> float:
    return statistics.median(map(of, runs))


def _row(
    case: str, ours: float, theirs: float, peer: str, unit: str, goal: float | None, bound: float | None,
    least: float | None = None,
) -> dict:  # fmt: skip
    """A row; `least` is a goal for ours itself."""
    ratio = ours / theirs if unit in MORE_IS_BETTER else theirs / ours
    goal = least / theirs if least else goal
    ours, theirs, ratio, goal = (float(f"{value:.4g}") for value in (ours, theirs, ratio, goal))
    bound = bound and float(f"{bound:.4g}")
    beside = f", bound {bound:g}" if bound is not None else ""
    print(f"{case:>62}  {ours:>8g} against {theirs:>8g} {unit}, {peer}: {ratio:g} (goal {goal:g}{beside})", flush=True)
    return {"case": case, "ours": ours, "theirs": theirs, "peer": peer, "unit": unit, "ratio": ratio, "goal": goal,
            "bound": bound}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of short runs, two roles killed")
    parser.add_argument("--out", type=Path, help="also write the result to this file")
    parser.add_argument("--part", nargs="+", choices=PARTS, help="these rows alone")
    arguments = parser.parse_args()
    made, parts = [], arguments.part or PARTS
    with tempfile.TemporaryDirectory() as folder, Pair(Path(folder)) as pair:
        for name in (name for name in PARTS if name in parts):
            made += PARTS[name](pair, arguments.quick)
    made.sort(key=lambda row: int(row["case"].split()[0][1:]))
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    line = json.dumps({"benchmark": "rl_async", "machine": machine, "rows": made})
    if arguments.out:
        arguments.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
