"""The objective against NumPy in float64, its gradient against differences. What is unbiased: `test_biases`."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.rl.objective import (
    AGES,
    ClippedRatio,
    ConstantDivisor,
    Decoupled,
    EveryToken,
    GeometricMean,
    Objective,
    ProbabilityDifference,
    SequenceMean,
    Terms,
    TokenMean,
    TruncatedImportance,
    by_age,
)
from cwm_jax.rl.trajectory import advantages

SEGMENTS = np.array([[1, 1, 1, 1, 2, 2, 2, 0], [1, 1, 2, 2, 2, 2, 2, 2]])
MASK = np.array([[0, 1, 1, 0, 0, 1, 1, 0], [0, 1, 0, 1, 1, 0, 1, 1]], float)
OBSERVED = np.array([[0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 0]], float)
ADVANTAGES = np.where(SEGMENTS == 1, [[0.5], [-1.0]], np.where(SEGMENTS == 2, [[-0.75], [2.0]], 0.0))


def terms(seed, spread=0.3):
    rng = np.random.default_rng(seed)
    recorded = -rng.exponential(1.0, MASK.shape) - 0.05
    near = lambda: np.minimum(recorded + rng.normal(0, spread, MASK.shape), -1e-3)  # noqa: E731
    return Terms(near(), recorded, near(), ADVANTAGES, MASK, SEGMENTS)


def as_jax(numbers):
    with jax.enable_x64(True):
        return Terms(*map(jnp.asarray, numbers))


def by_hand(objective, t):
    """The objective token by token, in loops."""
    total, tokens, means = 0.0, 0, []
    for row in range(len(t.mask)):
        for segment in sorted({*t.segments[row].tolist()} - {0}):
            places = [i for i in range(t.mask.shape[1]) if t.segments[row, i] == segment and t.mask[row, i]]
            logs = [t.logprobs[row, i] - t.recorded[row, i] for i in places]
            values = []
            for i, log in zip(places, logs):
                A, ratio = t.advantages[row, i], np.exp(log)
                match objective.surrogate:
                    case ClippedRatio(low, high):
                        value = min(ratio * A, min(max(ratio, 1 - low), 1 + high) * A)
                    case TruncatedImportance(most):
                        value = min(ratio, most) * A * t.logprobs[row, i]
                    case Decoupled(low, high, most):
                        near = np.exp(t.logprobs[row, i] - t.proximal[row, i])
                        weight = min(np.exp(t.proximal[row, i] - t.recorded[row, i]), most)
                        value = weight * min(near * A, min(max(near, 1 - low), 1 + high) * A)
                match objective.counts:
                    case ProbabilityDifference(most):
                        gone = np.exp(t.logprobs[row, i]) - np.exp(t.recorded[row, i])
                        value *= not (gone > most if A > 0 else gone < -most)
                    case GeometricMean(low, high):
                        value *= low <= np.exp(np.mean(logs)) <= high
                values.append(value)
            total, tokens = total + sum(values), tokens + len(values)
            if values:
                means.append(np.mean(values))
    match objective.mean:
        case ConstantDivisor(divisor):
            return total / divisor
        case TokenMean():
            return total / tokens
        case SequenceMean():
            return np.mean(means)


SURROGATES = (ClippedRatio(), TruncatedImportance(), Decoupled())
COUNTS = (EveryToken(), ProbabilityDifference(), GeometricMean(0.9, 1.1))
MEANS = (ConstantDivisor(100), TokenMean(), SequenceMean())


@pytest.mark.parametrize("surrogate, counts, mean", product(SURROGATES, COUNTS, MEANS))
@given(seed=st.integers(0, 2**32 - 1))
def test_it_is_what_loops_in_float64_say(surrogate, counts, mean, seed):
    objective, numbers = Objective(surrogate, counts, mean), terms(seed)
    with jax.enable_x64(True):
        found = objective(as_jax(numbers), jnp.asarray(OBSERVED))
    assert float(found) == pytest.approx(by_hand(objective, numbers), rel=1e-12)


def test_edges_of_the_clip():
    """At A = 1: ratios 0.5, 0.8, 1, 1.25, 2 count 0.5, 0.8, 1, 1.25, 1.25; at A = -1: -0.8, -0.8, -1, -1.25, -2."""
    ratios = np.array([[0.5, 0.8, 1.0, 1.25, 2.0]])
    ones = np.ones_like(ratios)
    for sign, expected in ((1, [0.5, 0.8, 1.0, 1.25, 1.25]), (-1, [-0.8, -0.8, -1.0, -1.25, -2.0])):
        t = Terms(np.log(ratios), 0 * ones, 0 * ones, sign * ones, ones, ones.astype(int))
        with jax.enable_x64(True):
            np.testing.assert_allclose(ClippedRatio()(as_jax(t)), [expected], rtol=1e-12)
            slopes = jax.grad(lambda logs: ClippedRatio()(as_jax(t)._replace(logprobs=logs)).sum())(jnp.log(ratios))
        beyond = ratios > 1.25 if sign > 0 else ratios < 0.8
        np.testing.assert_allclose(slopes[0][beyond[0]], 0)  # nothing pulls a token further than the clip


@pytest.mark.parametrize("surrogate, mean", product(SURROGATES, MEANS))
def test_gradients_are_those_of_differences(surrogate, mean):
    """Of a linear model of 16 inputs for each place, by central differences."""
    objective, numbers = Objective(surrogate, mean=mean, observations=0.3), terms(5, spread=0.05)
    rng = np.random.default_rng(1)
    features, w = rng.normal(size=(*MASK.shape, 16)), rng.normal(size=16) * 0.01

    with jax.enable_x64(True):

        def value(w, weights=None):
            t = as_jax(numbers)
            logprobs = t.logprobs + jnp.asarray(features) @ w
            if weights is not None and isinstance(surrogate, TruncatedImportance):
                # What stands still in the gradient stands still in the differences.
                weights = jnp.minimum(jnp.exp((t._replace(logprobs=t.logprobs + features @ weights)).log_ratios), 2.0)
                values = jnp.where(t.mask > 0, weights * t.advantages * logprobs, 0.0)
                said = jnp.where(OBSERVED > 0, logprobs, 0.0)
                return mean(values, t) + 0.3 * mean(said, t._replace(mask=jnp.asarray(OBSERVED)))
            return objective(t._replace(logprobs=logprobs), jnp.asarray(OBSERVED))

        found = jax.grad(value)(jnp.asarray(w))
        for direction in np.eye(16)[:6]:
            step = 1e-6 * direction
            slope = (value(w + step, w) - value(w - step, w)) / 2e-6
            assert float(found @ direction) == pytest.approx(float(slope), rel=1e-5, abs=1e-9)


def test_environments_move_nothing_unless_they_are_asked_for():
    t = terms(3)
    with jax.enable_x64(True):
        slopes = jax.grad(lambda logs: Objective()(as_jax(t)._replace(logprobs=logs), jnp.asarray(OBSERVED)))(
            jnp.asarray(t.logprobs)
        )
        world = jax.grad(
            lambda logs: Objective(observations=1.0)(as_jax(t)._replace(logprobs=logs), jnp.asarray(OBSERVED))
        )(jnp.asarray(t.logprobs))
    assert not np.asarray(slopes)[MASK == 0].any()
    np.testing.assert_allclose(np.asarray(world)[OBSERVED == 1], 1 / 131_072)


@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.integers(1, 500)), min_size=1, max_size=8))
def test_advantages_add_up_to_nothing_over_tokens(group):
    rewards, lengths = zip(*group)
    found = advantages(rewards, lengths)
    assert (found * lengths).sum() == pytest.approx(0, abs=1e-9 * sum(lengths))
    assert np.diff(found) == pytest.approx(np.diff(rewards))


@given(seed=st.integers(0, 2**32 - 1), ages=st.lists(st.integers(0, 20), min_size=16, max_size=16))
def test_what_is_told_by_age_adds_up_to_what_is_told_of_all(seed, ages):
    t, ages = terms(seed), np.array(ages).reshape(MASK.shape)
    with jax.enable_x64(True):
        found = {name: np.asarray(sums) for name, sums in by_age(as_jax(t), jnp.asarray(ages)).items()}
    logs = (t.logprobs - t.recorded)[MASK > 0]
    assert found["tokens"].sum() == MASK.sum()
    np.testing.assert_allclose(found["k1"].sum(), -logs.sum(), atol=1e-9)
    np.testing.assert_allclose(found["k3"].sum(), (np.exp(logs) - 1 - logs).sum(), atol=1e-9)
    assert found["clipped_high"].sum() == (np.exp(logs) > 1.25).sum()
    for number, least in enumerate(AGES):
        most = [*AGES[1:], 100][number]
        assert found["tokens"][number] == MASK[(ages >= least) & (ages < most)].sum()
