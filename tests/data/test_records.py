"""Files of records are whole or not there, on a full disk, too."""

import errno
import os
import resource

import pytest

from cwm_jax.records import read_records, write_records


@pytest.fixture
def little_room():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_of_and_leaves_no_half_file(tmp_path, little_room):
    path = tmp_path / "rows.array_record"
    with pytest.raises(OSError, match="MiB are free there") as caught:
        write_records(path, (os.urandom(1000) for _ in range(1000)), "group_size:1")
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_read(tmp_path):
    records = [bytes([number]) * number for number in range(1, 200)]
    assert write_records(tmp_path / "rows", iter(records), "group_size:4") == len(records)
    assert list(read_records(tmp_path / "rows", len(records))) == records
    with pytest.raises(ValueError, match="199 of 200 records can be found; delete its folder"):
        list(read_records(tmp_path / "rows", 200))
