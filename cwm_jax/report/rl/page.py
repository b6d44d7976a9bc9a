"""`report.html` of a run of reinforcement learning."""

from pathlib import Path
from statistics import fmean

from cwm_jax.report.figures import percent, quantity
from cwm_jax.report.page import Block, Page, code, folded, heading, key_figures, prose
from cwm_jax.report.rl.drawing import KINDS, NONE, at, figure
from cwm_jax.report.rl.learning import groups, rewards, updates
from cwm_jax.report.rl.roles import ledger, versions
from cwm_jax.report.rl.staleness import distance, staleness
from cwm_jax.report.rl.tensorboard import rl_tensorboard
from cwm_jax.report.rl.told import Told, kind_of, read


def rl_report(run: str | Path) -> Path:
    """Writes `report.html` and `tensorboard/` into the folder of a run; the path of the former.

    Reads `results.json`, `metrics/`, `held_out/`, `config.json` and `config.gin`; what is not there yet is left out.
    """
    run = Path(run)
    told = read(run)
    page = Page(f"{run.resolve().name}: reinforcement learning", "What it learned, from how old data, at what pace.")
    page.add(*_overview(told), *rewards(told), *staleness(told), *distance(told), *ledger(told), *versions(told))
    page.add(*groups(told), *updates(told), *_config(run))
    rl_tensorboard(run, told)
    return page.write(run / "report.html")


def _overview(told: Told) -> list[Block]:
    figures, results = [], told.results
    for name in told.environments:
        measured = [one["environments"][name] for one in told.examinations if name in one["environments"]]
        if measured:
            before, after = ([at(one, key) for key in ("reward", "pass")] for one in (measured[0], measured[-1]))
            passed = " → ".join(NONE if value is None else percent(value) for value in (before[1], after[1]))
            value = f"{figure(before[0])} → {figure(after[0])}"
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
