"""Packed rows on disk, and the stream whose state is one integer."""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.data.buckets import BatchShape, Bucket, ReadyRows
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


def rows_on_disk(folder, counts, buckets):
    """One document a row, filled with a number of its own."""
    for number, (bucket, count) in enumerate(zip(buckets, counts, strict=True)):
        length = bucket.length - 1
        documents = [Document(np.full(length, 1000 * number + index + 1), np.ones(length)) for index in range(count)]
        assert write_rows(bucket.path(folder), pack(documents, bucket.length, 1)) == count
    rows = {bucket.limit: count for bucket, count in zip(buckets, counts)}
    Manifest("s", "v", rows, sum(counts), 1, 1, {}, {}, {}, 1.0, "3.11").write(folder)
    return ReadyRows(folder, tuple(buckets), Manifest.read(folder), 70_000)


@pytest.fixture
def rows(tmp_path):
    return rows_on_disk(tmp_path, (23, 11), (Bucket(16, 16), Bucket(32, 32)))


def batches(rows, steps=40, tokens=64, **kwargs):
    return BucketedBatches(rows, StreamConfig(tokens_per_batch=tokens, seed=3), steps, **kwargs)


def test_the_order_of_batches_is_that_of_earlier_runs(tmp_path):
    """A run goes on with the batches it began with: the hash is that of the first version."""
    rows = rows_on_disk(tmp_path, (23, 11, 9), (Bucket(16, 16), Bucket(32, 32), Bucket(40, 40)))
    stream = batches(rows, 60, tokens=80, row_multiple=2)
    digest = hashlib.sha256()
    for step in range(60):
        lengths = stream[step].tokens.shape[1]
        number = {16: 0, 32: 1, 40: 2}[lengths]
        first = stream[step].tokens[:, 0] - 1000 * number - 1 + 1000 * lengths
        digest.update(repr(first.tolist()).encode())
    assert stream.shapes == [BatchShape(4, 16), BatchShape(2, 32), BatchShape(2, 40)]
    assert digest.hexdigest() == "840cee8584638c46aadd51521381926c40aca2ba1fed5a4fe0c1d3c479401889"


def test_an_epoch_holds_every_row_once_and_one_length_a_step(rows):
    stream = batches(rows)
    seen = []
    for step in range(stream.steps_per_epoch):
        batch = stream[step]
        assert batch.tokens.size == 64
        seen += batch.tokens[:, 0].tolist()
    assert len(seen) == len(set(seen)) == 4 * (23 // 4) + 2 * (11 // 2)
    second = [stream[stream.steps_per_epoch + step].tokens[:, 0].tolist() for step in range(3)]
    assert second != [stream[step].tokens[:, 0].tolist() for step in range(3)]


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_global_batch(rows, hosts):
    whole = batches(rows, row_multiple=4)
    shares = [batches(rows, row_multiple=4, mine=(4 // hosts * n, 4 // hosts * (n + 1))) for n in range(hosts)]
    for step in range(5):
        together = np.concatenate([share[step].tokens for share in shares])
        np.testing.assert_array_equal(together, whole[step].tokens)


def test_the_step_is_all_that_it_takes_to_go_on(rows):
    straight = iterate(batches(rows))
    expected = [next(straight).tokens for _ in range(9)]
    resumed = iterate(batches(rows), 5)
    for tokens in expected[5:]:
        np.testing.assert_array_equal(next(resumed).tokens, tokens)


@given(st.lists(st.integers(0, 40), min_size=3, max_size=3).filter(lambda c: max(c) >= 4), st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_each_bucket_is_drawn_in_proportion_to_its_tokens_and_each_row_once_an_epoch(counts, seed):
    buckets = [Bucket(4, 8, 4), Bucket(6, 8, 5), Bucket(8, 8)]  # documents, rows, window
    with tempfile.TemporaryDirectory() as folder:
        on_disk = rows_on_disk(Path(folder), counts, buckets)
        stream = BucketedBatches(on_disk, StreamConfig(tokens_per_batch=32, seed=seed), 1000)
        for epoch in range(2):
            seen, drawn = [], Counter()
            for step in range(epoch * stream.steps_per_epoch, (epoch + 1) * stream.steps_per_epoch):
                ids = stream[step].tokens[:, 0]
                (number,) = set(ids // 1000)  # no batch mixes two buckets
                assert stream.shape(step) == BatchShape(4, 8, buckets[number].global_window)
                seen += ids.tolist()
                drawn[number] += 1
            assert len(seen) == len(set(seen))
            for number, count in enumerate(counts):
                assert drawn[number] == count // 4  # its share of all rows, but for the rows that fill no batch


def test_a_missing_or_small_folder_says_what_to_do(tmp_path, rows):
    with pytest.raises(FileNotFoundError, match="prepare"):
        Manifest.read(tmp_path / "nothing")
    with pytest.raises(ValueError, match="fills one batch of 6400"):
        BucketedBatches(rows, StreamConfig(tokens_per_batch=6400), 1)


def test_row_files_are_whole_or_absent(tmp_path):
    def broken():
        yield from pack([document(4)], 4, 1)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_rows(tmp_path / "rows-4.array_record", broken())
    assert not (tmp_path / "rows-4.array_record").exists()
    write_rows(tmp_path / "rows-4.array_record", pack([document(4), document(3, 1)], 4, 1))
    assert RowFile(tmp_path / "rows-4.array_record").read(np.array([1, 0])).tokens.shape == (2, 4)
