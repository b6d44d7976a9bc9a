"""Traces on disk: ArrayRecord files of JSON records, each a trace's text and where it is from."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from cwm_jax.files import full_disk
from cwm_jax.tracing.language import parse, render
from cwm_jax.tracing.trace import Trace

DATASHEET = "datasheet.json"
SUFFIX = ".array_record"
_BATCH = 256  # records that are read at once


class Stored(NamedTuple):
    """A trace and what is known of it.

    Attributes:
      kind: `trace`, `step-over` for an episode cut from one, or `episode` for one cut from a run of tests.
      origin: where the program is from, such as `textwrap.py:dedent`.
      program: fingerprint of the program without its inputs: what splits go by.
      trace: with its verdict, reason and Python.
    """

    kind: str
    origin: str
    program: str
    trace: Trace


def to_bytes(stored: Stored) -> bytes:
    trace = stored.trace
    known = {"python": trace.python, "verdict": trace.verdict, "reason": trace.reason}
    return json.dumps(stored._replace(trace=render(trace))._asdict() | known).encode()


def from_bytes(data: bytes) -> Stored:
    fields = json.loads(data)
    known = {name: fields.pop(name) for name in ("python", "verdict", "reason")}
    return Stored(**fields | {"trace": replace(parse(fields["trace"]), **known)})


def write_records(path: Path, records: Iterable[bytes]) -> int:
    """Writes one file, in place only when whole; returns the number of records."""
    partial = path.with_suffix(".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with full_disk(path):
        writer = ArrayRecordWriter(str(partial), "group_size:64,zstd:3")
        for record in records:
            writer.write(record)
            count += 1
        writer.close()
        partial.replace(path)
    return count


def read_records(path: Path, count: int) -> Iterator[bytes]:
    """The records of one file, in order.

    Args:
      path: the file.
      count: the records that it should hold: of a file that was cut off the reader finds none, and says nothing.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        reader = ArrayRecordReader(str(path))
        if (found := reader.num_records()) != count:
            raise RuntimeError(f"{found:,} of {count:,} records can be found")
        for first in range(0, count, _BATCH):
            yield from reader.read(list(range(first, min(first + _BATCH, count))))
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged: {error}; delete its folder and make it again") from error


def read_datasheet(folder: Path) -> dict | None:
    """What `datasheet.json` of a folder of traces holds; None where the folder is not whole."""
    path = Path(folder) / DATASHEET
    return json.loads(path.read_text()) if path.exists() else None


def read_stored(folder: str | Path) -> Iterator[Stored]:
    """Every trace of a folder that `prepare` made, in order, with what is known of it.

    Raises:
      FileNotFoundError: the folder holds none, or is not finished.
      ValueError: a file is damaged.
    """
    folder = Path(folder)
    if (sheet := read_datasheet(folder)) is None:
        raise FileNotFoundError(
            f"{folder} holds no finished traces; make them with: python -m cwm_jax prepare --source PATH --out {folder}"
        )
    for name, count in sheet["records"].items():
        yield from map(from_bytes, read_records(folder / name, count))


def read_traces(folder: str | Path) -> Iterator[Trace]:
    """Every trace of a folder that `prepare` made, in order; raises as `read_stored`."""
    return (stored.trace for stored in read_stored(folder))
