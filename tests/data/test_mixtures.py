"""Rates of a mixture: they add up, nobody is drawn too often, and shares are met wherever they can be."""

import io
import json
import re
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from math import fsum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from cwm_jax.data.manifest import Manifest
from cwm_jax.data.mixture import MIDTRAIN, NAME, Group, MixedSet, Mixture, fill, mix, resolve
from cwm_jax.data.prepared import PreparedRows
from cwm_jax.report.mixture import print_mixture

SIZES = st.integers(1, 10**13)
CLOSE = 1e-9


@st.composite
def mixtures(draw):
    """A mixture, and the tokens of those of its sets that are there; it is within what they give."""
    groups, tokens = [], {}
    weights = draw(st.lists(st.integers(1, 100), min_size=1, max_size=4))
    for number, weight in enumerate(weights):
        sets = []
        for index in range(draw(st.integers(1, 4))):
            epochs = draw(st.floats(0.1, 4))
            sets.append(MixedSet(f"{number}.{index}", "", epochs, epochs * draw(st.floats(1, 5))))
            if draw(st.booleans()):
                tokens[sets[-1].name] = draw(SIZES)
        groups.append(Group(str(number), weight / sum(weights), tuple(sets)))
    most = sum(one.max_epochs * tokens.get(one.name, 0) for group in groups for one in group.sets)
    assume(most >= 2)
    return Mixture(tuple(groups), draw(st.integers(1, int(most)))), tokens


def by_group(mixture, values):
    return [{one.name: values[one.name] for one in group.sets if one.name in values} for group in mixture.groups]


@given(mixtures())
def test_rates_add_up_and_no_set_exceeds_its_epochs(case):
    mixture, tokens = case
    rates = mix(mixture, tokens)
    assert rates.keys() == tokens.keys() and min(rates.values()) >= 0
    assert fsum(rates.values()) == pytest.approx(1, abs=1e-8)
    for group in mixture.groups:
        for one in group.sets:
            if one.name in rates:
                assert rates[one.name] * mixture.tokens <= one.max_epochs * tokens[one.name] * (1 + CLOSE)


@given(mixtures())
def test_shares_are_met_or_the_group_gives_all_that_it_may(case):
    mixture, tokens = case
    rates = mix(mixture, tokens)
    sets = [one for group in mixture.groups for one in group.sets]
    limits = {one.name: one.max_epochs * tokens.get(one.name, 0) / mixture.tokens for one in sets}
    there = [group for group, sets in zip(mixture.groups, by_group(mixture, rates)) if sets]
    asked = {group.name: group.share / fsum(one.share for one in there) for group in there}
    for group, sets in zip(mixture.groups, by_group(mixture, rates)):
        if sets:
            may = fsum(limits[name] for name in sets)
            assert fsum(sets.values()) >= min(asked[group.name], may) * (1 - CLOSE) - 1e-12
    if all(fsum(limits[name] for name in sets) >= 1 for sets in by_group(mixture, rates) if sets):
        for group, sets in zip(mixture.groups, by_group(mixture, rates)):
            assert not sets or fsum(sets.values()) == pytest.approx(asked[group.name])


@given(mixtures())
def test_sets_of_a_group_are_seen_in_proportion_to_their_target_epochs_unless_one_is_full(case):
    mixture, tokens = case
    rates = mix(mixture, tokens)
    for group in mixture.groups:
        levels = defaultdict(list)
        for one in group.sets:
            if one.name in rates:
                epochs = rates[one.name] * mixture.tokens / tokens[one.name]
                levels[epochs >= one.max_epochs * (1 - 1e-6)].append(epochs / one.epochs)
        if levels[False]:
            assert max(levels[False]) == pytest.approx(min(levels[False]), rel=1e-6)
            assert max(levels[True], default=0) <= max(levels[False]) * (1 + 1e-6)


