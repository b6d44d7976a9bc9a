"""The `train` verb."""

import argparse
from pathlib import Path

from cwm_jax import config
from cwm_jax.training.experiment import Experiment


def main(argv: list[str]) -> int:
    """`train`: makes the data if need be, trains, writes the report; the same call again resumes."""
    experiment, out = _parse(argv)
    from cwm_jax.training.loop import train
    from cwm_jax.training.preemption import Stopped, leave

    try:
        train(experiment, out)
    except Stopped as stopped:
        return leave(stopped, ["train", *argv])
    return 0


def _parse(argv: list[str]) -> tuple[Experiment, Path]:
    files, overrides, rest = config.split_gin_flags(argv)
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax train",
        description="Train a model; the same call again resumes.",
        epilog="--gin_file=F reads an experiment (several may be given); --gin.Class.field=VALUE overrides one value.",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    arguments = parser.parse_args(rest)
    if not files:
        parser.error("--gin_file=F is missing, for example --gin_file=experiments/tiny/strawberry.gin")
    if ":/" in str(arguments.out):  # pathlib makes gs:/ of gs://
        parser.error(f"--out {arguments.out} is no folder; mount the bucket, as tpu_scripts/worker/mount.sh does")
    return config.load(files, overrides, Experiment), arguments.out
