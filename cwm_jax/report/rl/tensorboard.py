"""TensorBoard of a run of reinforcement learning."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from cwm_jax.files import full_disk
from cwm_jax.report.rl.told import AGES, Told, read, since

_NO_SCALARS = ("step", "time", "began", "solved")  # of a learner's row; lists are none either


def rl_tensorboard(run: str | Path, told: Told | None = None) -> None:
    """Writes `tensorboard/` into the folder of a run, anew, from the rows that the page is made of.

    Args:
      run: the folder.
      told: what is there, if it has been read.

    Raises:
      OSError: naming the folder and the fix, where the disk is full.
    """
    run = Path(run)
    told = told or read(run)
    folder, part = run / "tensorboard", run / "tensorboard.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with full_disk(folder):
        board = EventsWriter(str(part / "events"))
        for seconds, step, values in _events(told):
            scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
            board.write_event(Event(wall_time=seconds, step=step, summary=Summary(value=scalars)))
        board.close()
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _events(told: Told) -> Iterator[tuple[float, int, dict[str, float]]]:
    """`(seconds since 1970, step, scalars)`; what a host took has the version in place of the step."""
    for row in told.steps:
        kept = {name: value for name, value in row.items() if name not in _NO_SCALARS}
        by_age = {name: dict(zip(AGES, values)) for name, values in kept.pop("by_age", {}).items()}
        yield row["time"], row["step"], dict(_scalars({**kept, "by_age": by_age}))
    times = {row["step"]: row["time"] for row in told.steps}
    for one in told.examinations:
        scalars = {f"{key}/{name}": value for name, values in one["environments"].items()
                   for key, value in _scalars(values)}  # fmt: skip
        yield times.get(one["step"], told.began), one["step"], dict(_scalars({"held_out": scalars}))
    for host in told.hosts:
        for one in told.weights(host):
            yield one["swapped"], one["version"], dict(_scalars({host: {"seconds_since_announced": since(one)}}))


def _scalars(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """`{"reward": {"bash": 1}}` as `("reward/bash", 1)`; what is no number is left out."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{above}{name}/")
        elif isinstance(value, int | float):
            yield above + name, value
