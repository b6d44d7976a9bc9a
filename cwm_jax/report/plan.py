"""A plan for reinforcement learning, in the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

_COMPARED = {
    "interval": ("seconds a step", "{:,.1f}"),
    "learner": ("time in which the learner steps", "{:.1%}"),
    "slots": ("slots that draw", "{:.1%}"),
    "oldest": ("age of first tokens, steps", "{:.1f}"),
    "newest": ("age of last tokens, steps", "{:.1f}"),
    "versions": ("weights that draw an episode", "{:.1f}"),
    "reach": ("seconds from a step to its weights on all hosts", "{:.1f}"),
}


def print_plan(report: dict[str, Any], console: Console | None = None) -> None:
    """Prints a report as `plan` writes it."""
    console = console or Console(highlight=False)
    chips, learner, sampler, sent = (report[part] for part in ("chips", "learner", "sampler", "publication"))
    limits = ", ".join(f"{part} {seconds:,.1f} s" for part, seconds in report["seconds_a_step_of"].items())
    facts = Table(show_header=False, box=None)
    for what, fact in (
        ("plan", report["experiment"]),
        ("chips", f"{chips['learner']:,} to learn, {chips['samplers']:,} to draw: {sampler['count']:,} samplers of "
                  f"{chips['of_a_sampler']}; {chips['environment_nodes']:,} machines of environments"),
        ("learner", f"{learner['step_seconds']:.1f} s a step of {learner['tokens_per_step']:,} tokens, "
                    f"{learner['groups_per_step']:,} groups; {learner['days']:.1f} days in all"),
        ("sampler", f"{sampler['tokens_per_second']:,.0f} tokens/s drawn, {sampler['decode_ms']:.1f} ms each step, "
                    f"{sampler['of_weights_ms']:.1f} of them for weights; {sampler['balance']:.1f} feed the learner"),
        ("", f"{sampler['episodes']:.0f} episodes of {sampler['episode_seconds']:,.0f} s at once, "
             f"{sampler['group_seconds']:,.0f} s until a group is done; {sampler['pages_used']:.0%} of the pages"),
        ("", f"{sampler['hbm_gib']:.1f} GiB a chip, {sampler['weight_sets']} sets of weights in them"
             + ("" if sampler["fits"] else ": too much")),
        ("weights", f"{sent['bytes'] / 1e9:.1f} GB a publication: {sent['write_seconds']:.1f} s to write, at most "
                    f"{sent['detect_seconds']:.1f} to notice, {sent['read_seconds']:.1f} to read, "
                    f"{sent['swap_seconds']:.1f} to swap"),
        ("", f"{sent['first_token_everywhere_seconds']:.1f} s from the end of a step to first tokens on every host"),
        ("limit", f"{report['bound']}; by itself, a step would take: {limits}"),
    ):  # fmt: skip
        facts.add_row(what, fact)
    console.print(facts)
    both = Table("in the mean", *(3 * [""]))
    for column, header in zip(both.columns[1:], ("arithmetic", "simulated", "off")):
        column.header, column.justify = header, "right"
    for name, (what, form) in _COMPARED.items():
        row = report["compared"][name]
        simulated = [form.format(row["simulated"]), f"{row['off']:+.1%}"] if row["off"] is not None else ["never", ""]
        both.add_row(what, form.format(row["arithmetic"]), *simulated)
    console.print(both)
