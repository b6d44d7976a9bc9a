"""Traces that several tests make rows of."""

import pytest
from packed_rows import SOURCE, prepare


@pytest.fixture(scope="session")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    (folder / "numbers.py").write_text(SOURCE)
    done = prepare("--source", folder / "numbers.py", "--out", folder / "out", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return folder / "out"
