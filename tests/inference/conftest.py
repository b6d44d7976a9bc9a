"""One engine for all that needs no other shapes: programs take long to compile."""

import pytest
from engine_models import REBUILD, SHAPES, weights

from cwm_jax.inference.engine import Engine


@pytest.fixture(scope="session")
def shared_engine():
    return Engine(REBUILD, weights(), SHAPES)


@pytest.fixture
def engine(shared_engine):
    """The engine, idle before and after, its pages nobody's, with the weights that it began with."""
    first = shared_engine.scheduler.available()
    yield shared_engine
    assert not shared_engine.busy and shared_engine.scheduler.available() == first
    shared_engine.swap(weights(), shared_engine.version + 1)
