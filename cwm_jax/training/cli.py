"""The `train` and `prepare` verbs."""

import argparse
import os
import shlex
import sys
from pathlib import Path

import jax

from cwm_jax import config
from cwm_jax.training.experiment import Experiment


def main(argv: list[str]) -> int:
    """`train`: makes the data if need be, trains, writes the report; the same call again resumes."""
    experiment, out = _parse("train", argv, "trains a model; the same call again resumes")
    from cwm_jax.training.loop import train
    from cwm_jax.training.preemption import Stopped

    try:
        train(experiment, out)
    except Stopped as stopped:
        print(f"{stopped}; go on with: {shlex.join(['python', '-m', 'cwm_jax', 'train', *argv])}", file=sys.stderr)
        if not jax.distributed.is_initialized():
            sys.stderr.flush()
            os._exit(stopped.status)  # a thread may still be in the compiler, which crashes if the interpreter goes
        return stopped.status
    return 0


def prepare_main(argv: list[str]) -> int:
    """`prepare`: makes the data of an experiment alone, or the traces of a folder of Python code."""
    if any(word.partition("=")[0] == "--source" for word in argv):
        from cwm_jax.tracing.sources import cli as sources

        return sources.main(argv)
    experiment, out = _parse(
        "prepare",
        argv,
        "records programs and packs them into rows; the same call again resumes",
        "--source PATH in place of --gin_file records the functions of any Python code; see prepare --source . --help",
    )
    rows = experiment.data.ready(out)
    print(f"{rows.manifest.documents:,} documents, {rows.manifest.tokens:,} tokens in {rows.folder}")
    return 0


def _parse(verb: str, argv: list[str], what: str, more: str = "") -> tuple[Experiment, Path]:
    files, overrides, rest = config.split_gin_flags(argv)
    parser = argparse.ArgumentParser(
        prog=f"python -m cwm_jax {verb}",
        description=f"{verb}: {what}.",
        epilog="--gin_file=F reads an experiment (several may be given); --gin.Class.field=VALUE overrides one value. "
        + more,
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    arguments = parser.parse_args(rest)
    if not files:
        parser.error("--gin_file=F is missing, for example --gin_file=experiments/tiny/strawberry.gin")
    if ":/" in str(arguments.out):  # pathlib makes gs:/ of gs://
        parser.error(f"--out {arguments.out} is no folder; mount the bucket, as tpu_scripts/worker/mount.sh does")
    return config.load(files, overrides, Experiment), arguments.out
