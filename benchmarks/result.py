"""The shape of result that all benchmarks share: rows of ours against a peer's, the last line of output as JSON."""

import argparse
import json
import os
import platform
from pathlib import Path

MORE_IS_BETTER = ("tokens/s", "frames/s", "programs/s", "GB/s", "%", "share", "share right", "reward", "MFU")


def flags(doc: str, quick: str) -> argparse.ArgumentParser:
    """The flags that every benchmark has; `quick` tells what `--quick` leaves out."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help=quick)
    made.add_argument("--out", type=Path, help="also write the result to this file")
    return made


def row(
    case: str,
    ours: float,
    theirs: float | None,
    peer: str | None,
    unit: str,
    goal: float | None = None,
    bound: float | None = None,
) -> dict:
    """A row, which is printed.

    Args:
      case: what was measured.
      ours, theirs: numbers; None where nobody else does it.
      peer: whose theirs is.
      unit: of these numbers; in seconds or bytes less is better, in those of `MORE_IS_BETTER` more.
      goal: the least ratio that would please us.
      bound: what ours could be at best, in its unit; without a peer, what it must keep.

    Returns:
      The arguments and `ratio`, which is above 1 where ours is better than theirs, or without a peer than the bound.
    """
    beside = bound if theirs is None else theirs
    ratio = None
    if ours and beside:
        ratio = ours / beside if unit in MORE_IS_BETTER else beside / ours
    numbers = {"ours": ours, "theirs": theirs, "ratio": ratio, "goal": goal, "bound": bound}
    numbers = {name: None if value is None else float(f"{value:.4g}") for name, value in numbers.items()}
    shown = [f"{name} {numbers[name]:g}" for name in ("ratio", "goal", "bound") if numbers[name] is not None]
    against = "" if theirs is None else f" against {numbers['theirs']:g}"
    whose = f", {peer}" if peer else ""
    print(f"{case:>62}  {numbers['ours']:g}{against} {unit}{whose}: {', '.join(shown)}", flush=True)
    return {"case": case, "peer": peer, "unit": unit, **numbers}


def tell(benchmark: str, rows: list[dict], out: Path | None, device: str | None = None, **more: object) -> None:
    """Prints the result on one line, and writes it to a file.

    Args:
      benchmark: its name.
      rows: of `row`.
      out: the file; None for none.
      device: what it ran on, if not on the processor.
      more: what the result holds besides.
    """
    cores = len(os.sched_getaffinity(0))
    machine = f"{device or platform.machine()}, {cores} cores, Python {platform.python_version()}"
    line = json.dumps({"benchmark": benchmark, "machine": machine, **more, "rows": rows})
    if out:
        out.write_text(line + "\n")
    print(line)
