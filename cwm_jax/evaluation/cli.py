"""The `evaluate` verb: measures a run, prints the best-known example and the table, writes the report."""

import argparse
import json
from pathlib import Path

from cwm_jax.report.console import print_results, print_trace
from cwm_jax.report.run import run_report


def main(argv: list[str]) -> int:
    """Runs `evaluate` with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax evaluate",
        description="Predict the test sets of a run, compare with the real traces, write results.json and report.html.",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of a trained run")
    out = parser.parse_args(argv).out
    from cwm_jax.evaluation.suites import evaluate

    results = evaluate(out)
    example = next(item for item in _items(out / "predictions.jsonl") if item["set"] == "strawberry")
    print_trace(example["predicted"], example["actual"])
    print_results(results)
    print(f"report: {run_report(out)}")
    return 0


def _items(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
