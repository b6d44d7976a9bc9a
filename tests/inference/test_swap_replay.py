"""T2: what caches of older weights do to what is recorded, against a network that reads token by token.

The oracle knows nothing of pages, batches and chunks: for each sequence it keeps all keys and values in order, and
reads each position with the weights that the engine read it with.
"""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine_models import LENGTH, MODEL, REBUILD, logprobs_after, prompt, requests, weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cwm_jax.inference.request import Request, Token
from cwm_jax.model.attention import masked_attention, visible


class Read(NamedTuple):
    """Keys and values of all layers, and the last inputs of their convolutions."""

    k_LTGK: jax.Array
    v_LTGK: jax.Array
    past_LWD: jax.Array


class InOrder:
    """A `Memory` of one sequence: keys and values lie in order, and each layer looks at all that it sees."""

    def __init__(self, read: Read, position: jax.Array):
        self.read, self._position = read, position

    def attend(self, layer, q_BSHK, k_BSGK, v_BSGK):
        here, places_BT = self._position[None, None], jnp.arange(LENGTH)[None]
        keys, values = self.read.k_LTGK.at[layer, here[0]].set(k_BSGK[0]), self.read.v_LTGK
        values = values.at[layer, here[0]].set(v_BSGK[0])
        self.read = self.read._replace(k_LTGK=keys, v_LTGK=values)
        alike = jnp.ones_like(places_BT)
        mask = visible(here, places_BT, alike[:, :1], alike, MODEL.windows()[layer])
        return masked_attention(q_BSHK, keys[layer][None], values[layer][None], mask)

    def past(self, layer):
        return self.read.past_LWD[layer][None]

    def keep(self, layer, inputs_BSD):
        self.read = self.read._replace(past_LWD=self.read.past_LWD.at[layer].set(inputs_BSD[0, 1:]))


@jax.jit
def read_one(params, read: Read, token, position):
    """Reads one token: log-probabilities of what follows, and what is known then."""
    memory, model = InOrder(read, position), REBUILD(params)
    x_BSD = model.decode(token[None, None], position[None, None], memory)
    return jax.nn.log_softmax(model.head()(x_BSD)[0, 0]), memory.read


def by_readers(tokens, readers, versions) -> list[float]:
    """Log-probability of each token from the second on, when position i is read by the weights of `readers[i]`."""
    keys = jnp.zeros((MODEL.layers, LENGTH, MODEL.kv_heads, MODEL.head_dim))
    read = Read(keys, keys, jnp.zeros((MODEL.layers, MODEL.conv.taps - 1, MODEL.d_model)))
    found = []
    for position, (token, following) in enumerate(pairwise(tokens)):
        after_V, read = read_one(versions[readers[position]], read, jnp.int32(token), jnp.int32(position))
        found.append(float(after_V[following]))
    return found


@cache
def near(seed: int, noise: float):
    """The weights of `weights()`, a little further on."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda w: w + noise * jnp.asarray(rng.normal(size=w.shape), jnp.float32), weights())


def run(engine, wanted, schedule, kv):
    """Runs requests while weights are swapped at the steps that `schedule` names.

    Returns:
      For each request its answer as `Token`s, versions counted from 0, and which version read each position of it.
    """
    first, numbers = engine.version, [engine.submit(replace(request, on_swap=kv)) for request in wanted]
    made = {number: ([], {}) for number in numbers}
    before = dict.fromkeys(numbers, 0)
    for step in range(1000):
        if step in schedule:
            engine.swap(schedule[step], engine.version + 1)
        told = engine.step()
        now = {one.number: one.read for one in engine.scheduler.running}
        for number, event in told:
            answer, _ = made[number]
            if isinstance(event, Token):
                answer.append(event._replace(version=event.version - first))
            else:
                now[number] = len(wanted[number - numbers[0]].prompt) + len(answer) - 1
        for number in before:
            # Who waits again has given its pages back, and reads all of it with the weights that are there then.
            end = now.get(number, 0)
            made[number][1].update(dict.fromkeys(range(before[number], end), engine.version - first))
            before[number] = end
        if not engine.busy and step >= max(schedule):
            return list(made.values())
    raise AssertionError("it does not end")


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(requests(), min_size=1, max_size=6),
    st.lists(st.integers(1, 14), min_size=1, max_size=3, unique=True),
)
def test_what_is_recorded_follows_from_the_schedule_of_swaps(engine, mix, steps):
    """Tokens, versions and probabilities come again bit by bit; and the oracle, given who read what, says the same."""
    steps.sort()
    schedule = {step: near(number, 0.1) for number, step in enumerate(steps)}
    versions = {0: weights(), **{number + 1: near(number, 0.1) for number in range(len(steps))}}
    made = run(engine, mix, schedule, "keep")
    engine.swap(weights(), engine.version + 1)
    assert run(engine, mix, schedule, "keep") == made
    engine.swap(weights(), engine.version + 1)
    for request, (answer, readers) in zip(mix, made):
        if not answer:
            continue
        asked, so_far = len(request.prompt), [*request.prompt, *(token.id for token in answer)]
        assert [token.version for token in answer] == [readers[asked - 1 + place] for place in range(len(answer))]
        expected = by_readers(so_far, readers, versions)[asked - 1 :]
        np.testing.assert_allclose([token.logprob for token in answer], expected, atol=2e-5)


ANSWERS = [Request(prompt(seed, 9), 40, temperature=1.0, seed=seed) for seed in range(6)]


def after_swap(engine, kv, new):
    """|recorded - by the new weights alone| and |by the new - by the old ones| of each token behind a swap."""
    gaps, changes = [], []
    for request, (answer, _) in zip(ANSWERS, run(engine, ANSWERS, {4: new}, kv)):
        tokens = [*request.prompt, *(token.id for token in answer)]
        for place, token in enumerate(answer, len(request.prompt) - 1):
            if token.version == 1:
                fresh, old = (logprobs_after(params, tokens)[place, token.id] for params in (new, weights()))
                gaps.append(abs(token.logprob - fresh))
                changes.append(abs(fresh - old))
    engine.swap(weights(), engine.version + 1)
    return np.array(gaps), np.array(changes)


@pytest.mark.parametrize("noise", [1e-3, 1e-2, 5e-2])
def test_kept_caches_are_off_by_no_more_than_the_policy_has_changed(engine, noise):
    """What is read anew is off by rounding alone: the oracle for what is kept."""
    gaps, changes = after_swap(engine, "keep", near(1, noise))
    assert len(gaps) > 100 and noise / 10 < gaps.mean() <= changes.mean()
    gaps, changes = after_swap(engine, "recompute", near(1, noise))
    assert len(gaps) > 100 and gaps.max() < 2e-5 < changes.mean()
