"""The `prepare` verb: what a gin file describes, or the traces of a folder of Python code, made in a folder."""

import argparse
import sys
from functools import singledispatch
from pathlib import Path
from typing import Any

from cwm_jax import config
from cwm_jax.cluster import ADDRESS_HELP, joined
from cwm_jax.repos import NotBuilt
from cwm_jax.sandbox import Isolation, SandboxError, SandboxMissing
from cwm_jax.tracing.corpus import TraceCorpus, prepare_traces
from cwm_jax.training.experiment import Experiment

# What a gin file may describe: the first of these of which it binds something, else an experiment.
_ROOTS = (TraceCorpus,)


def main(argv: list[str]) -> int:
    """`prepare`: makes the data; the same call again resumes. Returns the exit status."""
    files, overrides, rest = config.split_gin_flags(argv)
    parser = _parser()
    arguments = parser.parse_args(rest)
    if bool(files) == bool(arguments.source):
        parser.error("name either --gin_file=F, such as --gin_file=experiments/tiny/strawberry.gin, or --source PATH")
    if ":/" in str(arguments.out):  # pathlib makes gs:/ of gs://
        parser.error(f"--out {arguments.out} is no folder; mount the bucket, as tpu_scripts/worker/mount.sh does")
    if arguments.source:
        overrides = ["TraceCorpus.sources=[@Functions()]", f"Functions.paths=[{arguments.source!r}]", *overrides]
    named = config.bound(files, overrides)
    root = next((root for root in _ROOTS if root.__name__ in named), Experiment)
    try:
        with joined(arguments.address):
            _make(config.load(files, overrides, root), arguments)
    except (SandboxMissing, SandboxError, NotBuilt) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    return 0


@singledispatch
def _make(what: Any, arguments: argparse.Namespace) -> None:
    """Makes it, or shows with `--dry-run` what would be made, and tells what is there."""
    raise TypeError(f"{type(what).__name__} cannot be prepared")


@_make.register
def _(experiment: Experiment, arguments: argparse.Namespace) -> None:
    _refuse(arguments, "an experiment", "workers", "limit", "dry_run", "unsafe")
    rows = experiment.data.ready(arguments.out)
    print(f"{rows.manifest.documents:,} documents, {rows.manifest.tokens:,} tokens in {rows.folder}")


@_make.register
def _(corpus: TraceCorpus, arguments: argparse.Namespace) -> None:
    if arguments.dry_run:
        for source in corpus.sources:
            names = source.names()
            print(f"{type(source).__name__}, {len(names)}: {', '.join(names)}")
        return
    isolation = Isolation.LIMITS_ONLY if arguments.unsafe else Isolation.BUBBLEWRAP
    sheet = prepare_traces(corpus, arguments.out, arguments.workers, arguments.limit, isolation)
    print(f"{sheet['traces']:,} traces and {sheet['episodes']:,} episodes of {sheet['programs']:,} programs")
    for reason, count in sheet["dropped"].items():
        print(f"  left out {count:>9,}  {reason}")
    print(f"{arguments.out / 'datasheet.html'}")


def _refuse(arguments: argparse.Namespace, what: str, *flags: str) -> None:
    for flag in flags:
        if getattr(arguments, flag):
            raise ValueError(f"--{flag.replace('_', '-')} does nothing for {what}; leave it out")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax prepare",
        description="Make what a gin file describes: rows of an experiment, or a corpus of traces. Or find the "
        "functions of any Python code that run by themselves, find inputs for them, and record what they do. The same "
        "call again goes on where an interrupted one stopped.",
        epilog="--gin_file=F reads a gin file (several may be given); --gin.Class.field=VALUE overrides one value.",
    )
    parser.add_argument(
        "--source", metavar="PATH", help="Python code: a folder, a file, NAME==VERSION, an installed package or stdlib"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="D", help="folder for what is made")
    parser.add_argument("--workers", type=_positive, default=0, metavar="N", help="processes; default: one a core")
    parser.add_argument("--address", help=ADDRESS_HELP)
    parser.add_argument("--limit", type=_positive, metavar="N", help="read at most N files, projects or problems")
    parser.add_argument("--dry-run", action="store_true", help="show what would be made")
    parser.add_argument("--unsafe", action="store_true", help="run without bubblewrap: for code that you trust")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)