@given(mixtures())
def test_where_the_paper_s_sum_holds_rates_are_its_formula(case):
    """Target epochs times tokens over all tokens (§5.3 of the facts), where that gives the groups their shares."""
    mixture, tokens = case
    sizes = {one.name: one.epochs * tokens.get(one.name, 0) for group in mixture.groups for one in group.sets}
    total = int(fsum(sizes.values()))
    assume(total >= 1000)
    present = [g for g in mixture.groups if fsum(sizes[one.name] for one in g.sets)]
    shares = [fsum(sizes[one.name] for one in group.sets) / fsum(sizes.values()) for group in present]
    assume(min(shares) > 0)
    same = Mixture(tuple(replace(group, share=share) for group, share in zip(present, shares)), total)
    for name, rate in mix(same, tokens).items():
        assert rate == pytest.approx(sizes[name] / total, rel=2e-3)


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 100)), min_size=1, max_size=6), st.floats(0, 100))
def test_filling_is_the_level_that_a_bisection_finds(pairs, total):
    exact = fill([Fraction(weight) for weight, _ in pairs], [Fraction(most) for _, most in pairs], Fraction(total))
    assert sum(exact) == min(Fraction(total), sum(Fraction(most) for _, most in pairs))
    weights, most = (np.array(column) for column in zip(*pairs))
    low, high = 0.0, float((most / weights).max()) + 1
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if np.minimum(most, level * weights).sum() < total else (low, level)
    np.testing.assert_allclose(np.array(exact, float), np.minimum(most, high * weights), rtol=1e-6, atol=1e-9)


def test_the_share_of_an_absent_set_goes_to_its_group_and_that_of_a_group_to_all():
    everything = {one.name: 10**13 for group in MIDTRAIN for one in group.sets}
    rates = mix(Mixture(), everything)
    assert fsum(rates[one.name] for one in MIDTRAIN[0].sets) == pytest.approx(0.3)
    assert (rates["code"], rates["rehearsal"]) == (pytest.approx(0.4), pytest.approx(0.3))
    without = mix(Mixture(), {name: tokens for name, tokens in everything.items() if name != "agents"})
    assert without["code"] == pytest.approx(0.4) and without["functions"] == pytest.approx(0.3 / 4)
    without = mix(Mixture(), {"functions": 10**13, "code": 10**13})
    assert without == pytest.approx({"functions": 3 / 7, "code": 4 / 7})


def test_what_a_small_set_cannot_give_goes_to_the_others_of_its_group_first():
    sizes = {"functions": 10, "contests": 10**6, "code": 10**6, "rehearsal": 10**6}
    rates = mix(Mixture(tokens=1000), sizes)
    assert rates["code"] == pytest.approx(0.4) and rates["functions"] == pytest.approx(0.3 * 10 / (10**6 + 10))
    small = mix(Mixture(tokens=1000), sizes | {"contests": 10})  # 80 tokens at 4 epochs, of 300
    assert small["functions"] == small["contests"] == pytest.approx(0.04)
    assert (small["code"], small["rehearsal"]) == (pytest.approx(0.92 * 4 / 7), pytest.approx(0.92 * 3 / 7))


def test_too_few_tokens_say_how_many_there_are_and_more_epochs_may_be_told():
    sizes = {"code": 100, "rehearsal": 37}
    with pytest.raises(ValueError, match="more than the sets give within their max_epochs") as error:
        mix(Mixture(tokens=1000), sizes)
    reach = int(re.search(r"lower it to ([\d,]+)", str(error.value))[1].replace(",", ""))
    assert reach == 548 and fsum(mix(Mixture(tokens=reach), sizes).values()) == pytest.approx(1)
    told = Group("code", 1.0, (MixedSet("code", "", max_epochs=10),))
    assert mix(Mixture((told,), 1000), sizes) == {"code": 1}


def prepared(folder, tokens, rows, vocabulary="v"):
    folder.mkdir(parents=True)
    Manifest("s", vocabulary, rows, 1, tokens, tokens, {}, {}, {}, 1.0, "3.11").write(folder)
    return str(folder)


