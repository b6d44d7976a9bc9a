"""What a program may use up before it is stopped."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Bounds on one run of a program that may be hostile.

    Attributes:
      wall_seconds: time on the clock.
      cpu_seconds: processor time, of each process alone (`RLIMIT_CPU`).
      memory_mb: address space of each process, in MiB (`RLIMIT_AS`).
      processes: processes and threads at once (`RLIMIT_NPROC`); holds inside bubblewrap only,
        since outside the kernel counts everything that the user runs.
      file_mb: size of one file in MiB (`RLIMIT_FSIZE`), and of the whole throw-away folder inside bubblewrap.

    Raises:
      ValueError: a limit is not a positive number.
    """

    wall_seconds: float = 10.0
    cpu_seconds: int = 10
    memory_mb: int = 1024
    processes: int = 32
    file_mb: int = 16

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            kinds = (int, float) if field.type is float else (int,)
            if type(value) not in kinds or not 0 < value < float("inf"):
                what = "number" if field.type is float else "whole number"
                raise ValueError(f"{field.name}={value!r} is no limit; give a positive {what}")
