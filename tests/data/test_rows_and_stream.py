"""Packed rows on disk, and the stream whose state is one integer."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.data.manifest import Manifest
from cwm_jax.data.rows import Document, RowFile, from_bytes, pack, to_bytes, write_rows
from cwm_jax.data.stream import BucketedBatches, StreamConfig, iterate


def document(length, seed=0):
    rng = np.random.default_rng(seed)
    return Document(rng.integers(1, 70_000, length).astype(np.int32), rng.integers(0, 2, length).astype(np.float32))


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 4))
@settings(deadline=None)
def test_packing_loses_nothing_and_keeps_documents_whole(lengths, per_row):
    documents = [document(length, seed) for seed, length in enumerate(lengths)]
    found = []
    for row in pack(documents, 12, per_row):
        assert all(len(array) == 12 for array in row)
        assert row.segment_ids.max() <= per_row
        for segment in range(1, row.segment_ids.max() + 1):
            inside = row.segment_ids == segment
            np.testing.assert_array_equal(row.positions[inside], np.arange(inside.sum()))
            found.append((row.tokens[inside], row.loss_weights[inside]))
        assert not row.loss_weights[row.segment_ids == 0].any()
    assert len(found) == len(documents)
    for (tokens, weights), expected in zip(found, documents):
        np.testing.assert_array_equal(tokens, expected.tokens)
        np.testing.assert_array_equal(weights[1:], expected.loss_weights[1:])
        assert weights[0] == 0  # nothing stands before it


@given(st.integers(1, 64), st.integers(0, 999))
def test_rows_survive_bytes(length, seed):
    (row,) = pack([document(length, seed)], length, 1)
    for before, after in zip(row, from_bytes(to_bytes(row))):
        np.testing.assert_allclose(before, after, atol=1 / 255)


def test_a_document_too_long_is_refused():
    with pytest.raises(ValueError, match="13 tokens does not fit a row of 12"):
        list(pack([document(13)], 12, 1))


@pytest.fixture
def folder(tmp_path):
    counts = {16: 23, 32: 11}
    for length, count in counts.items():
        documents = [
            Document(np.full(length - 1, 1000 * length + index), np.ones(length - 1)) for index in range(count)
        ]
        assert write_rows(tmp_path / f"rows-{length}.array_record", pack(documents, length, 1)) == count
    manifest = Manifest("s", "v", counts, 34, 1, 1, {}, {}, {}, 1.0, "3.11")
    manifest.write(tmp_path)
    return tmp_path


def batches(folder, steps=40, **kwargs):
    return BucketedBatches(folder, StreamConfig(tokens_per_batch=64, seed=3), steps, **kwargs)


def test_an_epoch_holds_every_row_once_and_one_length_a_step(folder):
    stream = batches(folder)
    seen = []
    for step in range(stream.steps_per_epoch):
        batch = stream[step]
        assert batch.tokens.size == 64
        seen += batch.tokens[:, 0].tolist()
    assert len(seen) == len(set(seen)) == 4 * (23 // 4) + 2 * (11 // 2)
    second = [stream[stream.steps_per_epoch + step].tokens[:, 0].tolist() for step in range(3)]
    assert second != [stream[step].tokens[:, 0].tolist() for step in range(3)]


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_global_batch(folder, hosts):
    whole = batches(folder, row_multiple=4)
    shares = [batches(folder, row_multiple=4, host=host, hosts=hosts) for host in range(hosts)]
    for step in range(5):
        together = np.concatenate([share[step].tokens for share in shares])
        np.testing.assert_array_equal(together, whole[step].tokens)


def test_the_state_is_one_integer_and_resumes(folder):
    straight = iterate(batches(folder))
    expected = [next(straight).tokens for _ in range(9)]
    first = iterate(batches(folder))
    for _ in range(5):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    assert list(state.values()) == [5]
    resumed = iterate(batches(folder))
    resumed.set_state(state)
    for tokens in expected[5:]:
        np.testing.assert_array_equal(next(resumed).tokens, tokens)


def test_a_missing_or_small_folder_says_what_to_do(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="prepare"):
        Manifest.read(tmp_path / "nothing")
    with pytest.raises(ValueError, match="fills one batch of 6400"):
        BucketedBatches(folder, StreamConfig(tokens_per_batch=6400), 1)
    with pytest.raises(ValueError, match="3 hosts"):
        batches(folder, row_multiple=4, hosts=3)


def test_row_files_are_whole_or_absent(tmp_path):
    def broken():
        yield from pack([document(4)], 4, 1)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_rows(tmp_path / "rows-4.array_record", broken())
    assert not (tmp_path / "rows-4.array_record").exists()
    write_rows(tmp_path / "rows-4.array_record", pack([document(4), document(3, 1)], 4, 1))
    assert RowFile(tmp_path / "rows-4.array_record").read(np.array([1, 0])).tokens.shape == (2, 4)