def test_a_resolved_mixture_is_written_and_printed(tmp_path):
    groups = (
        Group("traces", 0.5, (MixedSet("short", prepared(tmp_path / "a", 1000, {8: 100, 16: 100}), 2.0),
                              MixedSet("gone", str(tmp_path / "none")))),
        Group("code", 0.5, (MixedSet("long", prepared(tmp_path / "b", 1000, {16: 50})),)),
    )  # fmt: skip
    resolved = resolve(Mixture(groups, 4000))
    short, long = resolved.sets
    assert (short.rate, long.rate, short.epochs, long.epochs) == (0.5, 0.5, 2, 2)
    assert (short.row_rate, long.row_rate) == (pytest.approx(0.8), pytest.approx(0.2))  # four rows for as many tokens
    resolved.write(tmp_path)
    written = json.loads((tmp_path / NAME).read_text())
    assert written["absent"] == ["gone"] and [one["rows"] for one in written["sets"]] == [200, 50]
    console = Console(width=120, record=True, file=io.StringIO())
    print_mixture(written, console)
    text = console.export_text()
    assert re.search(r"short +1,000 +200 +2 +2.00 +2,000 +50.0 % +80.0 %", text) and "absent: gone" in text


def test_a_run_draws_from_a_mixture_at_its_rates(tmp_path):
    sets = []
    for name, rows in (("short", {8: 100, 16: 100}), ("long", {16: 50})):
        folder = Path(prepared(tmp_path / name, 1000, rows))
        sets.append(MixedSet(name, str(folder)))
    resolve(Mixture((Group("all", 1.0, tuple(sets)),), 4000)).write(tmp_path / "mixed")
    ready = PreparedRows(str(tmp_path / "mixed"), 99, (8, 16), (8, 16)).ready(tmp_path / "run")
    assert [(one.folder.name, one.share) for one in ready.sets] == [
        ("short", pytest.approx(0.8)),
        ("long", pytest.approx(0.2)),
    ]
    assert ready.seconds == 1  # both were made by one call
    with pytest.raises(ValueError, match=r"short holds rows of buckets \[8, 16\]"):
        PreparedRows(str(tmp_path / "mixed"), 99, (8, 32), (8, 32)).ready(tmp_path / "run")
    (tmp_path / "mixed" / "mixture.json").write_text(
        (tmp_path / "mixed" / "mixture.json").read_text().replace("4000", "4001")
    )
    with pytest.raises(ValueError, match=r"has changed since the run in .*run began; to go on"):
        PreparedRows(str(tmp_path / "mixed"), 99, (8, 16), (8, 16)).ready(tmp_path / "run")
    prepared(tmp_path / "short" / "new", 900, {8: 100, 16: 100})
    (tmp_path / "short" / "new" / "manifest.json").rename(tmp_path / "short" / "manifest.json")
    with pytest.raises(ValueError, match=r"short holds 900 tokens now, 1,000 when .*mixture.json was written; give"):
        PreparedRows(str(tmp_path / "mixed"), 99, (8, 16), (8, 16)).ready(tmp_path / "another")


def test_sets_that_do_not_go_together_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no set .* is there; prepare at least one of data/functions"):
        resolve(Mixture())
    sets = [MixedSet(name, prepared(tmp_path / name, 10, {8: 1}, name)) for name in "ab"]
    with pytest.raises(ValueError, match=r"several vocabularies: \{'a': 'a', 'b': 'b'\}; prepare them with one"):
        resolve(Mixture((Group("all", 1.0, tuple(sets)),), 10))
    long = MixedSet("long", prepared(tmp_path / "long", 10, {8: 1, 32: 1}, "a"))
    with pytest.raises(ValueError, match=r"several lengths: \{'a': 8, 'long': 32\}"):
        resolve(Mixture((Group("all", 1.0, (sets[0], long)),), 10))
    with pytest.raises(ValueError, match="must add up to 1"):
        Mixture((Group("all", 0.5, tuple(sets)),))
    with pytest.raises(ValueError, match="name a set twice"):
        Mixture((Group("all", 1.0, (sets[0], sets[0])),))
    with pytest.raises(ValueError, match="at most max_epochs"):
        MixedSet("a", "", 5)
