"""The `evaluate` verb: puts suites to a checkpoint or a server, prints the table, writes it in three forms."""

import argparse
import json
import sys
from pathlib import Path

from cwm_jax.report.console import print_results, print_suites, print_trace
from cwm_jax.report.run import run_report
from cwm_jax.sandbox import Isolation, SandboxError, SandboxMissing
from cwm_jax.worldmodel.models.choice import Choice, add_flags

_SUITES = """suites:
  run                  the test sets recorded with the run's training data: results.json and report.html of the run
  cruxeval-output-…    language, step, reasoning, trace: what does a function return (CWM paper, Table 8)
  cruxeval-input-…     the same four: which arguments make it return that
  traces-cruxeval      the nine trace metrics (Table 9), by length and type, teacher-forced beside free-running
  traces-own           the same for the test sets of a run
  chain                what each stage of `make chain` changed: results.json and report.html of its folder
  halting, holes       programs that end or never do; expressions found again
  all, or how several begin, such as cruxeval or cruxeval-output

The key of an endpoint is read from OPENAI_API_KEY. Interrupted, the same command goes on from the last item."""


def main(argv: list[str]) -> int:
    """Runs `evaluate` with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax evaluate",
        description="Measure a checkpoint, or a model behind an OpenAI-compatible endpoint.",
        epilog=_SUITES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", default="run", metavar="S", help="what is asked, see below; default: run")
    add_flags(parser)
    parser.add_argument(
        "--traces",
        metavar="D",
        help="in place of a suite: traces that `prepare` recorded into D, 400 of each kind at most",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N items of each suite; default: all")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where results go; default: evaluation/ in the run's folder, or under runs/; of `run`: the run",
    )
    parser.add_argument("--unsafe", action="store_true", help="judge without bubblewrap: for models that you trust")
    arguments = parser.parse_args(argv)
    if complaint := _complaint(arguments):
        print(f"evaluate: {complaint}", file=sys.stderr)
        return 2
    if arguments.suite == "chain":
        return _evaluate_chain(arguments.out)
    choice = Choice.of(arguments)
    if arguments.suite == "run" and not arguments.traces:
        return _evaluate_run(arguments.out or arguments.checkpoint)
    try:
        return _evaluate_suites(arguments, choice)
    except (SandboxMissing, SandboxError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2


def _complaint(arguments: argparse.Namespace) -> str:
    """What is wrong with a call; empty if nothing is."""
    if arguments.limit is not None and arguments.limit < 1:
        return f"--limit {arguments.limit} asks for nothing; give at least 1"
    of_run = arguments.suite in ("run", "chain") and not arguments.traces
    named = arguments.checkpoint or arguments.endpoint or not arguments.out
    if not of_run and not named and (arguments.out / "config.gin").exists():
        return f"{arguments.out} is a run; to measure it, name it with --checkpoint; --out is where results go"
    if arguments.suite == "chain":
        asked = arguments.endpoint or arguments.limit or arguments.checkpoint or arguments.traces
        return (
            "" if arguments.out and not asked else "the suite `chain` takes the folder of a chain, --out, and no more"
        )
    if arguments.traces:
        return (
            "" if arguments.suite == "run" else f"--traces is a suite of its own; leave out --suite {arguments.suite}"
        )
    if arguments.suite != "run":
        return ""
    if arguments.endpoint or arguments.limit:
        return "the suite `run` predicts all test sets of a run; name another one with --suite, such as cruxeval-output"
    if not (arguments.out or arguments.checkpoint):
        return "name the folder of a trained run with --out"
    if arguments.out and arguments.checkpoint not in (None, arguments.out):
        return "the suite `run` writes into the folder of the run; leave out --checkpoint or --out"
    return ""


def _evaluate_run(out: Path) -> int:
    from cwm_jax.evaluation.run_tests import evaluate

    results = evaluate(out)
    items = _items(out / "predictions.jsonl")
    example = next((item for item in items if item["set"] == "strawberry"), items[0])
    print_trace(example["predicted"], example["actual"])
    print_results(results)
    print(f"report: {run_report(out)}")
    return 0


def _evaluate_chain(out: Path) -> int:
    from cwm_jax.evaluation.chain import evaluate_chain
    from cwm_jax.report.chain import print_chain

    print_chain(evaluate_chain(out))
    print(f"report: {out / 'report.html'}")
    return 0


def _items(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _results(folder: Path | None) -> Path:
    """Where results go by themselves: into the folder of a run; those of weights, and of a server, under runs/."""
    if folder and (folder / "config.gin").exists():
        return folder / "evaluation"
    return Path("runs") / (folder.resolve().name if folder else "") / "evaluation"


def _evaluate_suites(arguments: argparse.Namespace, choice: Choice) -> int:
    from cwm_jax.evaluation.runner import run_suites
    from cwm_jax.evaluation.suites import named
    from cwm_jax.evaluation.trace_suite import KeptTraces, TraceSuite

    suites = [TraceSuite(KeptTraces.of(arguments.traces))] if arguments.traces else named(arguments.suite)
    model = choice.open()
    out = arguments.out or _results(choice.folder)
    isolation = Isolation.LIMITS_ONLY if arguments.unsafe else Isolation.BUBBLEWRAP
    results = run_suites(suites, model, out, arguments.limit, isolation)
    print_suites(results)
    print(f"report: {out / 'results.html'}")
    return 0
