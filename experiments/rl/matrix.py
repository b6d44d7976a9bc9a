"""Staleness 0, 1, 4 and 8, caches kept and read anew at a swap, three seeds: does it learn alike (T10)?

    make rl-matrix      (python experiments/rl/matrix.py [--staleness 0 4] [--kv keep] [--seeds 0])

Writes experiments/rl/matrix.json. Every cell that is done is kept in runs/rl-matrix/, so the same call goes on where it
was stopped; delete that folder to begin anew. All roles of a cell are in one process, in turns
(`cwm_jax.rl.in_one_process`), so a cell gives the same numbers every time; two cells run at once, each on a core.

Staleness is really there: the engine has room for all groups that admission lets begin, it takes new weights between
any two tokens, and the learner is slow enough for groups to wait for it. No token is older than the staleness of its
cell (`Stale.oldest`); `age` tells how old tokens were, `segments` how many weights drew a trajectory. A cell ends when
its held-out reward has come to the goal, as a policy that is right gives hardly any batches; `steps` tells when, and
`area` how much was learnt of as many samples: held-out reward, averaged over as many steps as every cell has, as a
ratio to the same seeds without staleness (R7). It ends short of the goal after `BUDGET` tokens: a policy that has
become sure of something wrong draws groups of one mind, from which nothing is learnt. Groups have 16 members, as of 8
some seeds got stuck that way a little below the goal.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, MutableMapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs as a file from anywhere

import jax
import numpy as np

from cwm_jax.files import write_json
from cwm_jax.report.progress import progress
from cwm_jax.rl.cli import load
from cwm_jax.rl.examiner import read_examinations
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.in_one_process import run_together, together
from cwm_jax.rl.roles import pin

COMMAND = "make rl-matrix"
ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_suffix(".json")
CELLS = ROOT / "runs/rl-matrix"
GIN = ROOT / "experiments/tiny/reverse.gin"
STALENESS, KV, SEEDS = (0, 1, 4, 8), ("keep", "recompute"), (0, 1, 2)
GOAL = 0.9  # of held-out reward (T10)
CORES = 2
BUDGET = 3_000_000  # tokens drawn, several times what a cell takes
LEARNER_EVERY = 4  # tokens that are drawn while the learner makes a step; an answer has up to five


class Cell(NamedTuple):
    """What differs."""

    staleness: int
    kv: str
    seed: int

    @property
    def path(self) -> Path:
        """Where what came of it is kept."""
        return CELLS / f"staleness-{self.staleness} {self.kv} seed-{self.seed}.json"

    @property
    def done(self) -> bool:
        """Whether it was run, with this configuration."""
        return self.path.exists() and json.loads(self.path.read_text()).get("configuration") == self.digest

    @property
    def digest(self) -> str:
        """Of its configuration."""
        return hashlib.sha256(repr(self.rl).encode()).hexdigest()[:16]

    @property
    def rl(self) -> Rl:
        """Its configuration: a step takes the groups of `reverse.gin`, at every staleness as many."""
        groups, members = 8, 16
        begun = groups * (self.staleness + 1)
        changes = {
            "Rl.steps": 600, "Rl.checkpoint_every": 10_000, "Rl.seed": self.seed, "Curriculum.seed": self.seed,
            "AdamW.peak_lr": 1e-3, "WarmupConstantDecay.decay": 0.3,
            "Admission.staleness": self.staleness, "Admission.groups": groups, "Batching.groups": groups,
            "Examining.every": 25, "Batching.rows": 24, "Batching.tokens": 1536, "Stale.oldest": self.staleness,
            "Drawing.kv": f'"{self.kv}"', "Sampling.members": members, "Sampling.groups": begun,
            "EngineConfig.slots": begun * members, "EngineConfig.rows": 64, "EngineConfig.page": 16,
            "EngineConfig.chunk": 16, "EngineConfig.steps": 1, "EngineConfig.queue": 8192,
        }  # fmt: skip
        return load([str(GIN)], [f"{name}={value}" for name, value in changes.items()])


def run_cell(cell: Cell, made: MutableMapping[Cell, int]) -> None:
    """Runs a cell to its end, and keeps what came of it; `made` hears of every step."""
    began, steps = time.monotonic(), []

    def told(step: int, metrics: dict[str, Any]) -> None:
        steps.append(metrics)
        made[cell] = step

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        with together(cell.rl, run) as roles:
            best: dict[int, float] = {}  # by how many examinations there are

            def enough() -> bool:
                if sum(sampler.engine.counts.made for sampler in roles.samplers) > BUDGET:
                    return True
                count = len(os.listdir(run / "held_out"))
                if count not in best:
                    best[count] = max((_reward(one) for one in read_examinations(run)), default=0.0)
                return best[count] >= GOAL

            run_together(roles.learner, roles.samplers, told, LEARNER_EVERY, enough)
            if not roles.board.accounts().holds:
                raise ArithmeticError(f"the accounts of {cell} do not add up: {roles.board.accounts()}")
        held_out = {one["step"]: _reward(one) for one in read_examinations(run)}
    seconds = time.monotonic() - began
    told_of = {"seconds": seconds, "steps": steps[-1]["step"], "held_out": held_out, **_figures(steps)}
    write_json(cell.path, {**cell._asdict(), "configuration": cell.digest, **told_of})
    made[cell] = cell.rl.steps  # the rest is not needed


def _reward(examination: dict[str, Any]) -> float:
    return examination["environments"]["reverse"]["reward"]


def _figures(steps: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of all tokens that were learnt from; the first tenth of the steps, where queues fill, apart from ages."""
    ages = np.concatenate([np.repeat(np.arange(len(row["age"])), row["age"]) for row in steps[len(steps) // 10 :]])
    classes = [row["by_age"] for row in steps]
    tokens = np.array([row["tokens"] for row in classes])

    def mean(name: str) -> float:
        values = np.array([[value or 0.0 for value in row[name]] for row in classes])
        return float((values * tokens).sum() / tokens.sum())

    return {
        "age": float(ages.mean()), "oldest": int(ages.max()), "clipped": mean("clip_low") + mean("clip_high"),
        "gap": mean("gap"), "segments": float(np.mean([row["segments"] for row in steps])),
    }  # fmt: skip


def summary(cells: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each staleness and treatment of caches, over its seeds."""
    cells, rows = list(cells), []
    steps = min(max(map(int, one["held_out"])) for one in cells)

    def area(some: Sequence[dict[str, Any]]) -> float:
        return float(np.mean([r for one in some for step, r in one["held_out"].items() if int(step) <= steps]))

    for staleness, kv in sorted({(one["staleness"], one["kv"]) for one in cells}):
        some = [one for one in cells if (one["staleness"], one["kv"]) == (staleness, kv)]
        seeds = {one["seed"] for one in some}
        fresh = [one for one in cells if (one["staleness"], one["kv"]) == (0, kv) and one["seed"] in seeds]
        after = [one["held_out"][max(one["held_out"], key=int)] for one in some]
        rows.append(
            {
                "staleness": staleness, "kv": kv, "seeds": len(some), "reward": float(np.mean(after)),
                "spread": float(np.ptp(after)), "least": min(after),
                **{name: float(np.mean([one[name] for one in some]))
                   for name in ("steps", "age", "clipped", "gap", "segments", "seconds")},
                "oldest": max(one["oldest"] for one in some),
                "area": area(some) / area(fresh) if len(fresh) == len(some) else None,
            }
        )  # fmt: skip
    return rows


def _prepare(cores: Any, compiled: str) -> None:
    """A process for cells, on a core that no other has."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    pin(cores.get())
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", compiled)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def run_all(cells: Sequence[Cell]) -> None:
    """Runs those that are not done."""
    missing = [cell for cell in cells if not cell.done]
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as compiled, context.Manager() as manager:
        cores = manager.Queue()
        for core in range(CORES):
            cores.put(core)
        made = manager.dict()
        with (
            ProcessPoolExecutor(CORES, context, _prepare, (cores, compiled)) as pool,
            progress("rl-matrix", sum(cell.rl.steps for cell in missing), unit="steps") as bar,
        ):
            running = {pool.submit(run_cell, cell, made) for cell in missing}
            while running:
                done, running = wait(running, 2.0)
                for future in done:
                    future.result()
                bar.update(sum(made.values()), f"{len(missing) - len(running)} of {len(missing)} cells")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--staleness", nargs="+", type=int, default=STALENESS, help="those alone")
    parser.add_argument("--kv", nargs="+", choices=KV, default=KV, help="those alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="those alone")
    arguments = parser.parse_args()
    run_all([Cell(*one) for one in product(arguments.staleness, arguments.kv, arguments.seeds)])
    every = [Cell(*one) for one in product(STALENESS, KV, SEEDS)]
    cells = [json.loads(cell.path.read_text()) for cell in every if cell.done]
    rows = summary(cells)
    for row in rows:
        print(
            f"staleness {row['staleness']}, {row['kv']:>9}: reward {row['reward']:.3f} (least {row['least']:.3f}) "
            f"in {row['steps']:.0f} steps, age "
            f"{row['age']:.2f}, at most {row['oldest']}; clipped {row['clipped']:.1%}, gap {row['gap']:.4f}; "
            f"area {row['area'] or float('nan'):.3f}"
        )
    missing = [cell._asdict() for cell in every if not cell.done]
    met = not missing and all(row["least"] >= GOAL for row in rows)
    print(f"held-out reward of {GOAL} and more everywhere: {'yes' if met else 'no'}")
    write_json(TABLE, {"command": COMMAND, "goal": GOAL, "met": met, "missing": missing, "rows": rows, "cells": cells})


if __name__ == "__main__":
    main()
