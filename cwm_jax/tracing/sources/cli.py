"""`prepare --source`: the traces of a folder of Python code, no configuration needed."""

import argparse
import sys
from pathlib import Path

from cwm_jax.sandbox import Isolation, SandboxError, SandboxMissing
from cwm_jax.tracing.corpus import TraceCorpus, prepare_traces
from cwm_jax.tracing.sources.functions import Functions


def main(argv: list[str]) -> int:
    """Runs `prepare` for a source with these arguments; returns the exit status."""
    arguments = _parser().parse_args(argv)
    isolation = Isolation.LIMITS_ONLY if arguments.unsafe else Isolation.BUBBLEWRAP
    corpus = TraceCorpus(Functions(arguments.source))
    try:
        sheet = prepare_traces(corpus, arguments.out, arguments.workers, arguments.limit, isolation)
    except (SandboxMissing, SandboxError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    print(f"{sheet['traces']:,} traces and {sheet['episodes']:,} step-over episodes of {sheet['programs']:,} programs")
    for reason, count in sheet["dropped"].items():
        print(f"  left out {count:>7,}  {reason}")
    print(f"{arguments.out / 'datasheet.html'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax prepare",
        description="Find the functions of Python code that run by themselves, find inputs for them, and record what "
        "they do. The same call again goes on where an interrupted one stopped.",
    )
    parser.add_argument("--source", required=True, metavar="PATH", help="a folder of Python code, or one file")
    parser.add_argument("--out", required=True, type=Path, metavar="D", help="folder for traces and datasheet")
    parser.add_argument("--workers", type=_positive, default=0, metavar="N", help="processes; default: one a core")
    parser.add_argument("--limit", type=_positive, metavar="N", help="read at most N source files")
    parser.add_argument("--unsafe", action="store_true", help="run without bubblewrap: for code that you trust")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)
