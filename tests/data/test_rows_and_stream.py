"""Packed rows on disk, and the stream whose state is one integer."""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cwm_jax.data.buckets import BatchShape, Bucket, ReadyRows, RowSet
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


def rows_on_disk(folder, counts, buckets, first=1):
    """One document a row, filled with a number of its own; those of the first bucket from `first` on."""
    for number, (bucket, count) in enumerate(zip(buckets, counts, strict=True)):
        length, start = bucket.length - 1, 1000 * number + first
        documents = [Document(np.full(length, start + index), np.ones(length)) for index in range(count)]
        assert write_rows(bucket.path(folder), pack(documents, bucket.length, 1)) == count
    rows = {bucket.limit: count for bucket, count in zip(buckets, counts)}
    Manifest("s", "v", rows, sum(counts), 1, 1, {}, {}, {}, 1.0, "3.11").write(folder)
    return ReadyRows((RowSet(folder, Manifest.read(folder)),), tuple(buckets), 70_000)


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


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).filter(sum), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=30)
def test_of_a_mixture_each_set_comes_as_often_as_its_share_and_no_row_before_another_of_its_set(counts, weights, seed):
    """Of all epochs together: rows of one set and bucket differ by at most one in how often they were drawn."""
    buckets, size, epochs = [Bucket(4, 8, 4), Bucket(8, 8)], 2, 3
    weights = np.array(weights[: len(counts)]) / sum(weights[: len(counts)])
    with tempfile.TemporaryDirectory() as folder:
        sets = []
        for number, (pair, share) in enumerate(zip(counts, weights)):
            (part := Path(folder, str(number))).mkdir()
            rows_on_disk(part, pair, buckets, 1 + 100 * number)
            sets.append(RowSet(part, Manifest.read(part), float(share)))
        every = sum(map(sum, counts))
        ideal = {(number, bucket): every * weights[number] * pair[bucket] / sum(pair)
                 for number, pair in enumerate(counts) for bucket in range(2)}  # fmt: skip
        assume(any(sum(round(ideal[n, bucket]) for n in range(len(counts))) >= size for bucket in range(2)))
        stream = BucketedBatches(ReadyRows(tuple(sets), tuple(buckets), 9), StreamConfig(8 * size, seed), 10_000)
        drawn = Counter()
        for step in range(epochs * stream.steps_per_epoch):
            ids = (stream[step].tokens[:, 0] - 1).tolist()
            assert len({number // 1000 for number in ids}) == 1  # no batch mixes two buckets
            drawn.update((number % 1000 // 100, number // 1000, number % 100) for number in ids)
        for (number, bucket), wanted in ideal.items():
            times = [drawn[number, bucket, row] for row in range(counts[number][bucket])]
            if not times:
                continue
            # Of an epoch at most size - 1 rows of a bucket fill no batch, and a share is rounded, up from nothing.
            assert abs(sum(times) - epochs * wanted) <= epochs * (size - 1 + max(0.5, 1 - wanted)) + 1e-6
            assert max(times) - min(times) <= 1 + epochs * (size - 1)


def test_a_set_of_a_mixture_goes_on_in_the_next_epoch_where_it_was(tmp_path):
    """Twenty rows at a share of a fifth of 40 + 20: twelve an epoch, and in five epochs each of them three times."""
    bucket, sets = Bucket(8, 8), []
    for number, (count, share) in enumerate([(40, 0.8), (20, 0.2)]):
        (folder := tmp_path / str(number)).mkdir()
        rows_on_disk(folder, [count], [bucket], 1 + 100 * number)
        sets.append(RowSet(folder, Manifest.read(folder), share))
    stream = BucketedBatches(ReadyRows(tuple(sets), (bucket,), 9), StreamConfig(8 * 4, 1), 10_000)
    assert stream.steps_per_epoch == 15
    small = [(stream[step].tokens[:, 0] - 1)[stream[step].tokens[:, 0] > 100] for step in range(5 * 15)]
    assert set(Counter(np.concatenate(small[:15]).tolist()).values()) == {1}
    assert Counter(np.concatenate(small).tolist()) == {number: 3 for number in range(100, 120)}
    assert sum(0 < len(some) < 4 for some in small) > 30  # rows of both share batches


def test_what_is_drawn_of_a_set_in_part_is_not_its_beginning(tmp_path):
    bucket, sets = Bucket(8, 8), []
    for number, share in enumerate([0.9, 0.1]):
        (folder := tmp_path / str(number)).mkdir()
        rows_on_disk(folder, [100], [bucket], 1 + 100 * number)
        sets.append(RowSet(folder, Manifest.read(folder), share))
    stream = BucketedBatches(ReadyRows(tuple(sets), (bucket,), 9), StreamConfig(8 * 4, 1), 10_000)
    drawn = np.concatenate([stream[step].tokens[:, 0] - 1 for step in range(stream.steps_per_epoch)])
    few = drawn[drawn >= 100] - 100
    assert len(set(few.tolist())) == len(few) == 20 and few.max() > 60 and few.min() < 40
    again = BucketedBatches(ReadyRows(tuple(sets), (bucket,), 9), StreamConfig(8 * 4, 1), 10_000)
    np.testing.assert_array_equal(again[37].tokens, stream[37].tokens)


def test_a_bucket_of_which_a_set_has_few_is_drawn_all_the_same(tmp_path):
    buckets, sets = (Bucket(4, 8, 4), Bucket(8, 8)), []
    for number, (counts, share) in enumerate([((98, 2), 0.02), ((0, 100), 0.98)]):
        (folder := tmp_path / str(number)).mkdir()
        rows_on_disk(folder, counts, buckets, 1 + 100 * number)
        sets.append(RowSet(folder, Manifest.read(folder), share))
    stream = BucketedBatches(ReadyRows(tuple(sets), buckets, 9), StreamConfig(8, 1), 10_000)
    drawn = [int(stream[step].tokens[0, 0]) for step in range(2 * stream.steps_per_epoch)]
    assert sorted(number for number in drawn if 1000 < number < 1100) == [1001, 1002]


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
