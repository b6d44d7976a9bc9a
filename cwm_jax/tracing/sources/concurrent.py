"""Programs whose tasks talk: whole scripts that use threads, asyncio, multiprocessing or subprocesses."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.parts import Found, settings_of
from cwm_jax.tracing.recorder import Limits
from cwm_jax.tracing.script import CannotTrace, script_context
from cwm_jax.tracing.sources.places import Place, find_files
from cwm_jax.tracing.sources.program import fingerprint
from cwm_jax.tracing.store import Stored
from cwm_jax.tracing.tasks import TaskRun, record_tasks
from cwm_jax.tracing.trace import START_MARKER_PATTERN

# Of one run; a longer one is dropped.
_LIMITS = Limits(wall_seconds=10.0, cpu_seconds=5, max_frames=2_000, max_trace_chars=250_000, max_value_chars=4_000)


@dataclass(frozen=True)
class ConcurrentPrograms:
    """Scripts that start threads, asyncio tasks or processes, each run under several schedules.

    A script is its own entry, or marks it. Runs of one task alone, and such as an earlier schedule gave, are dropped.

    Attributes:
      paths: folders, files, pinned source distributions, installed packages, or `stdlib`; see `Functions`.
      schedules: of each program; who runs when is drawn from a seed, those from 0 on.
    """

    paths: tuple[str, ...]
    schedules: int = 8

    def __post_init__(self):
        if not self.paths:
            raise ValueError("ConcurrentPrograms.paths is empty; name at least one place, such as a folder of scripts")
        if self.schedules < 1:
            raise ValueError(f"ConcurrentPrograms.schedules={self.schedules} must be at least 1")

    def parts(self, folder: Path, limit: int | None = None) -> list["SchedulesOfProgram"]:
        """A file each; see `Source`."""
        files = find_files(self.paths, folder, "ConcurrentPrograms.paths", limit)
        return [SchedulesOfProgram(self, place, file) for place, file in files]

    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return tuple(Path(path).resolve().name for path in self.paths)


@dataclass(frozen=True)
class SchedulesOfProgram:
    """One script under all schedules."""

    source: ConcurrentPrograms
    place: Place
    file: Path

    @property
    def mark(self) -> str:
        return f"{settings_of(self.source, 'paths')} {self.place.mark_of(self.file)}"

    def record(self, isolation: Isolation, dropped: Counter) -> Iterator[Found]:
        """Its runs; see `Part`. Each schedule is run twice, and must do the same."""
        try:
            code = self.file.read_bytes().decode()
            context = code if START_MARKER_PATTERN.search(code) else script_context(code, alone=False)
            program = fingerprint(context)
        except OSError:
            dropped["file cannot be read"] += 1
            return
        except CannotTrace as error:
            dropped[f"a script that {error}"] += 1
            return
        except (ValueError, SyntaxError, RecursionError):
            dropped["a script that does not parse"] += 1
            return
        seen: set[TaskRun] = set()
        for seed in range(self.source.schedules):
            run = record_tasks(context, _LIMITS, isolation, seed=seed)
            if reason := _unfit(run, seen):
                dropped[reason] += 1
                if reason == _ALONE:
                    return
            elif run != record_tasks(context, _LIMITS, isolation, seed=seed):
                dropped["not the same twice"] += 1
            else:
                seen.add(run)
                yield Found(Stored("tasks", self.place.name_of(self.file), program, run), code, (f"schedule {seed}",))


_ALONE = "a script that starts no task"


def _unfit(run: TaskRun, seen: set[TaskRun]) -> str:
    """Why a run is not kept; empty if nothing speaks against it."""
    if not run.complete:
        return run.verdict
    if len(run.tasks) == 1:
        return _ALONE
    return "a schedule that changes nothing" if run in seen else ""
