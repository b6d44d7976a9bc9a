"""Corpora of traces: what sources give, recorded shard by shard, filtered, and joined in one folder.

A shard is a file of its own that is written whole or not at all, and depends on nothing but its part of a source: an
interrupted call goes on where it was, and the result has the same bytes however many workers there were. It is named by
all that shapes it, so a corpus that gets more sources (delete its `settings` and `datasheet.json`) records these alone.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from cwm_jax.components import plain
from cwm_jax.files import claim, in_use, write_json
from cwm_jax.records import read_records
from cwm_jax.report.progress import progress
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.datasheet import Tally, write_datasheet
from cwm_jax.tracing.episodes import step_over, step_over_tasks
from cwm_jax.tracing.parts import Found, Part
from cwm_jax.tracing.quality import (
    Benchmark,
    NearDuplicates,
    Privacy,
    decontamination,
    exact_name,
    is_swe_bench,
    smallest_keys,
    stays,
)
from cwm_jax.tracing.shards import make_shards, told_beside
from cwm_jax.tracing.sources.concurrent import ConcurrentPrograms
from cwm_jax.tracing.sources.contests import Contests
from cwm_jax.tracing.sources.functions import Functions
from cwm_jax.tracing.sources.repositories import Repositories
from cwm_jax.tracing.store import SUFFIX, Stored, from_bytes, read_datasheet, to_bytes, write_stored
from cwm_jax.tracing.tokens import count_tokens, counts_of, train_on_shards

_RECORDS_PER_FILE = 50_000


@dataclass(frozen=True)
class TraceCorpus:
    """What is recorded, and what of it is kept.

    Attributes:
      sources: of the programs.
      near: finds near duplicates among functions and programs, by their code alone (our choice: a copy on other inputs
        is still a copy).
      benchmarks: whose programs stay out, beside the projects of SWE-bench.
      step_over: share of traces that also give a step-over episode.
    """

    sources: tuple[Functions | Repositories | Contests | ConcurrentPrograms, ...]
    near: NearDuplicates = field(default_factory=NearDuplicates)
    benchmarks: tuple[Benchmark, ...] = ()
    step_over: float = 0.2

    def __post_init__(self):
        if not self.sources:
            raise ValueError("TraceCorpus.sources is empty; bind it to at least one, such as [@Functions()]")
        if not 0 <= self.step_over <= 1:
            raise ValueError(f"TraceCorpus.step_over={self.step_over} must be from 0 to 1")


class _Entry(NamedTuple):
    """What is told of a record beside its shard.

    Attributes:
      name: that equal traces share.
      program: of the function or program, unlike any other's.
    """

    name: str
    program: str


def prepare_traces(
    corpus: TraceCorpus,
    out: Path,
    workers: int = 0,
    limit: int | None = None,
    isolation: Isolation = Isolation.BUBBLEWRAP,
) -> dict:
    """Makes `out` hold the traces of `corpus`, or goes on where an interrupted call stopped.

    Args:
      corpus: what is recorded.
      out: a folder; then holds `traces-*.array_record`, a vocabulary that was trained on them, `datasheet.json` and
        `datasheet.html`.
      workers: processes that record; 0: one for each core.
      limit: files, projects or problems of each source that are read, at most.
      isolation: how far to keep the programs from the machine.

    Returns:
      The datasheet.

    Raises:
      ValueError: the folder holds other data, another process is at work in it, or nothing was worth a trace.
      FileNotFoundError: a source is not there.
      NotBuilt: a source distribution cannot be downloaded.
      SandboxMissing: bubblewrap is not installed.
      OSError: the disk is full.
    """
    out = Path(out)
    with in_use(out):
        parts = {_name(corpus, part): part for source in corpus.sources for part in source.parts(out, limit)}
        claim(out, _hash(" ".join(parts)))
        if (sheet := read_datasheet(out)) is not None:
            return sheet
        paths = {out / "shards" / f"{name}{SUFFIX}": part for name, part in parts.items()}
        jobs = {told_beside(path): partial(record_shard, corpus, part, path, isolation) for path, part in paths.items()}
        make_shards("recording", jobs, workers)
        return _finish(corpus, out, list(paths), workers)


def _name(corpus: TraceCorpus, part: Part) -> str:
    """A hash of what shapes a shard: the settings and the bytes that are read, not where they lie."""
    shared = [plain(corpus.near), *map(plain, corpus.benchmarks), corpus.step_over]
    return _hash(json.dumps([*shared, part.mark]))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def record_shard(corpus: TraceCorpus, part: Part, path: Path, isolation: Isolation) -> None:
    """Records a part and writes the shard, then what is told of it.

    What it writes is a function of its arguments alone, but for the seconds that it took.
    """
    started, dropped, privacy = time.monotonic(), Counter(), Privacy.here()
    records, entries, own = [], [], {}
    for found in part.record(isolation, dropped):
        try:
            if reason := _unwanted(found.stored, corpus.benchmarks, privacy):
                dropped[reason] += 1
                continue
            name = exact_name(found.stored.trace.context, found.inputs)
        except RecursionError:
            dropped["source nested too deeply"] += 1
            continue
        program = f"{found.stored.origin} {found.stored.program}"
        own[program] = found.own
        for stored in _with_step_over(found, corpus.step_over):
            records.append(to_bytes(stored))
            entries.append(_Entry(f"{stored.kind} {name}", program))
    write_stored(path, records)
    near = {program: corpus.near.names(code) for program, code in own.items()}
    told = {"entries": entries, "near": near, "dropped": dropped, "seconds": time.monotonic() - started}
    write_json(told_beside(path), told)


def _unwanted(stored: Stored, benchmarks: tuple[Benchmark, ...], privacy: Privacy) -> str:
    """Why a trace is not kept; empty if nothing speaks against it."""
    if kinds := privacy.kinds_in(stored.trace):
        return f"private: {kinds[0]}"
    project, pinned, _ = stored.origin.partition("==")
    if pinned and is_swe_bench(project):
        return "of a benchmark: swe-bench"
    name = decontamination(benchmarks).benchmark_in(stored.trace.context)
    return f"of a benchmark: {name}" if name else ""


def _with_step_over(found: Found, share: float) -> Iterator[Stored]:
    stored = found.stored
    yield stored
    rng = Random(f"step over {stored.trace.context} {found.inputs}")
    tasks = stored.kind == "tasks"
    cut = step_over_tasks if tasks else step_over
    if rng.random() < share and (episode := cut(stored.trace, rng)) != stored.trace:
        yield stored._replace(kind="tasks-step-over" if tasks else "step-over", trace=episode)


def _finish(corpus: TraceCorpus, out: Path, paths: list[Path], workers: int) -> dict:
    """Counts tokens, joins the shards, each trace once, and writes the datasheet last."""
    told = {path: json.loads(told_beside(path).read_text()) for path in paths}
    sizes = {path: len(one["entries"]) for path, one in told.items()}
    if not any(sizes.values()):
        reasons = ", ".join(f"{number} {reason}" for reason, number in _dropped(told).items())
        raise ValueError(f"nothing was worth a trace; left out: {reasons or 'nothing, for there are no programs'}")
    vocabulary = train_on_shards(sizes, out)
    jobs = {counts_of(path): partial(count_tokens, path, sizes[path], vocabulary) for path in paths}
    make_shards("counting tokens", jobs, workers)
    tally = Tally([name for source in corpus.sources for name in source.names()], _dropped(told))
    distinct = _distinct(told, tally)
    records: dict[str, int] = {}
    for number in count():
        path = out / f"traces-{number:05d}{SUFFIX}"
        if not (written := write_stored(path, islice(distinct, _RECORDS_PER_FILE))):
            path.unlink()
            break
        records[path.name] = written
    return write_datasheet(tally, records, sum(one["seconds"] for one in told.values()), out)


def _dropped(told: dict[Path, dict]) -> Counter[str]:
    return sum((Counter(one["dropped"]) for one in told.values()), Counter())


def _distinct(shards: dict[Path, dict], tally: Tally) -> Iterator[bytes]:
    """The records of shards that are the first of their name, and whose program has no near duplicate before it."""
    smallest = smallest_keys(item for told in shards.values() for item in told["near"].items())
    seen: set[str] = set()
    with progress("joining", len(shards), unit="shards") as bar:
        for number, (path, told) in enumerate(shards.items(), start=1):
            kept = {program for program, names in told["near"].items() if stays(program, names, smallest)}
            tokens = json.loads(counts_of(path).read_text())
            records = read_records(path, len(tokens))
            for (name, program), length, record in zip(told["entries"], tokens, records):
                if name in seen or program not in kept:
                    tally.dropped["a duplicate" if name in seen else "a near duplicate"] += 1
                    continue
                seen.add(name)
                tally.add(from_bytes(record), length)
                yield record
            bar.update(number)
