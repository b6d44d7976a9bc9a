"""Traces on disk: ArrayRecord files of JSON records, each a trace's text, what that lacks, and where it is from."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cwm_jax.files import digest_of
from cwm_jax.records import read_records, write_records
from cwm_jax.tracing.hidden import parse_hidden, render_hidden
from cwm_jax.tracing.tasks import TaskRun, parse_tasks, render_tasks
from cwm_jax.tracing.trace import Frame, Trace

DATASHEET = "datasheet.json"
SUFFIX = ".array_record"


class Stored(NamedTuple):
    """A trace and what is known of it.

    Attributes:
      kind: `trace`, `step-over` for an episode cut from one, or `episode` for one cut from a run of tests; `tasks` for
        the run of a program whose tasks talk, and `tasks-step-over`.
      origin: where the program is from, such as `textwrap.py:dedent`.
      program: fingerprint of the program without its inputs: what splits go by.
      trace: with its lines, verdict, reason and Python, and its hidden state where it was recorded.
    """

    kind: str
    origin: str
    program: str
    trace: Trace | TaskRun


def to_bytes(stored: Stored) -> bytes:
    trace = stored.trace
    lines = [frame.line for frame in trace.frames]
    known = {"python": trace.python, "verdict": trace.verdict, "reason": trace.reason, "lines": lines}
    text = render_tasks(trace) if isinstance(trace, TaskRun) else render_hidden(trace)
    return json.dumps(stored._replace(trace=text)._asdict() | known).encode()


def from_bytes(data: bytes) -> Stored:
    fields = json.loads(data)
    known = {name: fields.pop(name) for name in ("python", "verdict", "reason")}
    lines = iter(fields.pop("lines", ()))  # none in folders of the first version

    def with_line(frame: Frame) -> Frame:
        return replace(frame, line=next(lines, None))

    if fields["kind"].startswith("tasks"):
        run = parse_tasks(fields["trace"])
        steps = (replace(s, what=with_line(s.what)) if isinstance(s.what, Frame) else s for s in run.steps)
        return Stored(**fields | {"trace": replace(run, steps=tuple(steps), **known)})
    trace = parse_hidden(fields["trace"])
    return Stored(**fields | {"trace": replace(trace, frames=tuple(map(with_line, trace.frames)), **known)})


def write_stored(path: Path, records: Iterable[bytes]) -> int:
    """Writes one file of records that `to_bytes` made; returns how many."""
    return write_records(path, records, "group_size:64,zstd:3")


def read_datasheet(folder: str | Path) -> dict | None:
    """What `datasheet.json` of a folder of traces holds; None where the folder is not whole."""
    path = Path(folder) / DATASHEET
    return json.loads(path.read_text()) if path.exists() else None


def finished_datasheet(folder: str | Path) -> dict:
    """As `read_datasheet`.

    Raises:
      FileNotFoundError: the folder holds no traces, or is not finished.
    """
    if (sheet := read_datasheet(folder)) is None:
        raise FileNotFoundError(
            f"{folder} holds no finished traces; make them with: python -m cwm_jax prepare --source PATH --out {folder}"
        )
    return sheet


class RecordSlice(NamedTuple):
    """Some records of one file: what one process reads.

    Attributes:
      path: the file.
      count: the records that it should hold.
      records: those that are meant.
    """

    path: Path
    count: int
    records: slice

    def read(self) -> Iterator[Stored]:
        """The traces; raises as `read_records`."""
        return map(from_bytes, read_records(self.path, self.count, self.records))


def record_slices(folder: str | Path, size: int) -> Iterator[RecordSlice]:
    """All traces of a folder, at most `size` at a time, in order; raises as `read_stored`."""
    for name, count in finished_datasheet(folder)["records"].items():
        for first in range(0, count, size):
            yield RecordSlice(Path(folder) / name, count, slice(first, first + size))


def record_digests(folder: str | Path) -> list[str]:
    """A digest of each file of traces of a folder: what it holds, wherever it lies; raises as `finished_datasheet`."""
    return [digest_of(Path(folder) / name) for name in finished_datasheet(folder)["records"]]


def read_stored(folder: str | Path) -> Iterator[Stored]:
    """Every trace of a folder that `prepare` made, in order, with what is known of it.

    Raises:
      FileNotFoundError: the folder holds none, or is not finished.
      ValueError: a file is damaged.
    """
    for name, count in finished_datasheet(folder)["records"].items():
        yield from map(from_bytes, read_records(Path(folder) / name, count))


def read_traces(folder: str | Path) -> Iterator[Trace | TaskRun]:
    """Every trace, or run of tasks, of a folder that `prepare` made, in order; raises as `read_stored`."""
    return (stored.trace for stored in read_stored(folder))
