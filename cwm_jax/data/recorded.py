"""Recorded functions of real code as episodes of the compact form, for `Lessons` to tell beside generated programs."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cwm_jax.data.corpus import Episode, HeldOut, Shard, episode_of, write_shard
from cwm_jax.files import write_whole
from cwm_jax.tracing import render
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.sources.program import fingerprint
from cwm_jax.tracing.store import RecordSlice, Stored, record_slices

FAMILY = "recorded"
_RECORDS_PER_SHARD = 2000  # some seconds of work
_READS = re.compile(r"\binput\(|\bstdin\b")


@dataclass(frozen=True)
class RecordedPrograms:
    """The functions of a folder of traces that `prepare` made, called by a marked function each.

    Left out is what the compact form has no labels for, and what it does not tell exactly.

    Attributes:
      folder: of the traces.
      max_frames: longer traces are dropped.
      held_out: share of the programs, all their inputs, that is kept for tests (our choice: two in a hundred).
      tests: traces of those in the test set, at most one of a program.
    """

    folder: str
    max_frames: int = 64
    held_out: float = 0.02
    tests: int = 240

    def __post_init__(self):
        if not 0 <= self.held_out < 1:
            raise ValueError(f"RecordedPrograms.held_out={self.held_out} must be at least 0 and below 1")
        if self.max_frames < 2:
            raise ValueError(f"RecordedPrograms.max_frames={self.max_frames} must be at least 2, a call and its return")

    def jobs(self, form: Compact, held_out: HeldOut, out: Path) -> dict[Path, Callable[[], None]]:
        """What makes each shard of episodes in `out`, by its file; beside it stand the traces held out for tests.

        Args:
          form: how traces are written.
          held_out: what other tests are made of.
          out: folder of the shards.
        """
        slices = enumerate(record_slices(self.folder, _RECORDS_PER_SHARD))
        paths = {out / f"{number:04d}.json.gz": records for number, records in slices}
        return {path: partial(_tell, self, form, held_out, records, path) for path, records in paths.items()}

    def write_tests(self, shards: Iterable[Path], path: Path) -> int:
        """Gathers what the shards held out, evenly over all, at most `tests`; returns how many."""
        lines = [line for shard in shards for line in _tests_beside(shard).read_text().splitlines()]
        lines = list({json.loads(line)["name"]: line for line in reversed(lines)}.values())[::-1]
        count = min(self.tests, len(lines))
        some = [lines[number * len(lines) // count] for number in range(count)]
        write_whole(path, "".join(line + "\n" for line in some))
        return count

    def is_held_out(self, program: str) -> bool:
        """Whether the program of this fingerprint is kept for tests."""
        return int(hashlib.sha256(program.encode()).hexdigest()[:8], 16) < self.held_out * 16**8


def _tests_beside(shard: Path) -> Path:
    return shard.with_suffix("").with_suffix(".tests.jsonl")


def _tell(programs: RecordedPrograms, form: Compact, held_out: HeldOut, records: RecordSlice, shard: Path) -> None:
    """Writes what is held out of some records, then their episodes."""
    result, tests = Shard(), {}
    for stored in records.read():
        if stored.kind not in ("trace", "step-over"):
            continue
        result.python = stored.trace.python
        episode = _episode(programs, form, held_out, stored)
        if isinstance(episode, str):
            result.dropped[episode] += 1
        elif programs.is_held_out(stored.program):
            if stored.kind == "trace":
                name = f"{stored.origin} {stored.program}"
                told = {"name": name, "context": stored.trace.context, "text": render(stored.trace)}
                told["lines"] = [frame.line for frame in stored.trace.frames]
                tests.setdefault(stored.program, json.dumps(told))
        else:
            result.programs[FAMILY] += stored.kind == "trace"
            result.episodes.append(episode)
    write_whole(_tests_beside(shard), "".join(line + "\n" for line in tests.values()))
    write_shard(result, shard)


def _episode(programs: RecordedPrograms, form: Compact, held_out: HeldOut, stored: Stored) -> Episode | str:
    """A trace told in `form`, or why it is no lesson."""
    trace = stored.trace
    if len(trace.frames) > programs.max_frames:
        return "recorded: too many frames"
    if _READS.search(trace.context):
        return "recorded: reads what its context does not hold"
    try:
        context = form.context(trace.context)
    except ValueError:
        return "recorded: too many lines of code"
    if any(frame.line is None for frame in trace.frames):
        return "recorded: without line numbers"
    try:
        episode = episode_of(form, context, trace, over=stored.kind == "step-over")
        exact = form.trace(trace.context, episode.frames) == trace
    except (ValueError, KeyError, RecursionError):  # ways of control that the form has no words for
        exact = False
    if not exact:
        return "recorded: not exact in the compact form"
    reason = held_out.reason(fingerprint(trace.context), trace.context)
    return f"recorded: {reason}" if reason else episode
