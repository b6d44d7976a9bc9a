"""Traces that several tests make rows of."""

import pytest
from packed_rows import SOURCE, prepare

from cwm_jax.cluster import cluster


@pytest.fixture(scope="session")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    (folder / "numbers.py").write_text(SOURCE)
    done = prepare("--source", folder / "numbers.py", "--out", folder / "out", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def one_cluster():
    """Ray, started once for all calls of a module; each would start its own."""
    with cluster(2):
        yield
