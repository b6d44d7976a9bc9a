"""`report.html` of a run of reinforcement learning."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from cwm_jax.report.figures import percent, quantity
from cwm_jax.report.page import Block, Page, code, escape, folded, heading, key_figures, prose, raw, side_by_side, table
from cwm_jax.report.plots import Points, bar_plot, line_plot
from cwm_jax.report.rl.tensorboard import rl_tensorboard
from cwm_jax.report.rl.told import AGES, STAGES, WAITING, Told, kind_of, read, since

KINDS = {"learner": "Learner", "sampler": "Inference hosts", "env": "Environments"}
CURVE_POINTS = 300  # as many as a plot has room for
AGE_POINTS = 60  # of a class of age: as many as leave the classes apart
AGE_BARS = 16  # the last of them holds all that is older
MOST_HOSTS = 5  # beside the learner, as many lines as have colours
_NONE = "–"


def rl_report(run: str | Path) -> Path:
    """Writes `report.html` and `tensorboard/` into the folder of a run; the path of the former.

    Reads `results.json`, `metrics/`, `held_out/`, `config.json` and `config.gin`; what is not there yet is left out.
    """
    run = Path(run)
    told = read(run)
    page = Page(f"{run.resolve().name}: reinforcement learning", "What it learned, from how old data, at what pace.")
    page.add(*_overview(told), *_rewards(told), *_staleness(told), *_distance(told), *_ledger(told), *_versions(told))
    page.add(*_groups(told), *_updates(told), *_config(run))
    rl_tensorboard(run, told)
    return page.write(run / "report.html")


# What is drawn


def _at(row: Any, *path: str | int) -> float | None:
    """What is found in a row by keys and places; None where there is nothing or it is no finite number."""
    for key in path:
        try:
            row = row[key]
        except (KeyError, IndexError, TypeError):
            return None
    return row if row is not None and math.isfinite(row) else None


def _curve(rows: Iterable[dict], *path: str | int, most: int = CURVE_POINTS) -> Points:
    """`(step, value)`, thinned to `most` by the mean of neighbours."""
    points = [(row["step"], value) for row in rows if (value := _at(row, *path)) is not None]
    size = -(-len(points) // most) or 1
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], fmean(value for _, value in part)) for part in parts]


# How it is shown


def _plot(look: str, title: str, series: dict[str, Points], x_label: str, y_label: str, **drawn: Any) -> list[Block]:
    """The lines that have something to draw, and below them what to look for; nothing where there is no line."""
    log = drawn.get("log_y", False)
    series = {name: points for name, points in series.items() if any(y > 0 or not log for _, y in points)}
    return [_explained(line_plot(title, series, x_label, y_label, **drawn), look)] if series else []


def _explained(block: Block, look: str) -> Block:
    return Block(block.html + prose(look).html, block.assets) if look else block


def _beside(blocks: list[Block]) -> list[Block]:
    return [side_by_side(*blocks)] if blocks else []


def _section(title: str, lead: str, *blocks: Block) -> list[Block]:
    return [heading(title), prose(lead), *blocks] if blocks else []


def _figure(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _share(value: float, text: str) -> Block:
    """A text with a bar below it, as long as any other beside it."""
    width = f"--share:{100 * min(max(value, 0), 1):.1f}%; min-width: 10em"
    return raw(f'<span class="share" style="{width}">{escape(text)}</span>')


# Parts of the page


def _overview(told: Told) -> list[Block]:
    figures, results = [], told.results
    for name in told.environments:
        measured = [one["environments"][name] for one in told.examinations if name in one["environments"]]
        if measured:
            before, after = ([_at(one, key) for key in ("reward", "pass")] for one in (measured[0], measured[-1]))
            passed = " → ".join(_NONE if value is None else percent(value) for value in (before[1], after[1]))
            value = f"{_figure(before[0])} → {_figure(after[0])}"
            figures.append((f"{name}, held-out reward", value, f"passed {passed}, {measured[-1]['n']:,} tasks"))
    if told.steps:
        tokens = sum(told.ages())
        figures.append(("steps", f"{told.steps[-1]['step']:,}", f"{quantity(tokens)} tokens of agents learnt from"))
    if (told_of := results.get("identity")) is not None:
        note = (
            f"{told_of['issued']:,} issued = {told_of['consumed']:,} learnt from + {told_of['rejected']:,} passed over "
            f"+ {told_of['sealed']:,} waiting + {told_of['in_flight']:,} under way"
        )
        figures.append(("accounts of groups", f"residual {told_of['residual']}", note))
    if told.steps:
        published = results.get("versions", {}).get("published", max(row["version"] for row in told.steps))
        taken = sum(len(told.weights(host)) for host in told.hosts)
        figures.append(("versions published", f"{published:,}", f"taken {taken:,} times, hosts: {len(told.hosts)}"))
        ages = told.ages()
        mean = sum(age * count for age, count in enumerate(ages)) / max(sum(ages), 1)
        oldest = max((age for age, count in enumerate(ages) if count), default=0)
        figures.append(("mean age of a token", f"{mean:.2f}", f"versions; the oldest {oldest}"))
    for kind, name in KINDS.items():
        if idle := {role: told.idle(role) for role in told.roles if kind_of(role) == kind}:
            worst = max(idle, key=idle.get)
            note = f"mean of {len(idle)}; {worst} {percent(idle[worst])}" if len(idle) > 1 else "of its time"
            figures.append((f"{name.lower()} idle", percent(fmean(idle.values())), note))
    if "kills_survived" in results:
        restarts = ", ".join(f"{role} {count}" for role, count in results.get("restarts", {}).items())
        note = f"{restarts or 'none died'}; {results.get('tickets_again', 0):,} tickets given out again"
        figures.append(("kills survived", f"{results['kills_survived']:,}", note))
    if "minutes" in results:
        figures.append(("minutes", f"{results['minutes']:.1f}", "of the last call"))
    return [key_figures(figures)] if figures else [prose("No role has told anything yet.")]


def _rewards(told: Told) -> list[Block]:
    blocks = []
    for name in told.environments:
        first = name == told.environments[0]

        def drawn(look: str, title: str, key: str, held: str, label: str, **drawn: Any) -> list[Block]:
            series = {"learnt from": _curve(told.steps, key, name),
                      "held out": _curve(told.examinations, "environments", name, held)}  # fmt: skip
            if key == "pass":
                series["learnt from, cut short"] = _curve(told.steps, "cut", name)
            title = f"{title}, {name}"
            return _plot(look if first else "", title, series, "step", label, dotted=("held out",), **drawn)

        blocks += drawn(_LOOK_REWARD, "Reward", "reward", "reward", "mean of an attempt")
        passed = drawn(_LOOK_PASS, "Passed", "pass", "pass", "of attempts", shown=percent, include=(0, 1))
        lengths = drawn(_LOOK_LENGTH, "Length", "length", "tokens", "tokens an agent said", include=(0,))
        blocks += _beside([*passed, *lengths])
    return _section("Reward", _LEAD_REWARD, *blocks)


_LEAD_REWARD = (
    "A step learns only from groups whose attempts differ in reward: those that are all right or all wrong are passed "
    "over. Its mean is therefore of tasks of middling difficulty; whether the policy is better, held-out tasks tell."
)
_LOOK_REWARD = "The dots should rise. Where the line rises and they do not, the training tasks are learnt by heart."
_LOOK_PASS = "Passes should rise with the reward, else it pays for something else; attempts cut short should stay few."
_LOOK_LENGTH = "A length that runs up or down without more reward is a habit, and the first sign of a reward misused."


def _staleness(told: Told) -> list[Block]:
    ages = told.ages()
    blocks = []
    if sum(ages):
        counts = ages if len(ages) <= AGE_BARS else [*ages[: AGE_BARS - 1], sum(ages[AGE_BARS - 1 :])]
        names = [f"{age}+" if age == AGE_BARS - 1 and len(ages) > AGE_BARS else f"{age}" for age in range(len(counts))]
        shares = {"tokens": [count / sum(ages) for count in counts]}
        notes = {"tokens": [f"{count:,} tokens" for count in counts]}
        plot = bar_plot("Age of tokens", names, shares, "versions old", "of tokens learnt from", notes)
        blocks.append(_explained(plot, _LOOK_AGES))
    means = {name: _curve(told.steps, key) for name, key in
             (("while it was drawn", "in_flight"), ("while it waited", "in_queue"))}  # fmt: skip
    blocks += _plot(_LOOK_MEANS, "Where age comes from", means, "step", "versions, mean of a token", include=(0,))
    more = [
        *_plot(_LOOK_SEGMENTS, "Versions in a trajectory", {"versions": _curve(told.steps, "segments")}, "step",
               "mean", include=(1,)),
        *_plot(_LOOK_OLDEST, "Oldest token", {"oldest": _curve(told.steps, "oldest")}, "step", "versions",
               include=(0,)),
    ]  # fmt: skip
    lead = "The age of a token: versions published between the weights that drew it and those that learn."
    return _section("Staleness", lead, *_beside(blocks), *_beside(more))


_LOOK_AGES = "Mass should lie at small ages, with no long tail; all at 0 means that learner and hosts wait in turn."
_LOOK_MEANS = "Age from drawing comes with long episodes; age from waiting means more is drawn than is learnt from."
_LOOK_SEGMENTS = "Above 1, weights were swapped in the middle of trajectories, as they should be where these are long."
_LOOK_OLDEST = "It should level off at the bound that admission sets; a line that climbs is a queue that grows."


def _distance(told: Told) -> list[Block]:
    def by_age(*names: str) -> dict[str, Points]:
        curves = [[_curve(told.steps, "by_age", name, place, most=AGE_POINTS) for name in names]
                  for place in range(len(AGES))]  # fmt: skip
        return {_age(place): _summed(found) for place, found in enumerate(curves)}

    plots = [
        *_plot(_LOOK_CLIP, "Clipped, by age", by_age("clip_low", "clip_high"), "step", "of tokens", shown=percent,
               include=(0,)),
        *_plot(_LOOK_GAP, "Gap of log-probability, by age", by_age("gap"), "step", "|log π − log μ|", log_y=True),
        *_plot(_LOOK_KL, "Divergence (k3), by age", by_age("k3"), "step", "nats a token", log_y=True),
        *_plot(_LOOK_ESS, "Effective share of samples, by age", by_age("ess"), "step", "of tokens", shown=percent,
               include=(1,)),
    ]  # fmt: skip
    return _section(
        "Distance from the policy that drew",
        _LEAD_DISTANCE,
        *_age_table(told),
        *_beside(plots[:2]),
        *_beside(plots[2:]),
    )


def _age(place: int) -> str:
    return f"{AGES[place]} version{'s' if place != 1 else ''} old"


def _summed(curves: list[Points]) -> Points:
    return [(points[0][0], sum(y for _, y in points)) for points in zip(*curves)]


def _age_table(told: Told) -> list[Block]:
    """Means over the whole run; a class of age that has no token has no row."""
    rows = []
    tokens = [math.fsum(_at(row, "by_age", "tokens", place) or 0 for row in told.steps) for place in range(len(AGES))]
    for place, count in enumerate(tokens):
        if not count:
            continue
        cells = []
        for name in ("gap", "k1", "k3", "ratio", "ess", "clip_low", "clip_high"):
            known = [(value, _at(row, "by_age", "tokens", place) or 0) for row in told.steps
                     if (value := _at(row, "by_age", name, place)) is not None]  # fmt: skip
            mean = math.fsum(value * weight for value, weight in known) / max(math.fsum(w for _, w in known), 1e-9)
            is_share = name in ("ess", "clip_low", "clip_high")
            cells.append(_NONE if not known else percent(mean) if is_share else quantity(mean))
        share = count / math.fsum(tokens)
        rows.append([_age(place), _share(share, percent(share)), *cells])
    header = ["age", "of tokens", "|log π − log μ|", "k1", "k3", "ratio", "effective", "clipped low", "clipped high"]
    return [table(header, rows)] if rows else []


_LEAD_DISTANCE = (
    "μ is the probability that the sampler noted when it drew a token, π that of the weights that learn from it. "
    "Nothing but age, and arithmetic, should part the two."
)
_LOOK_CLIP = "Older tokens are clipped more; where most of a class is, it teaches nothing and is drawn in vain."
_LOOK_GAP = (
    "At age 0 there are only arithmetic, and caches that older weights filled where `kv` keeps them: without these, a "
    "gap there says that learner and sampler compute differently."
)
_LOOK_KL = "It should be ordered by age and stay flat; a rise at every age means that steps are too large."
_LOOK_ESS = "Near 100 % old tokens count as fresh ones do; a drop says that few tokens carry the gradient."


def _ledger(told: Told) -> list[Block]:
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
            return _share(share, f"{seconds:,.1f} s, {percent(min(share, 1.0))}")

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
    return _section("Where the time goes", _LEAD_LEDGER, *(_beside(blocks) if narrow else blocks))


_LEAD_LEDGER = (
    "Parts do not overlap and add up to a role's time; its lives, where it was started again, are together. The clock "
    "also has what comes before the first part, such as a host's compilation. The learner should wait little: "
    "where it waits for batches it needs more hosts; where hosts wait, there are too many, or too few tickets."
)


def _versions(told: Told) -> list[Block]:
    zero = told.began
    lines = {"learner": [((row["time"] - zero) / 60, row["version"]) for row in told.steps]}
    weights = {host: told.weights(host) for host in told.hosts}
    for host in told.hosts[:MOST_HOSTS]:
        lines[host] = [((one["swapped"] - zero) / 60, one["version"]) for one in weights[host]]
    lines = {name: _picked(sorted(points)) for name, points in lines.items()}
    blocks = _plot(_LOOK_VERSIONS, "Versions over time", lines, "minutes", "version in use", stepped=True, include=(0,))
    if len(told.hosts) > MOST_HOSTS:
        blocks.append(prose(f"The first {MOST_HOSTS} of {len(told.hosts)} hosts are drawn."))
    every = [one for taken in weights.values() for one in taken]
    by_version = [{"step": one["version"], **since(one)} for one in sorted(every, key=lambda one: one["version"])]
    stages = {stage: _curve(by_version, stage) for stage in STAGES[1:]}
    blocks += _plot(_LOOK_STAGES, "From announced to in use", stages, "version", "seconds since announced", log_y=True)
    if every:
        header = ["host", "versions taken", *(f"{one} → {two}" for one, two in pairwise(STAGES)), "all", "worst"]
        blocks += [prose("The median of each stage, in seconds:")]
        blocks += [table(header, [_latency_row(host, taken) for host, taken in weights.items() if taken])]
    counts = ("made", "read", "reread", "swaps", "duplicates", "lease_retries")
    done = {host: Counter[str]() for host in told.hosts}
    for host, total in done.items():
        for row in told.lives(host):
            total.update({name: row.get(name, 0) for name in counts})
    if done:
        rows = [[host, *(f"{total[name]:,}" for name in counts)] for host, total in done.items()]
        header = ["host", "tokens made", "read", "read again", "swaps", "duplicates", "weights missed"]
        blocks += [prose(_LOOK_HOSTS), table(header, rows)]
    return _section("Versions", "How weights travel from the learner to whoever draws with them.", *blocks)


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
_LOOK_HOSTS = "Tokens read again are prompts and answers whose cache was dropped with a swap: the price of being fresh."


def _groups(told: Told) -> list[Block]:
    blocks = []
    third = -(-len(told.steps) // 3)
    parts = {"first third of steps": told.steps[:third], "last third": told.steps[-third:]} if third else {}
    parts = parts if len(told.steps) > 2 else {"all steps": told.steps}
    bins = {name: [sum(column) for column in zip(*(row["solve_rates"] for row in rows if row.get("solve_rates")))]
            for name, rows in parts.items()}  # fmt: skip
    bins = {name: counts for name, counts in bins.items() if sum(counts)}
    if bins:
        count = len(next(iter(bins.values())))
        names = [f"{100 * place // count}" for place in range(count)]
        shares = {name: [one / sum(counts) for one in counts] for name, counts in bins.items()}
        notes = {name: [f"{one:,} groups" for one in counts] for name, counts in bins.items()}
        plot = bar_plot("Solve rates", names, shares, "% of attempts pass, or more", "of groups learnt from", notes)
        blocks.append(_explained(plot, _LOOK_RATES))
    blocks += _plot(_LOOK_USEFUL, "Useful tokens", {"useful": _curve(told.steps, "useful")}, "step",
                    "of tokens in groups learnt from", shown=percent, include=(0, 1))  # fmt: skip
    reasons = Counter(told.results["rejected"]) if "rejected" in told.results else told.counted("rejected")
    tables = []
    for counts, header, look in ((reasons, ["passed over because", "groups", "of these"], _LOOK_REASONS),
                                 (told.counted("statuses"), ["failed because", "attempts", "of these"],
                                  _LOOK_STATUSES)):  # fmt: skip
        if total := sum(counts.values()):
            rows = [[name, f"{n:,}", _share(n / total, percent(n / total))] for name, n in counts.most_common()]
            tables.append(_explained(table(header, rows), look))
    return _section("Groups", "What groups were worth.", *_beside(blocks), *_beside(tables))


_LOOK_RATES = (
    "Mass should wander to the right; groups at either end teach least. The rate is of passing: rewards may differ "
    "where no attempt passes."
)
_LOOK_USEFUL = "What is drawn and not learnt from is lost: a low line calls for other tasks or milder filters."
_LOOK_REASONS = "Zero advantage means too easy or too hard; anything else is a bound that is hit, worth a look."
_LOOK_STATUSES = "Attempts that failed for no fault of the agent; many of one kind point at an environment that is ill."


def _updates(told: Told) -> list[Block]:
    def one(look: str, title: str, key: str, label: str, **drawn: Any) -> list[Block]:
        return _plot(look, title, {title.lower(): _curve(told.steps, key)}, "step", label, **drawn)

    plots = [
        *one(_LOOK_OBJECTIVE, "Objective", "objective", "to be made large"),
        *one(_LOOK_SURPRISE, "Surprise", "surprise", "−log π, nats a token", include=(0,)),
        *one(_LOOK_GRADIENT, "Gradient norm", "gradient_norm", "before clipping", log_y=True),
        *one(_LOOK_OBSERVED, "Loss on observations", "observation_loss", "nats a token"),
        *one(_LOOK_TOKENS, "Tokens a step", "tokens", "of agents", include=(0,)),
    ]
    if any(_at(row, "left_out") for row in told.steps):
        plots += one(_LOOK_LEFT_OUT, "Tokens left out", "left_out", "of agents", include=(0,))
    return _section("Updates", "What each step of the learner did.", *_beside(plots))


_LOOK_OBJECTIVE = "It should hover around 0: advantages of a group add up to 0. A drift says that clipping is at work."
_LOOK_SURPRISE = "An estimate of the policy's entropy. A fall to 0 while the reward stands still is a collapse."
_LOOK_GRADIENT = "Spikes name steps to be looked at; a fall to nothing means that no group differs any more."
_LOOK_OBSERVED = "How well the policy still predicts environments; a rise means that it forgets the world."
_LOOK_TOKENS = "An even line is an even learning rate a token; it falls where answers get shorter."
_LOOK_LEFT_OUT = "Tokens that the objective does not count, though they were drawn and packed; few is right."


def _config(run: Path) -> list[Block]:
    gin, resolved, blocks = run / "config.gin", run / "config.json", []
    if gin.exists():
        name = "/".join(run.resolve().parts[-2:])  # no path of the machine belongs on a page
        command = f"python -m cwm_jax rl --gin_file={name}/config.gin --out {name}-again"
        blocks += [prose("To run it again, in the folder of the project:"), code(command)]
        blocks += [folded("config.gin: every binding that was in force", code(gin.read_text(encoding="utf-8")))]
    if resolved.exists():
        blocks += [folded("config.json: the configuration as resolved", code(resolved.read_text(encoding="utf-8")))]
    return [heading("Configuration"), *blocks] if blocks else []
