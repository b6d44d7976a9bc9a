"""Metrics of a run, as JSON lines and for TensorBoard."""

import json
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter


class MetricsWriter:
    """Appends to `metrics.jsonl` and to TensorBoard files. After a resume steps may repeat: the last one counts."""

    def __init__(self, folder: Path):
        self._lines = open(folder / "metrics.jsonl", "a", buffering=1)  # noqa: SIM115 - open for the whole run
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, values: dict[str, Any]) -> None:
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._lines.close()
        self._board.close()
