"""Asynchronous RL against the same run synchronous, and what its parts cost: rows R1 to R10.

    python benchmarks/rl_async.py [--quick] [--out FILE]

Both sides are one configuration, tasks and groups of a step alike; one of them is `synchronous(rl)`. Learner and
sampler are processes with a core each (Ray's own processes would disturb them; R9, where roles die, is on Ray).
Environments only sleep. Lengths of answers and latencies are lognormal, and the very ones that the simulation of the
same system draws, so its speed-up is the bound; what a step, a token and a publication take in it was measured in the
synchronous runs. All is compiled before, counted is from step 3 on, the sides run in turns, the median counts.

R1 step for step; R2, R3 how busy sampler and learner are where each is the bottleneck; R4 the pause of a swap, on an
engine alone; R5 from publishing until the weights are there, in another process; R6 a swap in flight against one that
waits until no answer is under way; R7 reward for as many samples; R8 latency that is hidden; R9 what a killed
role costs beside the time between two checkpoints; R10 caches of layers with windows.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

import numpy as np
from decode import long_context
from result import flags, row, tell
from rl_pair import LARGER, MODEL, SLOTS, VOCABULARY, Pair, Ran, configured
from rl_parts import kill_each, publish, speed, swap_pauses, take, tokens_per_second

from cwm_jax.checkpoints.weights import WeightsIndex
from cwm_jax.rl.cli import load, synchronous
from cwm_jax.rl.examiner import Examining
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.simulate import LogNormal, simulate

ROOT = Path(__file__).resolve().parent.parent
SYNCHRONOUS = "the same run synchronous"


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
        made.append(row(f"R1 a step, {name}", *numbers, SYNCHRONOUS, "s", goal, numbers[1] / bound))
    for model, telling in ((MODEL, 3), (LARGER, 6)):
        slower = compare(1, configured(6 if quick else 12, telling=telling, model=model))
        numbers = [100 * _median(some, lambda ran: ran.sampler) for some in slower]
        size = WeightsIndex(model, VOCABULARY, "float32").parameters / 1e6
        what = f"R2 sampler busy, the bottleneck: {size:.1f} M parameters, of {telling} groups 1 is learnt from"
        made.append(row(what, *numbers, SYNCHRONOUS, "%", 95 / numbers[1], 100))
    numbers = [100 * _median(some, lambda ran: ran.learner) for some in balanced]
    made.append(row("R3 learner busy, generation is faster", *numbers, SYNCHRONOUS, "%", 85 / numbers[1], 100))
    sides = [pair.run(configured(7 if quick else 16, one, ahead=4)) for one in (LogNormal(0.5, 0.5), None)]
    numbers = [one.seconds for one in sides]
    made.append(row("R8 a step, latency of 0.5 s", *numbers, "the same without latency", "s", 1 / 1.1, numbers[1]))
    return made


def rows_of_engines(pair: Pair, quick: bool) -> list[dict]:
    """R4, R5 and R6."""
    made, ask = [], pair.sampler.submit
    for on_swap, peer, goal in (("keep", "a step without a swap", 1 / 1.2), ("recompute", "reading as much", 0.8)):
        gaps = ask(swap_pauses, on_swap, 3 if quick else 8).result()
        for share in (0.5, 0.99):
            numbers = [float(np.quantile(some, share)) for some in gaps]
            made.append(row(f"R4 swap pause, {on_swap}, p{share * 100:.0f}", *numbers, peer, "steps", goal, 1.0))
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
        made.append(row(f"R5 from publishing until weights are there, {megabytes} MB", *numbers, peer, "ms", 0.5, None))
    found = ask(tokens_per_second, 96 if quick else 384, 1 if quick else 3).result()
    numbers = (statistics.median(one[place] for one in found) for place in range(2))
    base, _ = ask(speed).result()
    made.append(row("R6 swaps in flight, sigma 0.9", *numbers, "drained before", "tokens/s", 1.1, SLOTS / base))
    return made


def seeded(rl: Rl, seed: int) -> Rl:
    """The same run from other weights, with its tasks in another order."""
    return replace(rl, seed=seed, curriculum=replace(rl.curriculum, seed=seed))


def rows_of_learning(pair: Pair, quick: bool) -> list[dict]:
    """R7."""
    rl = load([str(ROOT / "experiments/tiny/reverse.gin")], [])
    batching = replace(rl.learning.batching, groups=rl.admission.groups, tokens=rl.learning.batching.rows * 64)
    rl = replace(rl, steps=20 if quick else 120, learning=replace(rl.learning, batching=batching),
                 examining=Examining(1, 10**6))  # fmt: skip
    seeds = range(1 if quick else 5)  # a toy from random weights: one seed differs from another by half
    areas = [
        statistics.mean(reward for seed in seeds for reward in pair.run(seeded(side, seed)).rewards)
        for side in (rl, synchronous(rl))
    ]
    samples = len(seeds) * rl.steps * rl.admission.groups * rl.sampling.members
    return [row(f"R7 mean reward of {samples:,} samples, reverse", *areas, SYNCHRONOUS, "reward", 0.95, 1.0)]


def rows_of_kills(pair: Pair, quick: bool) -> list[dict]:
    """R9."""
    roles = {"board": 15, "env": 40, "sampler-0": 65, "learner": 100}
    roles = {"board": 8, "sampler-0": 16} if quick else roles
    costs = kill_each(pair.folder / "kills", roles, *((30, 20, 8) if quick else (130, 40, 25)))
    between = costs.pop("")
    peer = "between two checkpoints; no group lost"
    return [row(f"R9 a killed {role}", max(cost, 1e-3), between, peer, "s", 1.0, None) for role, cost in costs.items()]


def rows_of_caches(pair: Pair, quick: bool) -> list[dict]:
    """R10."""
    found = long_context()
    return [found | {"case": f"R10 {found['case']}: sum over layers of min(window, T) * 2 * heads * 128 * 2 bytes"}]


PARTS = {
    "runs": rows_of_runs, "engines": rows_of_engines, "learning": rows_of_learning, "kills": rows_of_kills,
    "caches": rows_of_caches,
}  # fmt: skip


def _median(runs: list[Ran], of: Callable[[Ran], float]) -> float:
    return statistics.median(map(of, runs))


def main() -> None:
    parser = flags(__doc__, "one round of short runs, two roles killed")
    parser.add_argument("--part", nargs="+", choices=PARTS, help="these rows alone")
    arguments = parser.parse_args()
    made, parts = [], arguments.part or PARTS
    with tempfile.TemporaryDirectory() as folder, Pair(Path(folder)) as pair:
        for name in (name for name in PARTS if name in parts):
            made += PARTS[name](pair, arguments.quick)
    made.sort(key=lambda row: int(row["case"].split()[0][1:]))
    tell("rl_async", made, arguments.out)


if __name__ == "__main__":
    main()
