"""The small project, built."""

import pytest
from tiny_project import Tiny

from cwm_jax.repos import Build


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> Build:
    """The project as it should be."""
    return Tiny(tmp_path_factory.mktemp("good")).build()


@pytest.fixture
def tiny(tmp_path) -> Tiny:
    return Tiny(tmp_path)
