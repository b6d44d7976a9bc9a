"""`report.html` of a run of reinforcement learning."""

from pathlib import Path


def rl_report(run: Path) -> Path:
    return run / "report.html"
