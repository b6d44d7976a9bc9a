"""The `compile` verb: will this experiment fit on those chips, and how fast will it be?"""

import argparse
import shlex
from pathlib import Path

from cwm_jax import config
from cwm_jax.files import write_json
from cwm_jax.tpu import libtpu
from cwm_jax.tpu.chips import Topology


def main(argv: list[str]) -> int:
    """Runs `compile` with these arguments; 1 if the step does not fit."""
    files, overrides, rest = config.split_gin_flags(argv)
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax compile",
        description="Compile the train step of an experiment with the TPU compiler, without a TPU: what it takes of "
        "memory, what moves between chips, how long a step should take. 32 billion weights compile in minutes.",
        epilog="--gin_file=F reads an experiment (several may be given); --gin.Class.field=VALUE overrides one value.",
    )
    parser.add_argument("--topology", required=True, help="chips, such as v5p:8x8x8, v5e:16x16 or tpu7x:4x4x4")
    parser.add_argument("--out", type=Path, help="where to write the report as JSON")
    arguments = parser.parse_args(rest)
    if not files:
        parser.error("--gin_file=F is missing, for example --gin_file=experiments/cwm_32b/pretrain.gin")
    topology = Topology.parse(arguments.topology)
    libtpu.compile_only()

    from cwm_jax.report.forecast import print_forecast
    from cwm_jax.tpu.compile import compile_step
    from cwm_jax.tpu.forecast import forecast
    from cwm_jax.training.experiment import Experiment

    experiment = config.load(files, overrides, Experiment)
    step = compile_step(experiment, topology)
    report = {"experiment": name_of(files), **forecast(experiment, topology, step)}
    report["compile_seconds"] = round(step.seconds, 1)
    report["command"] = shlex.join(["python", "-m", "cwm_jax", "compile", *argv])
    print_forecast(report)
    if arguments.out:
        write_json(arguments.out, report)
    if report["fits"]:
        return 0
    print(f"{topology} does not hold this step; {step.largest}")
    return 1


def name_of(files: list[str]) -> str:
    """The name of an experiment: its file's path below `experiments/`, such as `cwm_32b-pretrain`."""
    parts = Path(files[-1]).with_suffix("").parts
    below = parts[parts.index("experiments") + 1 :] if "experiments" in parts else parts[-1:]
    return "-".join(below)
