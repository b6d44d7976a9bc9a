"""Tokens a second and peak memory of training, ours against `CwmForCausalLM` of `transformers` on torch.

    python benchmarks/train_vs_transformers.py [--quick] [--out FILE] [--case NAME ...]

Both sides have the same initial weights, batch, dtype, AdamW with clipping, and all cores, and a process of their own.
They run in turns, the median of the rounds counts, and after their first steps their losses must be the same. Theirs
attends with `sdpa` and has the fused AdamW; it runs eagerly and under `torch.compile`.

The bound is what the cores allow: the matrix products of a step, forward and backward, each as fast as the faster of
the two libraries multiplies here in this run, attention at the mean speed of those, and nothing else. FLOPs are counted
causal halved, window credited, the head counted, nothing recomputed. The goal is twice their speed, or 85 % of the
bound where that is lower; in memory, no more than theirs.

Where there is a CUDA GPU the case is a slice of the 32 B model instead, and utilisation, by the same count, has a row.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

from result import flags, row, tell
from training_cases import CASES, Case

MODES = {"theirs": "eager", "compiled": "torch.compile"}
# Dense bfloat16 FLOP/s as the maker states them.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12}


class Side:
    """A running `training_sides.py`."""

    def __init__(self, side: str, case: str, weights: Path):
        self._log = weights.with_name(f"{side}.log")
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("training_sides.py"), side, case, weights],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
            env=os.environ | {"PYTHONPATH": sys.path[0]},
        )

    def ask(self, command: str) -> Any:
        """The answer to a command.

        Raises:
          RuntimeError: the process died; with the end of what it wrote.
        """
        try:
            print(command, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{self._log.stem} died at {command!r}:\n{self._log.read_text()[-3000:]}")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


class Found(NamedTuple):
    """What was measured of a case, by side.

    Attributes:
      rate: tokens a second.
      memory: peak bytes.
      fastest: seconds of each product, in whichever library.
    """

    rate: dict[str, float]
    memory: dict[str, float]
    fastest: dict[str, float]


def measure(name: str, groups: list[tuple[str, ...]], rounds: int, seconds: float) -> Found:
    """Runs the sides of a case.

    Args:
      name: of the case.
      groups: sides that run in turns, each group after the one before; `ours`, which makes the weights, is the first.
      rounds: how often each side is timed.
      seconds: about how long the slowest side is timed in a round.

    Raises:
      RuntimeError: a side died, or the losses are not the same.
    """
    case, steps = CASES[name], 0
    rates, losses, memory, fastest = {}, {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for group in groups:
            sides = {}
            for side in group:
                sides[side] = Side(side, name, Path(folder) / "weights")
                sides[side].ask("train 2")  # compiles
            first = {side: sides[side].ask("train 2") for side in group}
            losses |= {side: answer["loss"] for side, answer in first.items()}
            _check_losses(name, losses)
            steps = steps or max(1, round(seconds / max(answer["seconds"] / 2 for answer in first.values())))
            for _ in range(rounds):
                for side in group:
                    taken = sides[side].ask(f"train {steps}")["seconds"]
                    rates.setdefault(side, []).append(steps * case.tokens / taken)
            memory |= {side: sides[side].ask("memory") for side in group}
            for side in group * min(3, rounds):
                for product, taken in sides[side].ask("products").items():
                    fastest[product] = min(taken, fastest.get(product, taken))
            for side in sides.values():
                side.close()
    return Found({side: statistics.median(found) for side, found in rates.items()}, memory, fastest)


def _check_losses(name: str, losses: dict[str, float]) -> None:
    """After four steps; after hundreds on one batch rounding parts even their eager and their compiled side."""
    if max(losses.values()) - min(losses.values()) > CASES[name].tolerance * max(losses.values()):
        raise RuntimeError(f"{name}: after the same steps the losses are {losses}")


def bound(case: Case, fastest: dict[str, float]) -> float:
    """Tokens a second if a step were its products alone, each as fast as either library multiplies."""
    counts, seconds = case.products(), 0.0
    for product, taken in fastest.items():
        K, M, _ = product.split()
        seconds += counts[int(K), int(M)] * taken
    return case.tokens / (seconds * (1 + case.attention_flops() / case.product_flops()))


def rows(name: str, found: Found) -> list[dict]:
    """What is said of one case: against each of theirs speed, memory, and on a GPU utilisation."""
    case, made = CASES[name], []
    limit = bound(case, found.fastest)

    for side in found.rate.keys() & MODES:
        peer = f"transformers {version('transformers')}, torch {version('torch')}, {MODES[side]}"
        ours, theirs = found.rate["ours"], found.rate[side]
        goal = min(2.0, 0.85 * limit / theirs)
        made.append(row(f"{name}, speed", ours, theirs, peer, "tokens/s", goal, limit))
        ours_mib, theirs_mib = (found.memory[one] / 2**20 for one in ("ours", side))
        made.append(row(f"{name}, peak memory", ours_mib, theirs_mib, peer, "MiB", 1.0))
        if case.gpu:
            share = (case.product_flops() + case.attention_flops()) / case.tokens / _peak()
            ours, theirs = ours * share, theirs * share
            goal = max(1.0, 0.5 / theirs)
            made.append(row(f"{name}, utilisation", ours, theirs, peer, "MFU", goal, limit * share))
    return made


def _gpu() -> str | None:
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True).stdout.partition("\n")[0] or None


def _peak() -> float:
    gpu = _gpu() or ""
    known = [flops for name, flops in PEAKS.items() if name in gpu]
    if not known:
        raise SystemExit(f"the peak of {gpu!r} is not known; add it to PEAKS in {__file__}")
    return known[0]


def main() -> None:
    parser = flags(__doc__, "one case, short rounds, theirs not compiled")
    parser.add_argument("--case", nargs="+", choices=CASES, help="default: those for the hardware at hand")
    arguments = parser.parse_args()
    gpu = _gpu()
    names = arguments.case or [name for name, case in CASES.items() if case.gpu == bool(gpu) and name != "toy"]
    sides = ("ours", "theirs") if arguments.quick else ("ours", "theirs", "compiled")
    rounds, seconds = (3, 2.0) if arguments.quick else (7, 8.0)
    names = names[:1] if arguments.quick else names
    made = []
    for name in names:
        print(f"{name}: {CASES[name].describe()}", flush=True)
        # A GPU holds one side at a time; it has no other users, so turns are not needed.
        groups = [(side,) for side in sides] if CASES[name].gpu else [sides]
        made += rows(name, measure(name, groups, rounds, seconds))
    shapes = {name: CASES[name].describe() for name in names}
    tell("train_vs_transformers", made, arguments.out, gpu, shapes=shapes)


if __name__ == "__main__":
    main()
