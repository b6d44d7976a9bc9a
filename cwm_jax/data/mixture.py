"""Mixtures: how often rows of each prepared set are drawn, from shares, sizes and target epochs. Plain arithmetic.

As in CWM's mid-training (paper §4.2) a set's part is in proportion to its target epochs times its tokens, and groups of
sets have fixed shares of all tokens: 30 % CWM's own data, 40 % code, 30 % rehearsal of pre-training.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import fsum, isclose
from pathlib import Path

from cwm_jax.data.manifest import Manifest
from cwm_jax.files import write_json

NAME = "mixture.json"


@dataclass(frozen=True)
class MixedSet:
    """A prepared set that may be drawn from.

    Attributes:
      name: its own.
      folder: of its rows; while there is no manifest in it, the set is absent.
      epochs: target: its weight within its group is this times its tokens (default 1, the least of the paper's 1 to 4;
        it does not print those of each set).
      max_epochs: how often it may be seen at most, whatever the shares ask (default 4, the most of the paper).
    """

    name: str
    folder: str
    epochs: float = 1.0
    max_epochs: float = 4.0

    def __post_init__(self):
        if not 0 < self.epochs <= self.max_epochs:
            raise ValueError(
                f"MixedSet.epochs={self.epochs} of {self.name} must be above 0 and at most max_epochs={self.max_epochs}"
            )


@dataclass(frozen=True)
class Group:
    """Sets that have a share of the mixture together."""

    name: str
    share: float
    sets: tuple[MixedSet, ...]

    def __post_init__(self):
        if not 0 < self.share <= 1 or not self.sets:
            raise ValueError(f"Group.share={self.share} of {self.name} must be above 0, at most 1, with Group.sets")


MIDTRAIN = (
    Group(
        "cwm",
        0.3,
        tuple(MixedSet(n, f"data/{n}") for n in ("functions", "contests", "repositories", "narration", "agents")),
    ),
    Group("code", 0.4, (MixedSet("code", "data/code"),)),
    Group("rehearsal", 0.3, (MixedSet("rehearsal", "data/rehearsal"),)),
)


@dataclass(frozen=True)
class Mixture:
    """What is mixed.

    Attributes:
      groups: their shares add up to 1 (default: those of CWM's mid-training).
      tokens: drawn over the whole run, padding not counted (default: 5 T, as CWM's mid-training).
    """

    groups: tuple[Group, ...] = MIDTRAIN
    tokens: int = 5_000_000_000_000

    def __post_init__(self):
        shares = [group.share for group in self.groups]
        if not isclose(fsum(shares), 1):
            raise ValueError(f"shares of Mixture.groups must add up to 1, not {shares}")
        names = [one.name for group in self.groups for one in group.sets]
        if len(set(names)) != len(names):
            raise ValueError(f"Mixture.groups name a set twice: {sorted(names)}; give each a name of its own")
        if self.tokens < 1:
            raise ValueError(f"Mixture.tokens={self.tokens} must be at least 1")


@dataclass(frozen=True)
class Drawn:
    """A set as it is drawn from.

    Attributes:
      name, group, folder: see `MixedSet`.
      tokens, rows: that it holds.
      target_epochs: that were asked for.
      epochs: that it comes to.
      rate: its part of all tokens.
      row_rate: its part of all rows; rows of short documents hold fewer tokens.
    """

    name: str
    group: str
    folder: str
    tokens: int
    rows: int
    target_epochs: float
    epochs: float
    rate: float
    row_rate: float


@dataclass(frozen=True)
class ResolvedMixture:
    """A mixture over the sets that are there.

    Attributes:
      tokens: drawn over the whole run.
      vocabulary: fingerprint of the one that made all the rows.
      shares: of each group, as it was asked for.
      sets: those that are there; their rates add up to 1.
      absent: names of the others.
    """

    tokens: int
    vocabulary: str
    shares: dict[str, float]
    sets: tuple[Drawn, ...]
    absent: tuple[str, ...]

    def write(self, folder: Path) -> None:
        write_json(Path(folder) / NAME, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "ResolvedMixture":
        """The one that was written; FileNotFoundError where there is none."""
        fields = json.loads((Path(folder) / NAME).read_text())
        sets = tuple(Drawn(**one) for one in fields.pop("sets"))
        return cls(**fields | {"sets": sets, "absent": tuple(fields["absent"])})


def resolve(mixture: Mixture) -> ResolvedMixture:
    """Reads the manifests of the sets that are there and gives each its rate.

    Raises:
      FileNotFoundError: none is there.
      ValueError: they were made with several vocabularies, have rows of several lengths, or hold too few tokens.
    """
    wanted = [(group, one) for group in mixture.groups for one in group.sets]
    found: dict[str, Manifest] = {}
    for _, one in wanted:
        try:
            manifest = Manifest.read(Path(one.folder))
        except FileNotFoundError:
            continue
        if manifest.tokens:
            found[one.name] = manifest
    if not found:
        folders = ", ".join(one.folder for _, one in wanted)
        raise FileNotFoundError(f"no set of Mixture.groups is there; prepare at least one of {folders}")
    vocabularies = {name: manifest.vocabulary for name, manifest in found.items()}
    if len(set(vocabularies.values())) > 1:
        raise ValueError(f"the sets were made with several vocabularies: {vocabularies}; prepare them with one")
    lengths = {name: max(manifest.rows) for name, manifest in found.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"rows of the sets have several lengths: {lengths}; prepare them with one last bucket")
    rates = mix(mixture, {name: manifest.tokens for name, manifest in found.items()})
    by_row = {name: rates[name] * sum(found[name].rows.values()) / found[name].tokens for name in found}
    sets = tuple(
        Drawn(
            one.name,
            group.name,
            one.folder,
            found[one.name].tokens,
            sum(found[one.name].rows.values()),
            one.epochs,
            rates[one.name] * mixture.tokens / found[one.name].tokens,
            rates[one.name],
            by_row[one.name] / fsum(by_row.values()),
        )
        for group, one in wanted
        if one.name in found
    )
    absent = tuple(one.name for _, one in wanted if one.name not in found)
    shares = {group.name: group.share for group in mixture.groups}
    return ResolvedMixture(mixture.tokens, next(iter(vocabularies.values())), shares, sets, absent)


def mix(mixture: Mixture, tokens: Mapping[str, int]) -> dict[str, float]:
    """The part of all tokens that each set gives.

    The share of an absent set goes to the others of its group, and that of a group without sets to the other groups in
    proportion to their shares (our choice). So does what a set or a group cannot give within its `max_epochs`.

    Args:
      mixture: what was asked for.
      tokens: in each set that is there, at least 1; the others are absent.

    Raises:
      ValueError: all sets together hold too few tokens.
    """
    groups = [[one for one in group.sets if one.name in tokens] for group in mixture.groups]
    most = [[Fraction(one.max_epochs) * tokens[one.name] / mixture.tokens for one in sets] for sets in groups]
    whole = sum(map(sum, most))
    if whole < 1:
        raise ValueError(
            f"Mixture.tokens={mixture.tokens:,} are more than the sets give within their max_epochs; lower it to "
            f"{int(whole * mixture.tokens):,}, raise MixedSet.max_epochs, or prepare more sets"
        )
    asked = [Fraction(group.share) for group in mixture.groups]
    shares = fill(asked, [Fraction(sum(limits)) for limits in most], Fraction(1))
    rates = {}
    for sets, limits, share in zip(groups, most, shares):
        parts = fill([Fraction(one.epochs) * tokens[one.name] for one in sets], limits, share)
        rates |= {one.name: float(part) for one, part in zip(sets, parts)}
    return rates


def fill(weights: Sequence[Fraction], most: Sequence[Fraction], total: Fraction) -> list[Fraction]:
    """Divides `total` in proportion to `weights`, but gives nobody more than its `most`: what is over goes to the rest.

    Gives less than `total` only where all have their most. Fractions, because sizes differ by factors of a trillion and
    floats would lose what is left for the small. (Who is full first is served first, so one pass will do.)
    """
    parts = [Fraction(0)] * len(weights)
    order = sorted(range(len(weights)), key=lambda index: most[index] / weights[index])
    for place, index in enumerate(order):
        weight = sum(weights[other] for other in order[place:])
        parts[index] = min(most[index], total * weights[index] / weight)
        total -= parts[index]
    return parts
