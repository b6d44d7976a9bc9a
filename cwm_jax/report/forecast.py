"""What the TPU compiler said of a train step, or of a server, in the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_forecast(report: dict[str, Any], console: Console | None = None) -> None:
    """Prints a report as `compile` writes it."""
    r, timing, console = report, report["roofline"], console or Console(highlight=False)
    mesh = ", ".join(f"{axis} {size}" for axis, size in r["mesh"].items() if size > 1) or "one device"
    full = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in timing["seconds_at_full_speed"].items())
    slow = ", ".join(f"{what} × {factor:.2f}" for what, factor in timing["slowdowns"].items())
    error = timing["left_out_error"]
    facts = Table(show_header=False, box=None)
    for what, fact in (
        ("experiment", f"{r['experiment']} on {r['topology']}, {r['chips']:,} chips"),
        ("layout", f"{mesh}; {r['tokens_per_step']:,} tokens a step in rows of {r['sequence']:,}"),
        ("memory", f"{r['used_gib']:.1f} of {r['hbm_gib']:.1f} GiB a chip, {r['used_gib'] / r['hbm_gib']:.0%}"),
        ("", f"this batch needs at least {r['chips_at_least']:,} such chips"),
        ("step", f"{r['step_seconds']:.2f} s, MFU {r['predicted_mfu']:.1%} at {r['gflop_per_token']} GFLOP a token"),
        ("assumed", f"at full speed: {full}"),
        ("", f"slowed as {timing['published_runs']} published runs were: {slow}; collectives beside that"),
        ("", f"each of those runs, predicted from the others: {error['mean']:.0%} off, {error['worst']:.0%} at worst"),
        ("compiled", f"in {r['compile_seconds']:.0f} s"),
    ):
        facts.add_row(what, fact)
    console.print(facts)
    console.print(_moved(r["collectives"], "step"))


def print_serving(report: dict[str, Any], console: Console | None = None) -> None:
    """Prints a report as `compile` writes it of a server."""
    r, console = report, console or Console(highlight=False)
    mesh = ", ".join(f"{axis} {size}" for axis, size in r["mesh"].items() if size > 1) or "one device"
    facts = Table(show_header=False, box=None)
    for what, fact in (
        ("server", f"{r['experiment']} on {r['topology']}, {r['chips']:,} chips; {mesh}; {r['precision']}"),
        ("sequences", f"{r['slots']:,} at once, of at most {r['longest']:,} tokens, {r['tokens_in_pages']:,} in all"),
        ("memory", f"{r['used_gib']:.1f} of {r['hbm_gib']:.1f} GiB a chip, {r['used_gib'] / r['hbm_gib']:.0%}"),
        ("", f"{r['weights_gib']:.1f} of weights, {r['cache_gib']:.1f} of keys and values"),
        ("a token", f"at least {r['at_least_ms']:.1f} ms: the weights, read once at full bandwidth"),
    ):
        facts.add_row(what, fact)
    console.print(facts)
    for name, program in r["programs"].items():
        console.print(f"{name}: {program['used_gib']:.1f} GiB, compiled in {program['compile_seconds']:.0f} s")
        console.print(_moved(program["collectives"], "call"))


def _moved(rows: list[dict[str, Any]], what: str) -> Table:
    moved = Table("collective", "along", f"trips a {what}", "each trip", "MiB a trip")
    for row in rows:
        moved.add_row(row["kind"], ", ".join(row["axes"]), str(row["trips"]), str(row["count"]), f"{row['mib']:,.1f}")
    return moved
