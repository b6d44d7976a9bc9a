"""The `predict` verb: what a program will do, said by a model; with `--verify` beside what it does."""

import argparse
import json
import sys

from cwm_jax.report.console import print_trace
from cwm_jax.report.frames import verdicts
from cwm_jax.sandbox import SandboxError, SandboxMissing
from cwm_jax.tracing import Isolation, Trace, record, render
from cwm_jax.tracing.cli import as_json
from cwm_jax.tracing.trace import frame_as_json
from cwm_jax.tracing.wrap import context_of
from cwm_jax.worldmodel.models.choice import Choice, add_flags
from cwm_jax.worldmodel.predict import WorldModel

_EXITS = "exit status: 0 a whole trace was predicted; 3 the prediction breaks off; 2 the call makes no sense"


def main(argv: list[str]) -> int:
    """Runs `predict` with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax predict",
        description="Predict the trace of a program without running it.",
        epilog=_EXITS,
    )
    parser.add_argument("target", metavar="FILE[:FUNC]", help="a file with a start marker, or a function in a file")
    parser.add_argument("--args", metavar="ARGS", help="argument list for FUNC, such as \"1, 'a'\"")
    add_flags(parser)
    parser.add_argument("--verify", action="store_true", help="run the program too and compare frame by frame")
    parser.add_argument("--format", choices=("text", "table", "json"), default="table", help="default: table")
    parser.add_argument("--unsafe", action="store_true", help="verify without bubblewrap: for programs that you trust")
    arguments = parser.parse_args(argv)

    try:
        context = context_of(arguments.target, arguments.args)
        model = WorldModel(Choice.of(arguments).open())
        (predicted,) = model.predict([context])
        actual = None
        if arguments.verify:
            actual = record(context, isolation=Isolation.LIMITS_ONLY if arguments.unsafe else Isolation.BUBBLEWRAP)
    except (ValueError, OSError, SandboxMissing, SandboxError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 2
    _print(predicted, actual, arguments.format)
    if not predicted.complete:
        print(
            f"predict: the prediction breaks off after {len(predicted.frames)} frames: {predicted.reason}",
            file=sys.stderr,
        )
    return 0 if predicted.complete else 3


def _print(predicted: Trace, actual: Trace | None, form: str) -> None:
    if form == "text":
        sys.stdout.write(render(predicted))
    elif form == "json":
        print(json.dumps(comparison(predicted, actual), indent=1))
    else:
        print_trace(_frames(predicted), _frames(actual) if actual else None)


def comparison(predicted: Trace, actual: Trace | None) -> dict[str, object]:
    """The JSON form: `predicted`, and with a real trace how the two compare."""
    if actual is None:
        return {"predicted": as_json(predicted)}
    checks = verdicts(_frames(predicted), _frames(actual))
    return {
        "exact": predicted == actual,
        "frames": len(actual.frames),
        "frames_exact": sum(checks[: len(actual.frames)]),
        "first_mismatch": checks.index(False) if False in checks else None,
        "predicted": as_json(predicted),
        "actual": as_json(actual),
    }


def _frames(trace: Trace) -> list[dict]:
    return [frame_as_json(frame) for frame in trace.frames]
