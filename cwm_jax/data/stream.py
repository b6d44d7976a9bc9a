"""The training stream: step -> batch, a pure function, so that its whole state is one integer.

Documents are grouped in length buckets; each step draws one bucket, as often as its share of
the rows says, and all hosts draw the same one (CWM paper §4.2). As a row is in one bucket only and
an epoch holds every row once, a data set is seen as often as without buckets. (The last rows of a
bucket that fill no batch wait for another epoch, in which the order is another.) Bucket and rows of
step t follow from (seed, t) alone, so a stream resumes on any number of hosts.

Of a mixture an epoch has as many rows as all its sets together, each set as often as its share says, and at least one
row of each bucket: a small set comes round several times in it, a large one goes on in the next where it was. No row of
a set comes again before all others have, each time in another order. Rows of all sets share batches.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import grain
import numpy as np

from cwm_jax.data.buckets import BatchShape, Bucket, ReadyRows
from cwm_jax.data.rows import Row, RowFile


@dataclass(frozen=True)
class StreamConfig:
    """How batches are drawn.

    Attributes:
      tokens_per_batch: tokens of a global batch, padding included; rows of a longer bucket are fewer.
      seed: of the order of buckets and rows.
    """

    tokens_per_batch: int = 4096
    seed: int = 0


class _Part(NamedTuple):
    """What a set gives to a bucket.

    Attributes:
      file: of its rows.
      count: of rows in an epoch, of this set.
    """

    file: RowFile
    count: int


@dataclass(frozen=True)
class BucketedBatches:
    """Random access to batches: element t is this host's share of the batch of step t.

    Attributes:
      rows: what lies on disk.
      config: how to draw.
      steps: length of the stream.
      row_multiple: rows of a global batch are a multiple of this (the shards of the batch axis).
      mine: which of these shards this process reads, as (first, last + 1); None is all.
    """

    rows: ReadyRows
    config: StreamConfig
    steps: int
    row_multiple: int = 1
    mine: tuple[int, int] | None = None
    _parts: dict[Bucket, list[_Part]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self):
        shapes = {b: b.shape(self.config.tokens_per_batch, self.row_multiple) for b in self.rows.buckets}
        drawn = {bucket: self._drawn(bucket) for bucket in self.rows.buckets}
        counts = {bucket: sum(some.values()) for bucket, some in drawn.items()}
        usable = {bucket: count for bucket, count in counts.items() if count >= shapes[bucket].rows}
        if not usable:
            held = {bucket.limit: count for bucket, count in counts.items()}
            folders = ", ".join(str(one.folder) for one in self.rows.sets)
            raise ValueError(f"no bucket of {folders} fills one batch of {self.config.tokens_per_batch} tokens: {held}")
        object.__setattr__(self, "_counts", usable)
        object.__setattr__(self, "_shapes", {bucket: shapes[bucket] for bucket in usable})
        for bucket in usable:
            self._parts[bucket] = [
                _Part(RowFile(bucket.path(one.folder), one.manifest.rows[bucket.limit]), drawn[bucket][number])
                for number, one in enumerate(self.rows.sets)
                if drawn[bucket].get(number)
            ]

    def _drawn(self, bucket: Bucket) -> dict[int, int]:
        """How many rows of a bucket each set gives to an epoch."""
        held = [sum(one.manifest.rows.values()) for one in self.rows.sets]
        here = [one.manifest.rows.get(bucket.limit, 0) for one in self.rows.sets]
        return {
            number: max(1, round(sum(held) * one.share * here[number] / held[number]))
            for number, one in enumerate(self.rows.sets)
            if here[number]
        }

    @property
    def shapes(self) -> list[BatchShape]:
        """The global batches that occur; each needs its own compiled step."""
        return list(dict.fromkeys(self._shapes.values()))

    def shape(self, step: int) -> BatchShape:
        """The global batch of a step."""
        return self._shapes[self._bucket(step)[0]]

    @property
    def steps_per_epoch(self) -> int:
        return sum(count // self._shapes[bucket].rows for bucket, count in self._counts.items())

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Row:
        bucket, turn = self._bucket(step)
        epoch = int(step) // self.steps_per_epoch
        first = turn * self._shapes[bucket].rows
        mine = self.my_rows(self._shapes[bucket])
        return self._read(bucket, epoch, self._shuffled(epoch, bucket)[first + mine.start : first + mine.stop])

    def _read(self, bucket: Bucket, epoch: int, places: np.ndarray) -> Row:
        """The rows at some places of an epoch, where the sets of a bucket stand one after the other."""
        parts = self._parts[bucket]
        starts = np.cumsum([0, *(part.count for part in parts)])
        owner = np.searchsorted(starts, places, side="right") - 1
        batch = Row(*(np.empty((len(places), bucket.length), dtype) for dtype in (*[np.int32] * 3, np.float32)))
        for number, part in enumerate(parts):
            (mine,) = np.nonzero(owner == number)
            if len(mine):
                turns = epoch * part.count + places[mine] - starts[number]
                for whole, some in zip(batch, part.file.read(self._rows(bucket, number, turns))):
                    whole[mine] = some
        return batch

    def _rows(self, bucket: Bucket, number: int, turns: np.ndarray) -> np.ndarray:
        """The rows of a set that have these turns, counted from the first epoch on."""
        part = self._parts[bucket][number]
        size = len(part.file)
        if part.count == size:
            return turns % size  # an epoch holds each once, in an order of its own
        rows = np.empty(len(turns), int)
        for time in set((turns // size).tolist()):
            inside = turns // size == time
            rows[inside] = self._order_of(bucket, number, time)[turns[inside] % size]
        return rows

    @lru_cache(maxsize=64)  # noqa: B019
    def _order_of(self, bucket: Bucket, number: int, time: int) -> np.ndarray:
        """The order in which the rows of a set come when they do so for the `time`-th time."""
        rng = np.random.default_rng((self.config.seed, time, bucket.limit, number))
        return rng.permutation(len(self._parts[bucket][number].file))

    def my_rows(self, shape: BatchShape) -> range:
        """Which rows of a global batch this process reads."""
        first, end = self.mine or (0, self.row_multiple)
        return range(shape.rows // self.row_multiple * first, shape.rows // self.row_multiple * end)

    def _bucket(self, step: int) -> tuple[Bucket, int]:
        """The bucket of a step, and how many steps of its epoch drew from it before."""
        epoch, place = divmod(int(step), self.steps_per_epoch)
        order, turns = self._order(epoch)
        return list(self._counts)[order[place]], int(turns[place])

    @lru_cache(maxsize=2)  # noqa: B019 - one stream lives as long as its run
    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The number of the bucket of every step of an epoch, and how many steps of that bucket came before."""
        steps = [count // self._shapes[bucket].rows for bucket, count in self._counts.items()]
        order = np.random.default_rng((self.config.seed, epoch)).permutation(np.repeat(np.arange(len(steps)), steps))
        turns = np.zeros(len(order), int)
        for number, count in enumerate(steps):
            turns[order == number] = np.arange(count)
        return order, turns

    @lru_cache(maxsize=16)  # noqa: B019
    def _shuffled(self, epoch: int, bucket: Bucket) -> np.ndarray:
        return np.random.default_rng((self.config.seed, epoch, bucket.limit)).permutation(self._counts[bucket])

    def __hash__(self) -> int:
        return id(self)


def iterate(batches: BucketedBatches, first: int = 0) -> grain.DatasetIterator:
    """A Grain iterator over the batches from step `first` on: that one integer is all that a checkpoint needs."""
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(grain.MapDataset.source(batches)[first:].to_iter_dataset(options))
