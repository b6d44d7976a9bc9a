"""The model of time against what others have measured, and against arithmetic by hand."""

import dataclasses

import numpy as np
import pytest

from cwm_jax.tpu.chips import CHIPS, Topology
from cwm_jax.tpu.collectives import Collective
from cwm_jax.tpu.published import PUBLISHED
from cwm_jax.tpu.roofline import Roofline, Work, collective_seconds, leave_one_out, published_work


def test_every_published_run_is_predicted_within_a_fifth_without_its_own_help():
    errors = leave_one_out()
    assert len(errors) == len(PUBLISHED) >= 5
    assert max(map(abs, errors.values())) < 0.20


def test_other_generations_predict_most_of_each_chip():
    for chip in {row.chip for row in PUBLISHED}:
        roofline = Roofline.calibrate([row for row in PUBLISHED if row.chip != chip])
        errors = [roofline.seconds(published_work(row)) / row.seconds - 1 for row in PUBLISHED if row.chip == chip]
        assert np.median(np.abs(errors)) < 0.25, chip


def test_left_out_rows_have_no_influence_on_their_own_prediction():
    row = next(row for row in PUBLISHED if row.length == 131_072)
    wrong = [*(other for other in PUBLISHED if other is not row), dataclasses.replace(row, seconds=2 * row.seconds)]
    name = row.name
    assert leave_one_out(wrong)[name] == pytest.approx((1 + leave_one_out()[name]) / 2 - 1)


def test_slow_downs_are_physical():
    roofline = Roofline.calibrate()
    assert 1 < roofline.matmul < 1.5 and 1 < roofline.attention < 2 and 1 < roofline.memory < 4


def test_known_slow_downs_are_found_again():
    truth = Roofline(1.2, 1.5, 2.5)
    rows = [dataclasses.replace(row, seconds=truth.seconds(published_work(row))) for row in PUBLISHED]
    found = Roofline.calibrate(rows)
    assert [found.matmul, found.attention, found.memory] == pytest.approx([1.2, 1.5, 2.5])


def test_mfu_of_published_runs_by_our_convention():
    mfu = {row.name: round(row.mfu, 3) for row in PUBLISHED}
    # published 71.5 % with attention in full, 52.3 % and 38.9 % with it halved
    assert mfu["MaxText 32B, 1 x 64 v5p"] == 0.703
    assert mfu["MaxText Llama3.1-70B, 1 x 64 tpu7x"] == pytest.approx(0.523, abs=0.002)
    assert mfu["MaxText Llama3.1-70B, context 8, 1 x 256 tpu7x"] == pytest.approx(0.389, abs=0.002)


def test_collectives_take_as_long_as_their_links():
    topology, ring = Topology.parse("v5p:4x4x4"), CHIPS["v5p"].ici_bandwidth
    places = np.array([[x, 0, 0] for x in range(4)])
    gather = Collective("all-gather", 4_000_000, (0, 1, 2, 3), trips=10)
    assert collective_seconds([gather], topology, places) == pytest.approx(10 * 3_000_000 / ring)
    reduce = dataclasses.replace(gather, kind="all-reduce")
    assert collective_seconds([reduce, gather], topology, places) == pytest.approx(10 * 9_000_000 / ring)
    assert Roofline(1, 1, 1).seconds(Work(0.1, 0.1, 0.1), collectives=0.2) == pytest.approx(0.3)
    assert Roofline(1, 1, 1).seconds(Work(0.1, 0.1, 0.1), collectives=0.5) == 0.5


def test_devices_of_one_chip_share_its_links():
    topology, ring = Topology.parse("tpu7x:4x4x4"), CHIPS["tpu7x"].ici_bandwidth
    places = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]])
    across = Collective("all-gather", 1_000_000, (0, 2), trips=1)
    assert collective_seconds([across], topology, places) == pytest.approx(2 * 500_000 / ring)
    assert collective_seconds([dataclasses.replace(across, group=(0, 1))], topology, places) == 0
