"""Guesses: as the definition says, and without a trace in the answers."""

import dataclasses

import jax
import numpy as np
import pytest
from engine_models import REBUILD, SHAPES, TOKENS, check, prompt, requests, weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cwm_jax.inference.drafts import PromptLookup
from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Request


@pytest.fixture(scope="module")
def guessing():
    return Engine(REBUILD, weights(), dataclasses.replace(SHAPES, rows=1, draft=PromptLookup(tokens=3, ngram=2)))


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(requests(), min_size=1, max_size=6))
def test_guesses_change_no_token(guessing, mix):
    for answer in guessing.generate(mix):
        check(answer)


def test_right_guesses_save_steps(guessing):
    guessing.counts.guessed = guessing.counts.right = 0
    (answer,) = guessing.generate([Request(prompt(1, 4), 60)])  # greedy answers of small models soon repeat
    check(answer)
    assert 0 < guessing.counts.right <= guessing.counts.guessed
    assert guessing.scheduler.available()[0] == SHAPES.pages


def guesses_by_definition(history, tokens, ngram):
    """What followed the last occurrence of the newest tokens, again and again where it reaches them."""
    for end in range(len(history) - 1, ngram - 1, -1):
        if history[end - ngram : end] == history[-ngram:]:
            found = history[end:]
            return [found[place % len(found)] for place in range(tokens)]
    return [-1] * tokens


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=20), TOKENS)
def test_prompt_lookup_by_definition(history, rubbish):
    row = np.full((1, 24), rubbish, np.int32)
    row[0, : len(history)] = history
    guesses = LOOKUP(row, np.array([len(history) - 1], np.int32))
    assert guesses[0].tolist() == guesses_by_definition(history, 4, 2)


LOOKUP = jax.jit(PromptLookup(tokens=4, ngram=2).__call__)
