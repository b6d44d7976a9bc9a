"""Packed rows: fixed-length arrays of tokens, and the ArrayRecord files that hold them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from cwm_jax.records import write_records

MAX_WEIGHT = 255  # loss weights are stored in steps of 1/255
MOST_IN_A_ROW = 2**16 - 1  # documents, as their numbers are stored


class Document(NamedTuple):
    """One trace as tokens.

    Attributes:
      tokens: int32 ids.
      loss_weights: float32, the weight of predicting each of them.
    """

    tokens: np.ndarray
    loss_weights: np.ndarray


class Row(NamedTuple):
    """One packed row, every array of the same length S.

    Attributes:
      tokens: int32 ids, 0 where padded.
      segment_ids: int32, 1, 2, … for the documents of the row, 0 where padded.
      positions: int32, from 0 in every document.
      loss_weights: float32 weight of *predicting* the token at this place.
    """

    tokens: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray
    loss_weights: np.ndarray


def pack(documents: Iterable[Document], length: int, per_row: int) -> Iterator[Row]:
    """Rows of exactly `length` tokens, documents in order, each whole in one row.

    Args:
      documents: none longer than `length`.
      length: tokens in a row.
      per_row: most documents in one row; 1 where attention over a long row costs more than padding.
    """
    row: list[Document] = []
    free = length
    for document in documents:
        if len(document.tokens) > length:
            raise ValueError(f"a document of {len(document.tokens)} tokens does not fit a row of {length}")
        if row and (len(document.tokens) > free or len(row) == per_row):
            yield _row(row, length)
            row, free = [], length
        row.append(document)
        free -= len(document.tokens)
    if row:
        yield _row(row, length)


def _row(documents: list[Document], length: int) -> Row:
    row = Row(*(np.zeros(length, np.int32) for _ in range(3)), np.zeros(length, np.float32))
    start = 0
    for number, (tokens, loss_weights) in enumerate(documents, start=1):
        end = start + len(tokens)
        row.tokens[start:end] = tokens
        row.segment_ids[start:end] = number
        row.positions[start:end] = np.arange(len(tokens))
        row.loss_weights[start:end] = loss_weights
        row.loss_weights[start] = 0.0  # nothing comes before the first token to predict it from
        start = end
    return row


def to_bytes(row: Row) -> bytes:
    """A row as stored: tokens and positions as uint32, segments as uint16, weights as uint8."""
    weights = np.round(row.loss_weights * MAX_WEIGHT)
    return b"".join(
        array.astype(dtype).tobytes()
        for array, dtype in ((row.tokens, "<u4"), (row.positions, "<u4"), (row.segment_ids, "<u2"), (weights, "u1"))
    )


def from_bytes(data: bytes) -> Row:
    """The row that `to_bytes` stored."""
    length = len(data) // 11
    tokens, positions = np.frombuffer(data, "<u4", 2 * length).astype(np.int32).reshape(2, length)
    segments = np.frombuffer(data, "<u2", length, offset=8 * length).astype(np.int32)
    weights = np.frombuffer(data, "u1", length, offset=10 * length).astype(np.float32) / MAX_WEIGHT
    return Row(tokens, segments, positions, weights)


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Writes rows to one ArrayRecord file, in place only when whole; returns how many."""
    return write_records(path, map(to_bytes, rows), "group_size:1")


_AGAIN = (
    "Copy it back, or delete manifest.json beside it and give the same command again, which makes the same rows from "
    "the recorded programs; nothing that was learnt is lost"
)


class RowFile:
    """Random access to the rows of one ArrayRecord file.

    Args:
      path: the file.
      count: the rows that it should hold, where that is known.

    Raises:
      FileNotFoundError: it is gone.
      ValueError: it was cut off, or is damaged.
    """

    def __init__(self, path: Path, count: int | None = None):
        if not path.exists():
            raise FileNotFoundError(f"{path}, a file of training rows, is gone. {_AGAIN}")
        self._path = path
        self._reader = ArrayRecordReader(str(path))
        if count is not None and len(self) != count:  # of a file that was cut off the reader finds no row at all
            raise ValueError(f"{path} is damaged: {len(self):,} of its {count:,} rows can be found. {_AGAIN}")

    def __len__(self) -> int:
        return self._reader.num_records()

    def read(self, indices: np.ndarray) -> Row:
        """The rows at `indices`, stacked: every array [len(indices), S]. Raises ValueError where they are damaged."""
        try:
            rows = [from_bytes(data) for data in self._reader.read(indices.tolist())]
        except RuntimeError as error:
            raise ValueError(f"{self._path} is damaged: {error}. {_AGAIN}") from error
        return Row(*(np.stack(arrays) for arrays in zip(*rows)))
