"""Length buckets: which documents share rows, and what a batch of them looks like.

In a run with short documents a bucket is a length of rows. In a stage of CWM every row has the stage's one length and
buckets group documents, so that every batch can do with the global window that its documents need (paper §4.2).
"""

from pathlib import Path
from typing import NamedTuple

from cwm_jax.data.manifest import Manifest


class Bucket(NamedTuple):
    """Documents of about one length.

    Attributes:
      limit: tokens of the longest document; its name.
      length: tokens of a row.
      global_window: tokens that layers with a global view see; None is all.
    """

    limit: int
    length: int
    global_window: int | None = None

    def path(self, folder: Path) -> Path:
        """The file of its rows."""
        return Path(folder) / f"rows-{self.limit}.array_record"

    def shape(self, tokens: int, row_multiple: int) -> "BatchShape":
        """A batch of at most `tokens` tokens, its rows a multiple of `row_multiple` and at least that."""
        rows = max(1, tokens // self.length // row_multiple) * row_multiple
        return BatchShape(rows, self.length, self.global_window)


class BatchShape(NamedTuple):
    """What a training step is compiled for: rows of the global batch, their length, the window of global layers."""

    rows: int
    length: int
    global_window: int | None = None


class RowSet(NamedTuple):
    """Packed rows of one folder.

    Attributes:
      folder: with one file a bucket.
      manifest: what there is.
      share: its part of all rows that are drawn; those of the sets of a run add up to 1.
    """

    folder: Path
    manifest: Manifest
    share: float = 1.0


class ReadyRows(NamedTuple):
    """Packed rows on disk.

    Attributes:
      sets: where they lie; several where a run draws from a mixture.
      buckets: how they are grouped, in all sets alike.
      vocab_size: ids are below it.
    """

    sets: tuple[RowSet, ...]
    buckets: tuple[Bucket, ...]
    vocab_size: int

    @property
    def seconds(self) -> float:
        """That making them took; sets of one call of `prepare` count once."""
        return sum({one.manifest.settings: one.manifest.seconds for one in self.sets}.values())
