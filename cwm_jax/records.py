"""ArrayRecord files that are whole or not there."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from cwm_jax.files import full_disk, own_part

_BATCH = 256  # records that are read at once


def write_records(path: Path, records: Iterable[bytes], options: str) -> int:
    """Writes one file, in place only when whole; returns how many records it has.

    Args:
      path: the file; its folder is made where it is missing.
      records: in order.
      options: ArrayRecord's own, such as `group_size:1`.

    Raises:
      OSError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, count = own_part(path), 0
    try:
        with full_disk(path):
            writer = ArrayRecordWriter(str(part), options)
            for record in records:
                writer.write(record)
                count += 1
            writer.close()
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def read_records(path: Path, count: int, part: slice = slice(None)) -> Iterator[bytes]:
    """The records of one file, in order.

    Args:
      path: the file.
      count: the records that it should hold: of a file that was cut off the reader finds none, and says nothing.
      part: those that are wanted.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        reader = ArrayRecordReader(str(path))
        if (found := reader.num_records()) != count:
            raise RuntimeError(f"{found:,} of {count:,} records can be found")
        wanted = range(count)[part]
        for first in range(0, len(wanted), _BATCH):
            yield from reader.read(list(wanted[first : first + _BATCH]))
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged: {error}; delete its folder and make it again") from error
