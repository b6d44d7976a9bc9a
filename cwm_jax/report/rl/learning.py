"""Of the page: what the policy learnt, from groups of what worth, by what updates."""

from collections import Counter
from typing import Any

from cwm_jax.report.figures import percent
from cwm_jax.report.page import Block, table
from cwm_jax.report.rl.drawing import at, beside, curve, explained, plot, section, share_bar, shares_plot
from cwm_jax.report.rl.told import Told


def rewards(told: Told) -> list[Block]:
    """Rewards, passes and lengths of each environment."""
    blocks = []
    for name in told.environments:
        first = name == told.environments[0]

        def drawn(look: str, title: str, key: str, held: str, label: str, **drawn: Any) -> list[Block]:
            series = {"learnt from": curve(told.steps, key, name),
                      "held out": curve(told.examinations, "environments", name, held)}  # fmt: skip
            if key == "pass":
                series["learnt from, cut short"] = curve(told.steps, "cut", name)
            title = f"{title}, {name}"
            return plot(look if first else "", title, series, "step", label, dotted=("held out",), **drawn)

        blocks += drawn(_LOOK_REWARD, "Reward", "reward", "reward", "mean of an attempt")
        passed = drawn(_LOOK_PASS, "Passed", "pass", "pass", "of attempts", shown=percent, include=(0, 1))
        lengths = drawn(_LOOK_LENGTH, "Length", "length", "tokens", "tokens an agent said", include=(0,))
        blocks += beside([*passed, *lengths])
    return section("Reward", _LEAD_REWARD, *blocks)


_LEAD_REWARD = (
    "A step learns only from groups whose attempts differ in reward: those that are all right or all wrong are passed "
    "over. Its mean is therefore of tasks of middling difficulty; whether the policy is better, held-out tasks tell."
)
_LOOK_REWARD = "The dots should rise. Where the line rises and they do not, the training tasks are learnt by heart."
_LOOK_PASS = "Passes should rise with the reward, else it pays for something else; attempts cut short should stay few."
_LOOK_LENGTH = "A length that runs up or down without more reward is a habit, and the first sign of a reward misused."


def groups(told: Told) -> list[Block]:
    """What groups were worth, and why some were passed over."""
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
        labels = "% of attempts pass, or more", "of groups learnt from", "groups"
        blocks.append(shares_plot(_LOOK_RATES, "Solve rates", names, bins, *labels))
    blocks += plot(_LOOK_USEFUL, "Useful tokens", {"useful": curve(told.steps, "useful")}, "step",
                    "of tokens in groups learnt from", shown=percent, include=(0, 1))  # fmt: skip
    reasons = Counter(told.results["rejected"]) if "rejected" in told.results else told.counted("rejected")
    tables = []
    for counts, header, look in ((reasons, ["passed over because", "groups", "of these"], _LOOK_REASONS),
                                 (told.counted("statuses"), ["failed because", "attempts", "of these"],
                                  _LOOK_STATUSES)):  # fmt: skip
        if total := sum(counts.values()):
            rows = [[name, f"{n:,}", share_bar(n / total, percent(n / total))] for name, n in counts.most_common()]
            tables.append(explained(table(header, rows), look))
    return section("Groups", "What groups were worth.", *beside(blocks), *beside(tables))


_LOOK_RATES = (
    "Mass should wander to the right; groups at either end teach least. The rate is of passing: rewards may differ "
    "where no attempt passes."
)
_LOOK_USEFUL = "What is drawn and not learnt from is lost: a low line calls for other tasks or milder filters."
_LOOK_REASONS = "Zero advantage means too easy or too hard; anything else is a bound that is hit, worth a look."
_LOOK_STATUSES = "Attempts that failed for no fault of the agent; many of one kind point at an environment that is ill."


def updates(told: Told) -> list[Block]:
    """The objective, gradients and what was left out."""

    def one(look: str, title: str, key: str, label: str, **drawn: Any) -> list[Block]:
        return plot(look, title, {title.lower(): curve(told.steps, key)}, "step", label, **drawn)

    plots = [
        *one(_LOOK_OBJECTIVE, "Objective", "objective", "to be made large"),
        *one(_LOOK_SURPRISE, "Surprise", "surprise", "−log π, nats a token", include=(0,)),
        *one(_LOOK_GRADIENT, "Gradient norm", "gradient_norm", "before clipping", log_y=True),
        *one(_LOOK_OBSERVED, "Loss on observations", "observation_loss", "nats a token"),
        *one(_LOOK_TOKENS, "Tokens a step", "tokens", "of agents", include=(0,)),
    ]
    if any(at(row, "left_out") for row in told.steps):
        plots += one(_LOOK_LEFT_OUT, "Tokens left out", "left_out", "of agents", include=(0,))
    return section("Updates", "What each step of the learner did.", *beside(plots))


_LOOK_OBJECTIVE = "It should hover around 0: advantages of a group add up to 0. A drift says that clipping is at work."
_LOOK_SURPRISE = "An estimate of the policy's entropy. A fall to 0 while the reward stands still is a collapse."
_LOOK_GRADIENT = "Spikes name steps to be looked at; a fall to nothing means that no group differs any more."
_LOOK_OBSERVED = "How well the policy still predicts environments; a rise means that it forgets the world."
_LOOK_TOKENS = "An even line is an even learning rate a token; it falls where answers get shorter."
_LOOK_LEFT_OUT = "Tokens that the objective does not count, though they were drawn and packed; few is right."
