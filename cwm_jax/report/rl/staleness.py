"""Of the page: how old the tokens were that were learnt from, and how far from them the policy was."""

import math

from cwm_jax.report.figures import percent, quantity
from cwm_jax.report.page import Block, table
from cwm_jax.report.plots import Points
from cwm_jax.report.rl.drawing import (
    NONE,
    at,
    beside,
    curve,
    plot,
    section,
    share_bar,
    shares_plot,
)
from cwm_jax.report.rl.told import AGES, Told

AGE_POINTS = 60  # of a class of age: as many as leave the classes apart
AGE_BARS = 16  # the last of them holds all that is older


def staleness(told: Told) -> list[Block]:
    """The age of tokens, and where it comes from."""
    ages = told.ages()
    blocks = []
    if sum(ages):
        counts = ages if len(ages) <= AGE_BARS else [*ages[: AGE_BARS - 1], sum(ages[AGE_BARS - 1 :])]
        names = [f"{age}+" if age == AGE_BARS - 1 and len(ages) > AGE_BARS else f"{age}" for age in range(len(counts))]
        labels = "versions old", "of tokens learnt from", "tokens"
        blocks.append(shares_plot(_LOOK_AGES, "Age of tokens", names, {"tokens": counts}, *labels))
    means = {name: curve(told.steps, key) for name, key in
             (("while it was drawn", "in_flight"), ("while it waited", "in_queue"))}  # fmt: skip
    blocks += plot(_LOOK_MEANS, "Where age comes from", means, "step", "versions, mean of a token", include=(0,))
    more = [
        *plot(_LOOK_SEGMENTS, "Versions in a trajectory", {"versions": curve(told.steps, "segments")}, "step",
               "mean", include=(1,)),
        *plot(_LOOK_OLDEST, "Oldest token", {"oldest": curve(told.steps, "oldest")}, "step", "versions",
               include=(0,)),
    ]  # fmt: skip
    lead = "The age of a token: versions published between the weights that drew it and those that learn."
    return section("Staleness", lead, *beside(blocks), *beside(more))


_LOOK_AGES = "Mass should lie at small ages, with no long tail; all at 0 means that learner and hosts wait in turn."
_LOOK_MEANS = "Age from drawing comes with long episodes; age from waiting means more is drawn than is learnt from."
_LOOK_SEGMENTS = "Above 1, weights were swapped in the middle of trajectories, as they should be where these are long."
_LOOK_OLDEST = "It should level off at the bound that admission sets; a line that climbs is a queue that grows."


def distance(told: Told) -> list[Block]:
    """Clipping, gaps and divergence by age."""

    def by_age(*names: str) -> dict[str, Points]:
        curves = [[curve(told.steps, "by_age", name, place, most=AGE_POINTS) for name in names]
                  for place in range(len(AGES))]  # fmt: skip
        return {_age(place): _summed(found) for place, found in enumerate(curves)}

    plots = [
        *plot(_LOOK_CLIP, "Clipped, by age", by_age("clip_low", "clip_high"), "step", "of tokens", shown=percent,
               include=(0,)),
        *plot(_LOOK_GAP, "Gap of log-probability, by age", by_age("gap"), "step", "|log π − log μ|", log_y=True),
        *plot(_LOOK_KL, "Divergence (k3), by age", by_age("k3"), "step", "nats a token", log_y=True),
        *plot(_LOOK_ESS, "Effective share of samples, by age", by_age("ess"), "step", "of tokens", shown=percent,
               include=(1,)),
    ]  # fmt: skip
    return section(
        "Distance from the policy that drew",
        _LEAD_DISTANCE,
        *_age_table(told),
        *beside(plots[:2]),
        *beside(plots[2:]),
    )


def _age(place: int) -> str:
    return f"{AGES[place]} version{'s' if place != 1 else ''} old"


def _summed(curves: list[Points]) -> Points:
    return [(points[0][0], sum(y for _, y in points)) for points in zip(*curves)]


def _age_table(told: Told) -> list[Block]:
    """Means over the whole run; a class of age that has no token has no row."""
    rows = []
    tokens = [math.fsum(at(row, "by_age", "tokens", place) or 0 for row in told.steps) for place in range(len(AGES))]
    for place, count in enumerate(tokens):
        if not count:
            continue
        cells = []
        for name in ("gap", "k1", "k3", "ratio", "ess", "clip_low", "clip_high"):
            known = [(value, at(row, "by_age", "tokens", place) or 0) for row in told.steps
                     if (value := at(row, "by_age", name, place)) is not None]  # fmt: skip
            mean = math.fsum(value * weight for value, weight in known) / max(math.fsum(w for _, w in known), 1e-9)
            is_share = name in ("ess", "clip_low", "clip_high")
            cells.append(NONE if not known else percent(mean) if is_share else quantity(mean))
        share = count / math.fsum(tokens)
        rows.append([_age(place), share_bar(share, percent(share)), *cells])
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
