"""The training stream: step -> batch, a pure function, so that its whole state is one integer.

Documents are grouped in length buckets; each step draws one bucket, as often as its share of
the tokens says, and all hosts draw the same one (CWM paper §4.2). Bucket and rows of step t
follow from (seed, t) alone, so a stream resumes on any number of hosts.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import grain
import numpy as np

from cwm_jax.data.manifest import Manifest
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


@dataclass(frozen=True)
class BucketedBatches:
    """Random access to batches: element t is this host's share of the batch of step t.

    Attributes:
      folder: where `prepare` wrote its rows and manifest.
      config: how to draw.
      steps: length of the stream.
      row_multiple: rows of a global batch are a multiple of this (the shards of the batch axis).
      host, hosts: which share is ours; shares are equal, so `hosts` must divide `row_multiple`.
    """

    folder: Path
    config: StreamConfig
    steps: int
    row_multiple: int = 1
    host: int = 0
    hosts: int = 1
    _files: dict[int, RowFile] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.row_multiple % self.hosts:
            raise ValueError(f"{self.hosts} hosts cannot share batches of a multiple of {self.row_multiple} rows")
        counts = {length: count for length, count in Manifest.read(self.folder).rows.items() if count}
        sizes = {length: self._rows_per_batch(length) for length in counts}
        usable = {length: count for length, count in counts.items() if count >= sizes[length]}
        if not usable:
            raise ValueError(
                f"no bucket of {self.folder} fills one batch of {self.config.tokens_per_batch} tokens: {counts}"
            )
        object.__setattr__(self, "_counts", usable)
        object.__setattr__(self, "_sizes", sizes)
        for length, count in usable.items():
            self._files[length] = RowFile(self.folder / f"rows-{length}.array_record", count)

    def _rows_per_batch(self, length: int) -> int:
        return max(1, self.config.tokens_per_batch // length // self.row_multiple) * self.row_multiple

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and length of the global batches that occur; each needs its own compiled step."""
        return [(self._sizes[length], length) for length in self._counts]

    @property
    def steps_per_epoch(self) -> int:
        return sum(count // self._sizes[length] for length, count in self._counts.items())

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Row:
        epoch, place = divmod(int(step), self.steps_per_epoch)
        buckets, turns = self._order(epoch)
        length, turn = int(buckets[place]), int(turns[place])
        size = self._sizes[length]
        share = size // self.hosts
        first = turn * size + self.host * share
        return self._files[length].read(self._shuffled(epoch, length)[first : first + share])

    @lru_cache(maxsize=2)  # noqa: B019 - one stream lives as long as its run
    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The bucket of every step of an epoch, and how many steps of that bucket came before."""
        buckets = np.concatenate([np.full(n // self._sizes[length], length) for length, n in self._counts.items()])
        buckets = np.random.default_rng((self.config.seed, epoch)).permutation(buckets)
        turns = np.zeros(len(buckets), int)
        for length in self._counts:
            chosen = buckets == length
            turns[chosen] = np.arange(chosen.sum())
        return buckets, turns

    @lru_cache(maxsize=64)  # noqa: B019
    def _shuffled(self, epoch: int, length: int) -> np.ndarray:
        return np.random.default_rng((self.config.seed, epoch, length)).permutation(self._counts[length])

    def __hash__(self) -> int:
        return id(self)


def iterate(batches: BucketedBatches) -> grain.DatasetIterator:
    """A Grain iterator over the batches; its checkpoint holds one integer, the next step."""
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(grain.MapDataset.source(batches).to_iter_dataset(options))
