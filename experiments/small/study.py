"""Which recipe, and what size gives: ablations at the smallest size, and a ladder of sizes with a fit.

    python experiments/small/study.py ablations [--only NAME ...]
    python experiments/small/study.py ladder [--only NAME ...]

Needs the corpus and the lessons of `make small`. Every run is `train` and `evaluate` as users call them, in
runs/small/study/NAME, so the same call goes on where it was stopped; one that differs in its data has a mixture, or
lessons, of its own there. Writes experiments/small/ablations.json or ladder.json, which keep the rows of other calls.

`loss` is the mean over the last twentieth of the steps. Hardly a row comes twice, so it tells of programs not seen
before. The fit of the ladder is Hoffmann et al.'s (2022), L = E + A / N^a + B / D^b, N parameters without embeddings, D
tokens with padding, by least squares of log L; what share of a test set is exact follows from the loss along a logistic
curve. The largest size is no part of the fit: what that says of it is written down before it is trained, and the error
after.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs as a file from anywhere

from cwm_jax.files import write_json

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
RUNS = ROOT / "runs/small/study"
BATCH = 2048
SETS = ("new_programs", "composed", "methods", "human_written", "recorded")


class Size(NamedTuple):
    """The shape of a size; all have four layers."""

    d_model: int
    heads: int

    @property
    def overrides(self) -> dict[str, Any]:
        names = {"d_model": self.d_model, "q_heads": self.heads, "kv_heads": self.heads,
                 "head_dim": self.d_model // self.heads, "d_ff": 2 * self.d_model}  # fmt: skip
        return {f"ModelConfig.{name}": value for name, value in names.items()}


SIZES = {"0.3 M": Size(64, 2), "0.6 M": Size(96, 2), "1.1 M": Size(144, 3), "2.1 M": Size(208, 4)}


class Run(NamedTuple):
    """A run of the study.

    Attributes:
      name: of its folder and row.
      size: a key of `SIZES`.
      tokens: of training, padding included.
      lessons, mixture, train: what gin is told besides, for each of these calls.
    """

    name: str
    size: str
    tokens: int
    lessons: Mapping[str, Any] = MappingProxyType({})
    mixture: Mapping[str, Any] = MappingProxyType({})
    train: Mapping[str, Any] = MappingProxyType({})


def _shares(generated: float, functions: float, thoughts: float, code: float) -> dict[str, Any]:
    shares = {"generated": generated, "real": functions, "thoughts": thoughts, "code": code}
    return {f"{name}/Group.share": share for name, share in shares.items()}


def _ablations() -> list[Run]:
    def run(name: str, **changes: Any) -> Run:
        return Run(name, "0.3 M", 3_000 * BATCH, **changes)

    seed = {"Experiment.seed": 1, "StreamConfig.seed": 1}
    return [
        run("base"),
        run("base, another seed", train=seed),
        run("real code 5 %", mixture=_shares(0.8, 0.05, 0.1, 0.05)),
        run("real code 50 %", mixture=_shares(0.35, 0.5, 0.1, 0.05)),
        run("thoughts 1 %", mixture=_shares(0.69, 0.25, 0.01, 0.05)),
        run("thoughts 30 %", mixture=_shares(0.4, 0.25, 0.3, 0.05)),
        run("code 1 %", mixture=_shares(0.64, 0.25, 0.1, 0.01)),
        run("batches of 4,096 tokens", train={"StreamConfig.tokens_per_batch": 4096, "Experiment.steps": 1_500}),
        run("learning rate halved", train={"Muon.peak_lr": 0.01, "Muon.adam_lr": 0.0015}),
        run("learning rate doubled", train={"Muon.peak_lr": 0.04, "Muon.adam_lr": 0.006}),
        run("AdamW", train={"Experiment.optimizer": "@AdamW()", "AdamW.peak_lr": 3e-3}),
        run("decay over all steps", train={"WarmupConstantDecay.decay": 1.0}),
        run("without the convolution", train={"ModelConfig.conv": None}),
        run("six layers of width 56", train={"ModelConfig.layers": 6, "ModelConfig.d_model": 56,
                                             "ModelConfig.head_dim": 28, "ModelConfig.d_ff": 112}),
        run("names as they are", lessons={"CorpusConfig.renamed": 0.0}),
        run("vocabulary of 640", lessons={"Lessons.vocabulary_size": 640}, train={"PreparedRows.vocabulary_size": 640}),
        run("vocabulary of 2,048", lessons={"Lessons.vocabulary_size": 2048},
            train={"PreparedRows.vocabulary_size": 2048}),
    ]  # fmt: skip


def _ladder() -> list[Run]:
    millions = {"0.3 M": (3, 6, 12), "0.6 M": (3, 6, 12), "1.1 M": (6, 12)}
    return [Run(f"{size}, {m} M tokens", size, m * 1_000_000) for size, some in millions.items() for m in some]


TARGET = Run("2.1 M, 30 M tokens", "2.1 M", 30_000_000)


def _call(verb: str, *arguments: str, **overrides: Any) -> None:
    """A verb as users call it; its progress goes to the terminal."""
    shown = [f"--gin.{name}={value if _is_reference(value) else repr(value)}" for name, value in overrides.items()]
    subprocess.run([sys.executable, "-m", "cwm_jax", verb, *arguments, *shown], cwd=ROOT, check=True)


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("@")


def run(one: Run) -> dict[str, Any]:
    """Prepares what differs, trains and evaluates; the row of the table."""
    folder = RUNS / one.name.replace(",", "").replace(" ", "-")
    lessons, mixture = ROOT / "runs/small/lessons", ROOT / "runs/small/mixture"
    if one.lessons:
        lessons = folder / "lessons"
        _call("prepare", "--gin_file=experiments/small/lessons.gin", "--out", str(lessons), **one.lessons)
    if one.lessons or one.mixture:
        mixture = folder / "mixture"
        sets = {f"{name}/MixedSet.folder": str(lessons / name)
                for name in ("generated", "functions", "thoughts", "reasons", "code")}  # fmt: skip
        asked = sets | {"MixedSet.max_epochs": 20.0} | dict(one.mixture)
        _call("prepare", "--gin_file=experiments/small/mixture.gin", "--out", str(mixture), **asked)
    settings = {"PreparedRows.folder": str(mixture), "Experiment.steps": one.tokens // BATCH}
    settings |= SIZES[one.size].overrides | dict(one.train)
    out = str(folder / "run")
    _call("train", "--gin_file=experiments/small/small-cpu.gin", "--out", out, **settings)
    _call("evaluate", "--out", out)
    return row(one, Path(out))


def row(one: Run, out: Path) -> dict[str, Any]:
    """What a run came to."""
    results = json.loads((out / "results.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = lines[-max(1, len(lines) // 20) :]
    weights = np.array([line["predicted_tokens"] for line in last])
    settings = json.loads((out / "config.json").read_text())
    embedding = settings["data"]["vocabulary_size"] * settings["model"]["d_model"]
    return {
        "name": one.name, "parameters": results["parameters"], "without_embedding": results["parameters"] - embedding,
        "tokens": results["tokens"], "minutes": round(results["minutes"]["train"], 1),
        "loss": float(np.dot(weights, [line["loss"] for line in last]) / weights.sum()),
        "exact": {name: results[name]["exact"] for name in SETS if name in results},
    }  # fmt: skip


class Law(NamedTuple):
    """L = E + A / N^a + B / D^b, and for each test set the line along which log odds of being exact go with L."""

    E: float
    A: float
    a: float
    B: float
    b: float
    lines: Mapping[str, tuple[float, float]] = MappingProxyType({})

    def loss(self, parameters: float, tokens: float) -> float:
        return self.E + self.A / parameters**self.a + self.B / tokens**self.b

    def exact(self, name: str, loss: float) -> float:
        intercept, slope = self.lines[name]
        return 1 / (1 + math.exp(-intercept - slope * loss))


def fit(rows: Sequence[Mapping[str, Any]]) -> Law:
    """The law that fits these rows best; at least six of several sizes and lengths."""
    N = np.array([one["without_embedding"] for one in rows], float)
    D = np.array([one["tokens"] for one in rows], float)
    L = np.array([one["loss"] for one in rows])

    def miss(p: np.ndarray) -> np.ndarray:
        E, A, a, B, b = np.exp(np.clip(p, -9, 2))
        return np.log(E + A / (N / N.mean()) ** a + B / (D / D.mean()) ** b) - np.log(L)

    starts = [np.log([L.min() * e, L.min() * s, 0.4, L.min() * s, 0.4]) for e in (0.1, 0.5) for s in (0.1, 0.3)]
    best = min((least_squares(miss, start) for start in starts), key=lambda found: found.cost)
    E, A, a, B, b = map(float, np.exp(np.clip(best.x, -9, 2)))
    lines = {}
    for name in SETS:
        some = [(one["loss"], one["exact"][name]) for one in rows if 0.02 <= one["exact"].get(name, 0) <= 0.98]
        if len(some) > 2:
            losses, shares = map(np.array, zip(*some))
            odds = np.log(shares / (1 - shares))
            slope, intercept = np.polyfit(losses, odds, 1)
            lines[name] = (float(intercept), float(slope))
    return Law(E, A * float(N.mean()) ** a, a, B * float(D.mean()) ** b, b, lines)


def foretold(law: Law, parameters: float, tokens: float) -> dict[str, Any]:
    """What the law says of a run."""
    loss = law.loss(parameters, tokens)
    return {"loss": loss, "exact": {name: law.exact(name, loss) for name in law.lines}}


def _merged(path: Path, rows: Iterable[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a file, those with a new one in its place, in the order of the study."""
    there = {one["name"]: one for one in json.loads(path.read_text())["rows"]} if path.exists() else {}
    there |= {one["name"]: one for one in rows}
    return [there[name] for name in names if name in there]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("ablations", "ladder"))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these runs; default: all")
    arguments = parser.parse_args()
    runs = _ablations() if arguments.study == "ablations" else _ladder()
    names = [one.name for one in runs]
    if wrong := set(arguments.only or ()) - set(names):
        parser.error(f"there is no run {sorted(wrong)}; choose among {names}")
    path, command = HERE / f"{arguments.study}.json", f"python experiments/small/study.py {arguments.study}"
    for one in runs:
        if not arguments.only or one.name in arguments.only:
            write_json(path, {"command": command, "rows": _merged(path, [run(one)], names)})
    rows = json.loads(path.read_text())["rows"]
    if arguments.study == "ladder" and len(rows) == len(runs):
        law, size = fit(rows), SIZES[TARGET.size]
        parameters = 4 * (4 + 6) * size.d_model**2 + 1024 * size.d_model  # matrices of four layers, and the head
        told = {"command": command, "rows": rows, "law": law._asdict(), "target": TARGET.name,
                "foretold": foretold(law, parameters, TARGET.tokens)}  # fmt: skip
        write_json(path, told)  # before it is trained
        came = run(TARGET)
        write_json(path, told | {"came": came, "error": came["loss"] / told["foretold"]["loss"] - 1})


if __name__ == "__main__":
    main()
