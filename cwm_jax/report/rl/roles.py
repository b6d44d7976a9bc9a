"""Of the page: where the time of every role went, and how weights travelled between them."""

import math
from collections import Counter
from itertools import pairwise
from statistics import median

from cwm_jax.report.figures import percent
from cwm_jax.report.page import Block, heading, prose, table
from cwm_jax.report.plots import Points
from cwm_jax.report.rl.drawing import (
    CURVE_POINTS,
    KINDS,
    beside,
    curve,
    plot,
    section,
    share_bar,
)
from cwm_jax.report.rl.told import STAGES, WAITING, Told, kind_of, since

MOST_HOSTS = 5  # beside the learner, as many lines as have colours


def ledger(told: Told) -> list[Block]:
    """The parts of each role's time, which add up."""
    blocks = []
    for kind, title in KINDS.items():
        names = [role for role in told.roles if kind_of(role) == kind]
        if not names:
            continue
        spent = {role: told.hours(role) for role in names}
        walls = {role: math.fsum(parts.values()) for role, parts in spent.items()}
        lives = {role: told.lives(role) for role in names}
        clock = {role: math.fsum(row["time"] - row["began"] for row in lives[role]) for role in names}

        def cell(role: str, part: str) -> Block:
            seconds = spent[role].get(part, 0.0)
            share = max(seconds, 0.0) / max(walls[role], 1e-9)
            return share_bar(share, f"{seconds:,.1f} s, {percent(min(share, 1.0))}")

        parts = dict.fromkeys(part for role in names for part in spent[role])
        rows = [[f"{part} (waiting)" if part in WAITING[kind] else part, *(cell(role, part) for role in names)]
                for part in parts]  # fmt: skip
        rows += [
            ["together", *(f"{walls[role]:,.1f} s" for role in names)],
            ["waiting, of these", *(percent(told.idle(role)) for role in names)],
            ["on the clock", *(f"{clock[role]:,.1f} s" for role in names)],
            ["lives", *(f"{len(lives[role])}" for role in names)],
        ]
        ledger = table(["part", *names], rows)
        blocks.append(Block(heading(title, 3).html + ledger.html))
    narrow = len(told.roles) <= len(KINDS)
    return section("Where the time goes", _LEAD_LEDGER, *(beside(blocks) if narrow else blocks))


_LEAD_LEDGER = (
    "Parts do not overlap and add up to a role's time; its lives, where it was started again, are together. The clock "
    "also has what comes before the first part, such as a host's compilation. The learner should wait little: "
    "where it waits for batches it needs more hosts; where hosts wait, there are too many, or too few tickets."
)


def versions(told: Told) -> list[Block]:
    """Versions over time, and the way of each to its hosts."""
    zero = told.began
    lines = {"learner": [((row["time"] - zero) / 60, row["version"]) for row in told.steps]}
    weights = {host: told.weights(host) for host in told.hosts}
    for host in told.hosts[:MOST_HOSTS]:
        lines[host] = [((one["swapped"] - zero) / 60, one["version"]) for one in weights[host]]
    lines = {name: _picked(sorted(points)) for name, points in lines.items()}
    blocks = plot(_LOOK_VERSIONS, "Versions over time", lines, "minutes", "version in use", stepped=True, include=(0,))
    if len(told.hosts) > MOST_HOSTS:
        blocks.append(prose(f"The first {MOST_HOSTS} of {len(told.hosts)} hosts are drawn."))
    every = [one for taken in weights.values() for one in taken]
    by_version = [{"step": one["version"], **since(one)} for one in sorted(every, key=lambda one: one["version"])]
    stages = {stage: curve(by_version, stage) for stage in STAGES[1:]}
    blocks += plot(_LOOK_STAGES, "From announced to in use", stages, "version", "seconds since announced", log_y=True)
    if every:
        header = ["host", "versions taken", *(f"{one} → {two}" for one, two in pairwise(STAGES)), "all", "worst"]
        blocks += [prose("The median of each stage, in seconds:")]
        blocks += [table(header, [_latency_row(host, taken) for host, taken in weights.items() if taken])]
    counts = ("made", "read", "reread", "swaps", "duplicates", "replayed", "lease_retries")
    done = {host: Counter[str]() for host in told.hosts}
    for host, total in done.items():
        for row in told.lives(host):
            total.update({name: row.get(name, 0) for name in counts})
    if done:
        rows = [[host, *(f"{total[name]:,}" for name in counts)] for host, total in done.items()]
        header = ["host", "tokens made", "read", "read again", "swaps", "duplicates", "known already", "weights missed"]
        blocks += [prose(_LOOK_HOSTS), table(header, rows)]
    return section("Versions", "How weights travel from the learner to whoever draws with them.", *blocks)


def _picked(points: Points) -> Points:
    size = -(-len(points) // CURVE_POINTS) or 1
    return [*points[:-1:size], *points[-1:]]


def _latency_row(host: str, taken: list[dict[str, float]]) -> list[str]:
    stages = [median(one[after] - one[before] for one in taken) for before, after in pairwise(STAGES)]
    whole = [since(one)["swapped"] for one in taken]
    return [host, f"{len(taken):,}", *(f"{seconds:.3f}" for seconds in (*stages, median(whole), max(whole)))]


_LOOK_VERSIONS = (
    "Hosts should follow the learner closely. Flat for one is a host that died or is stuck, for all a run at rest."
)
_LOOK_STAGES = "The way between two lines is what a stage costs; the first version of a life has its start in it too."
_LOOK_HOSTS = (
    "Tokens read again are prompts and answers whose cache was dropped with a swap: the price of being fresh. Tokens "
    "known already were drawn by a host that died, and came out of the turn journal."
)
