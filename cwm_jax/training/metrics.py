"""Metrics of a run, as JSON lines and for TensorBoard."""

import json
import math
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from cwm_jax.files import full_disk


class MetricsWriter:
    """Appends to `metrics.jsonl` and to TensorBoard files. After a resume steps may repeat: the last one counts.

    A line that a killed process left half-written is cut off. Writes at once and in this thread, so that a full disk
    is an error here and now. A context manager.
    """

    def __init__(self, folder: Path):
        self._path = folder / "metrics.jsonl"
        self._lines = open(self._path, "ab", buffering=0)  # noqa: SIM115 - open for the whole run
        self._lines.truncate(self._path.read_bytes().rfind(b"\n") + 1)
        (folder / "tensorboard").mkdir(exist_ok=True)
        self._board = EventsWriter(str(folder / "tensorboard" / "events"))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Raises OSError, naming the file and the fix, where the disk is full. What is not finite becomes null."""
        line = {"step": step} | {name: value if math.isfinite(value) else None for name, value in values.items()}
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        with full_disk(self._path):
            self._lines.write(json.dumps(line).encode() + b"\n")
            self._board.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._board.close()
