"""The `halts` verb: whether a program ends, by its predicted trace and, where that can be had, by proof."""

import argparse
import json
import sys

from cwm_jax.sandbox import Isolation, SandboxError, SandboxMissing
from cwm_jax.tracing.wrap import context_of
from cwm_jax.worldmodel.halting.answer import Answer, halts
from cwm_jax.worldmodel.models.choice import Choice, add_flags
from cwm_jax.worldmodel.predict import WorldModel

_EXITS = "exit status: 0 terminates or loops; 3 unknown; 2 the call makes no sense, or there is no sandbox for it"


def main(argv: list[str]) -> int:
    """Runs `halts` with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax halts",
        description="Say whether a program halts: predict its trace, and confirm that by real runs and a prover.",
        epilog=_EXITS,
    )
    parser.add_argument("target", metavar="FILE[:FUNC]", help="a file with a start marker, or a function in a file")
    parser.add_argument("--args", metavar="ARGS", help="argument list for FUNC, such as \"1, 'a'\"")
    add_flags(parser)
    parser.add_argument("--no-run", action="store_true", help="answer by prediction alone; then nothing is proved")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.add_argument("--unsafe", action="store_true", help="run without bubblewrap: for programs that you trust")
    arguments = parser.parse_args(argv)
    isolation = Isolation.LIMITS_ONLY if arguments.unsafe else Isolation.BUBBLEWRAP
    try:
        context = context_of(arguments.target, arguments.args)
        model = Choice.of(arguments).open_if(needed=arguments.no_run)
        predictor = WorldModel(model) if model else None
        predicted = next(iter(predictor.predict([context]))) if predictor else None
        answer = halts(context, predicted, None if arguments.no_run else isolation)
    except (ValueError, OSError, SandboxMissing, SandboxError) as error:
        print(f"halts: {error}", file=sys.stderr)
        return 2
    print(json.dumps(answer.as_json(), indent=1) if arguments.format == "json" else _text(answer))
    return 3 if answer.verdict == "unknown" else 0


def _text(answer: Answer) -> str:
    lines = [f"{answer.verdict} ({'proved' if answer.proof else 'predicted, not proved'})"]
    if answer.verdict == "unknown":
        lines = ["unknown"]
    for one in answer.evidence:
        lines.append(f"  {one.by}: {one.text}")
        if state := one.details.get("state"):
            lines.append("    " + ", ".join(f"{name} = {value}" for name, value in state.items()))
    return "\n".join(lines)
