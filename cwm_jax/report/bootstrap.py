"""`report.html` of a bootstrapping run: what each round came to, with links to the reports of its parts."""

import json
from pathlib import Path
from typing import Any

from cwm_jax.report.figures import percent
from cwm_jax.report.page import Page, code, escape, folded, heading, key_figures, prose, raw, table
from cwm_jax.report.plots import bar_plot

HEADER = ("round", "environment", "learnt in SFT", "before RL", "after RL", "tasks", "kept")
_NONE = "–"


def overview(results: dict[str, Any]) -> list[list[str]]:
    """A row of `HEADER` for each round and environment."""
    return [
        [
            str(one["round"]), name, f"{one['sft']['trajectories']:,}" if one["sft"] else _NONE,
            _share(rate["before"]), _share(rate["after"]), f"{rate['n']:,}", f"{one['kept']['trajectories']:,}",
        ]
        for one in results["rounds"]
        for name, rate in one["success"].items()
    ]  # fmt: skip


def bootstrap_report(folder: str | Path) -> Path:
    """Writes `report.html` into the folder of a run from its `results.json` and `config.gin`; its path."""
    folder = Path(folder)
    results = json.loads((folder / "results.json").read_text())
    rounds = results["rounds"]
    page = Page(
        f"{folder.resolve().name}: self-bootstrapping", "RL, SFT on what passed, RL again: what each round came to."
    )
    figures = []
    for name, last in rounds[-1]["success"].items():
        began = rounds[0]["success"][name]["before"]
        ends = ", ".join(_share(one["success"][name]["after"]) for one in rounds)
        figures.append(
            (f"{name}, held-out tasks solved", f"{_share(began)} → {_share(last['after'])}", f"by round {ends}")
        )
    page.add(key_figures([*figures, ("minutes", f"{results['minutes']:.1f}", f"rounds: {len(rounds)}")]))
    page.add(heading("Success"), prose(_LEAD))
    numbers = [str(one["round"]) for one in rounds]
    for name in rounds[-1]["success"]:
        series = {f"{when} RL": [one["success"][name][when] for one in rounds] for when in ("before", "after")}
        page.add(bar_plot(f"Held-out tasks solved, {name}", numbers, series, "round", "of attempts"))
    page.add(table(list(HEADER), overview(results)), heading("What was left out"), prose(_LEAD_DROPPED))
    reasons = list(dict.fromkeys(reason for one in rounds for reason in one["kept"]["dropped"]))
    dropped = [[number, *(f"{one['kept']['dropped'].get(reason, 0):,}" for reason in reasons)]
               for number, one in zip(numbers, rounds)]  # fmt: skip
    page.add(table(["round", *reasons], dropped), heading("Parts"))
    parts = [f"round-{one['round']}/{part}" for one in rounds for part in ("sft", "rl") if part == "rl" or one["sft"]]
    links = "".join(f'<li><a href="{escape(part)}/report.html">{escape(part)}</a></li>' for part in parts)
    page.add(raw(f"<ul>{links}</ul>"), folded("config.gin", code((folder / "config.gin").read_text())))
    return page.write(folder / "report.html")


def _share(value: float | None) -> str:
    return _NONE if value is None else percent(value)


_LEAD = (
    "The first bar of round 0 is the mid-training checkpoint, of later rounds SFT from that same checkpoint on what "
    "passed in the round before. It should be above the first bar of round 0, and the second bars should rise."
)
_LEAD_DROPPED = (
    "Trajectories, as those in the table, by reason. Where most are alike the policy says few different things; where "
    "most did not pass, hard tasks are still out of reach."
)
