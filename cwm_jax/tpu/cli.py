"""The `compile` verb: will this experiment, or this server, fit on those chips, and how fast will it be?

And the `plan` verb: how many chips does reinforcement learning need for what, and how old is what it learns from?
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cwm_jax import config
from cwm_jax.files import write_json
from cwm_jax.tpu import libtpu
from cwm_jax.tpu.chips import Topology

if TYPE_CHECKING:
    from cwm_jax.inference.served import Serve


def main(argv: list[str]) -> int:
    """Runs `compile` with these arguments; 1 if it does not fit."""
    files, overrides, rest = config.split_gin_flags(argv)
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax compile",
        description="Compile the train step of an experiment, or what a server runs, with the TPU compiler, without a "
        "TPU: what it takes of memory, what moves between chips, how long a step should take. 32 billion weights "
        "compile in minutes.",
        epilog="--gin_file=F reads an experiment, a `Serve` configuration or an `Rl` (several files may be given); "
        "--gin.Class.field=VALUE overrides one value.",
    )
    parser.add_argument("--topology", required=True, help="chips, such as v5p:8x8x8, v5e:16x16 or tpu7x:4x4x4")
    parser.add_argument("--out", type=Path, help="where to write the report as JSON")
    arguments = parser.parse_args(rest)
    if not files:
        parser.error("--gin_file=F is missing, for example --gin_file=experiments/cwm_32b/pretrain.gin")
    topology = Topology.parse(arguments.topology)
    libtpu.compile_only()

    called = shlex.join(["python", "-m", "cwm_jax", "compile", *argv])
    work = _serving if {"Serve", "Rl"} & config.bound(files, overrides) else _training
    report, largest = work(files, overrides, topology, called)
    if arguments.out:
        write_json(arguments.out, report)
    if report["fits"]:
        return 0
    print(f"{topology} does not hold this; {largest}")
    return 1


def plan(argv: list[str]) -> int:
    """Runs `plan` with these arguments; 1 if a sampler's memory does not hold what the plan puts there."""
    files, overrides, rest = config.split_gin_flags(argv)
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax plan",
        description="Plan reinforcement learning: chips for each role, pace and what sets it, how old what is learnt "
        "from will be, how long weights travel. By arithmetic, and by a simulation with the same constants.",
        epilog="--gin_file=F reads what `rl` runs (there may be several); --gin.Class.field=VALUE overrides a value.",
    )
    parser.add_argument("--out", type=Path, help="where to write the plan as JSON")
    arguments = parser.parse_args(rest)
    if not files:
        parser.error("--gin_file=F is missing, for example --gin_file=experiments/cwm_32b/rl.gin")

    from cwm_jax.report.plan import print_plan
    from cwm_jax.rl.cli import load_plan
    from cwm_jax.tpu.plan import make_plan

    report = {"experiment": name_of(files), **make_plan(load_plan(files, overrides))}
    report["command"] = shlex.join(["python", "-m", "cwm_jax", "plan", *argv])
    print_plan(report)
    if arguments.out:
        write_json(arguments.out, report)
    return 0 if report["sampler"]["fits"] else 1


def _training(files: list[str], overrides: list[str], topology: Topology, command: str) -> tuple[dict[str, Any], str]:
    """The report on an experiment's train step, printed, and its largest arrays."""
    from cwm_jax.report.forecast import print_forecast
    from cwm_jax.tpu.compile import compile_step
    from cwm_jax.tpu.forecast import forecast
    from cwm_jax.training.experiment import Experiment

    experiment = config.load(files, overrides, Experiment)
    step = compile_step(experiment, topology)
    report = {"experiment": name_of(files), **forecast(experiment, topology, step)}
    report |= {"compile_seconds": round(step.seconds, 1), "command": command}
    print_forecast(report)
    return report, step.largest


def _serving(files: list[str], overrides: list[str], topology: Topology, command: str) -> tuple[dict[str, Any], str]:
    """The report on what a server runs, printed, and the largest arrays of that which takes most."""
    from cwm_jax.report.forecast import print_serving
    from cwm_jax.tpu.serving import compile_serving

    report, largest = compile_serving(serve_of(files, overrides), topology)
    report = {"experiment": name_of(files), **report, "command": command}
    print_serving(report)
    return report, largest


def serve_of(files: list[str], overrides: list[str]) -> "Serve":
    """What gin files describe: a server, or the samplers of reinforcement learning."""
    from cwm_jax.inference.served import Serve
    from cwm_jax.rl.cli import load_plan

    if "Rl" in config.bound(files, overrides):
        return load_plan(files, overrides).inference
    return config.load(files, overrides, Serve)


def name_of(files: list[str]) -> str:
    """The name of an experiment: its file's path below `experiments/`, such as `cwm_32b-pretrain`."""
    parts = Path(files[-1]).with_suffix("").parts
    below = parts[parts.index("experiments") + 1 :] if "experiments" in parts else parts[-1:]
    return "-".join(below)
