"""The study of the small model: its fit finds the law that made the numbers, its runs are ones that gin can resolve."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments/small"))

import study

from cwm_jax import config
from cwm_jax.data.lessons import Lessons
from cwm_jax.data.mixture import Mixture
from cwm_jax.training.experiment import Experiment

ROOT = Path(__file__).parents[2]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.5), st.floats(0.2, 0.6), st.floats(0.2, 0.6), st.integers(0, 9))
def test_the_fit_foretells_a_larger_run(floor, a, b, seed):
    rng, small = np.random.default_rng(seed), (164e3**a, 3e6**b)  # both parts are .3 for the smallest and shortest
    true = study.Law(floor, 0.3 * small[0], a, 0.3 * small[1], b, {"composed": (4.0, -6.0)})
    rows = []
    for one in study._ladder():
        N = 40 * study.SIZES[one.size].d_model ** 2
        loss = true.loss(N, one.tokens) * np.exp(rng.normal(0, 0.003))
        rows.append({"without_embedding": N, "tokens": one.tokens, "loss": loss,
                     "exact": {"composed": true.exact("composed", loss)}})  # fmt: skip
    law = study.fit(rows)
    told = study.foretold(law, 40 * 208**2, 30e6)
    assert told["loss"] == pytest.approx(true.loss(40 * 208**2, 30e6), rel=0.1)
    assert told["exact"]["composed"] == pytest.approx(true.exact("composed", told["loss"]), abs=0.05)


def test_every_run_is_one_that_gin_resolves():
    names = set()
    for one in [*study._ablations(), *study._ladder(), study.TARGET]:
        assert one.name not in names
        names.add(one.name)
        overrides = [f"{key}={value if study._is_reference(value) else repr(value)}" for key, value in
                     (study.SIZES[one.size].overrides | dict(one.train)).items()]  # fmt: skip
        found = config.load([ROOT / "experiments/small/small-cpu.gin"], overrides, Experiment)
        assert found.model.layers * found.model.head_dim > 0
        for file, into, changes in (("lessons", Lessons, one.lessons), ("mixture", Mixture, one.mixture)):
            config.load([ROOT / f"experiments/small/{file}.gin"], [f"{k}={v!r}" for k, v in changes.items()], into)
