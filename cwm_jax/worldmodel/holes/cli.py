"""The `fill` verb: finds expressions for the holes, `??`, of a program."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from cwm_jax.sandbox import Isolation, SandboxError, SandboxMissing
from cwm_jax.worldmodel.holes.fill import Filling, fill
from cwm_jax.worldmodel.holes.shape import Shape
from cwm_jax.worldmodel.models.choice import Choice, add_flags
from cwm_jax.worldmodel.predict import WorldModel

_EXITS = "exit status: 0 the holes are filled; 3 nothing was found; 2 the call makes no sense, or there is no sandbox"


def main(argv: list[str]) -> int:
    """Runs `fill` with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax fill",
        description="Fill the holes, ??, of a program so that its asserts and doctests hold.",
        epilog=_EXITS,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="Python in which ?? stands for expressions")
    add_flags(parser)
    parser.add_argument("--no-run", action="store_true", help="choose by prediction alone; then nothing is checked")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="real runs at most; default: 100")
    parser.add_argument("--candidates", type=int, default=200, metavar="N", help="predicted at most; default: 200")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.add_argument("--unsafe", action="store_true", help="run without bubblewrap: for programs that you trust")
    arguments = parser.parse_args(argv)
    isolation = Isolation.LIMITS_ONLY if arguments.unsafe else Isolation.BUBBLEWRAP
    try:
        shape = Shape(_read(arguments.file))
        model = Choice.of(arguments).open_if(needed=arguments.no_run)
        predictor = WorldModel(model) if model else None
        isolation = None if arguments.no_run else isolation
        found = fill(shape, predictor, isolation, arguments.limit, arguments.candidates)
    except (ValueError, OSError, SandboxMissing, SandboxError) as error:
        print(f"fill: {error}", file=sys.stderr)
        return 2
    if arguments.format == "json":
        print(json.dumps(asdict(found), indent=1))
    elif found.source is not None:
        sys.stdout.write(found.source)
    print(f"fill: {_summary(found)}", file=sys.stderr)
    return 3 if found.source is None else 0


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def _summary(found: Filling) -> str:
    effort = f"{found.predicted} candidates predicted, {found.executions} run"
    if found.source is None and found.score is not None:
        return f"no candidate is predicted to fulfil all examples ({effort}); leave out --no-run, or give --candidates"
    if found.source is None:
        return f"nothing was found ({effort}); give simpler holes, or a higher --limit"
    how = "all examples hold in a real run" if found.checked else f"predicted to fulfil {found.score:.0%}, not run"
    return f"{', '.join(found.expressions)}: {how} ({effort})"
