"""The `prepare` verb: what a gin file describes, or the traces of a folder of Python code, made in a folder."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING

from cwm_jax import config
from cwm_jax.cluster import ADDRESS_HELP, joined
from cwm_jax.components import reachable
from cwm_jax.data.lessons import Lessons, prepare_lessons
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.mixture import NAME, Mixture, resolve
from cwm_jax.data.packed_dataset import PackedDataset, pack_dataset
from cwm_jax.report.mixture import print_mixture
from cwm_jax.repos import NotBuilt
from cwm_jax.sandbox import Isolation, SandboxError, SandboxMissing
from cwm_jax.tracing.corpus import TraceCorpus, prepare_traces

if TYPE_CHECKING:
    from cwm_jax.training.experiment import Experiment

ROOTS = (TraceCorpus, PackedDataset, Mixture, Lessons)


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
    try:
        what = config.load(files, overrides, root_of(files, overrides))
        with joined(arguments.address):
            _make(what, arguments)
    except (SandboxMissing, SandboxError, NotBuilt) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    return 0


def root_of(files: Sequence[str], overrides: Sequence[str]) -> type:
    """What gin files describe: the first of `ROOTS` that they bind, or whose components alone, else an experiment."""
    named = config.bound(files, overrides)
    for root in ROOTS:
        if root.__name__ in named:
            return root
    for root in ROOTS:
        # Lessons tell the programs of an experiment: bindings of those alone are an experiment's.
        if root is not Lessons and named and set(named) <= set(reachable([root])):
            return root
    from cwm_jax.training.experiment import Experiment  # seconds, for JAX

    return Experiment


@singledispatch
def _make(experiment: "Experiment", arguments: argparse.Namespace) -> None:
    """Makes it, or shows with `--dry-run` what would be made, and tells what is there."""
    _refuse(arguments, "an experiment", "workers", "limit", "dry_run", "unsafe")
    rows = experiment.data.ready(arguments.out)
    for one in rows.sets:
        _tell(one.manifest, one.folder)


@_make.register
def _(dataset: PackedDataset, arguments: argparse.Namespace) -> None:
    _refuse(arguments, "packed rows", "limit", "unsafe")
    if arguments.dry_run:
        for name, count in dataset.documents.found().items():
            print(f"{count:>11,}  {name}")
        return
    manifest = pack_dataset(dataset, arguments.out, arguments.workers)
    _tell_dropped(manifest.dropped)
    _tell(manifest, arguments.out)


@_make.register
def _(lessons: Lessons, arguments: argparse.Namespace) -> None:
    _refuse(arguments, "lessons", "limit", "dry_run", "unsafe")
    for name, manifest in prepare_lessons(lessons, arguments.out, arguments.workers).items():
        _tell(manifest, arguments.out / name)


@_make.register
def _(mixture: Mixture, arguments: argparse.Namespace) -> None:
    _refuse(arguments, "a mixture", "workers", "address", "limit", "unsafe")
    resolved = resolve(mixture)
    print_mixture(asdict(resolved))
    if not arguments.dry_run:
        resolved.write(arguments.out)
        print(arguments.out / NAME)


@_make.register
def _(corpus: TraceCorpus, arguments: argparse.Namespace) -> None:
    if arguments.dry_run:
        for source in corpus.sources:
            names = source.names()
            print(f"{type(source).__name__}, {len(names)}: {', '.join(names)}")
        return
    isolation = Isolation.LIMITS_ONLY if arguments.unsafe else Isolation.BUBBLEWRAP
    sheet = prepare_traces(corpus, arguments.out, arguments.workers, arguments.limit, isolation)
    counts = ((sheet[what], what) for what in ("traces", "episodes", "programs"))
    print(", ".join(f"{count:,} {what.removesuffix('s') if count == 1 else what}" for count, what in counts))
    _tell_dropped(sheet["dropped"])
    print(f"{arguments.out / 'datasheet.html'}")


def _tell(manifest: Manifest, folder: Path) -> None:
    print(f"{manifest.documents:,} documents, {manifest.tokens:,} tokens in {folder}")


def _tell_dropped(dropped: dict[str, int]) -> None:
    for reason, count in dropped.items():
        print(f"  left out {count:>9,}  {reason}")


def _refuse(arguments: argparse.Namespace, what: str, *flags: str) -> None:
    for flag in flags:
        if getattr(arguments, flag):
            raise ValueError(f"--{flag.replace('_', '-')} does nothing for {what}; leave it out")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax prepare",
        description="Make what a gin file describes: rows of an experiment, a corpus of traces, packed rows of traces "
        "or plain code, a mixture of such rows, the rows of a chain of runs. Or find the functions of any Python code "
        "that run by themselves, find "
        "inputs for them, and record what they do. The same call again goes on where an interrupted one stopped.",
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
