"""`prepare --source`: the traces of a folder of Python code, shard by shard.

A shard is a file of its own that is written whole or not at all, and depends on nothing but the source files that it
covers: an interrupted call goes on where it was, and the result has the same bytes however many workers there were.
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path
from random import Random

from cwm_jax.components import plain
from cwm_jax.files import write_json, write_whole
from cwm_jax.report.progress import progress
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.datasheet import Tally, write_datasheet
from cwm_jax.tracing.episodes import step_over
from cwm_jax.tracing.explore import Explorer
from cwm_jax.tracing.quality import Privacy
from cwm_jax.tracing.sources.functions import Functions
from cwm_jax.tracing.sources.program import fingerprint
from cwm_jax.tracing.store import SUFFIX, Stored, from_bytes, read_datasheet, read_records, to_bytes, write_records

_FILES_PER_SHARD = 4  # about half a minute of work: what a killed worker loses
_RECORDS_PER_FILE = 50_000


@dataclass(frozen=True)
class TraceCorpus:
    """What is recorded.

    Attributes:
      source: of the functions.
      explorer: finds inputs for them and keeps traces.
      step_over: share of traces that also give a step-over episode.
    """

    source: Functions
    explorer: Explorer = field(default_factory=Explorer)
    step_over: float = 0.2


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
      out: a folder; then holds `traces-*.array_record`, `datasheet.json` and `datasheet.html`.
      workers: processes that record; 0: one for each core.
      limit: source files that are read, at most.
      isolation: how far to keep the programs from the machine.

    Returns:
      The datasheet.

    Raises:
      ValueError: the folder holds other data.
      FileNotFoundError: the source is not there.
      SandboxMissing: bubblewrap is not installed.
      OSError: the disk is full.
    """
    out, files = Path(out), corpus.source.files()[:limit]
    settings = _settings(corpus, files)
    mark = out / "settings"
    if mark.exists() and mark.read_text() != settings:
        raise ValueError(f"{out} holds traces of other sources or settings; name another folder, or delete this one")
    if (sheet := read_datasheet(out)) is not None:
        return sheet
    write_whole(mark, settings)
    shards = [files[first : first + _FILES_PER_SHARD] for first in range(0, len(files), _FILES_PER_SHARD)]
    _record_shards(corpus, shards, out, workers or len(os.sched_getaffinity(0)), isolation)
    return _finish(corpus, out, len(shards))


def _settings(corpus: TraceCorpus, files: list[Path]) -> str:
    """A hash of what shapes the traces: the settings and the source files' bytes."""
    digest = hashlib.sha256(json.dumps(plain(corpus), sort_keys=True).encode())
    for path in files:
        digest.update(f"{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _shard(out: Path, shard: int) -> Path:
    return out / "shards" / f"{shard:05d}{SUFFIX}"


def _record_shards(corpus, shards: list[list[Path]], out: Path, workers: int, isolation: Isolation) -> None:
    missing = [shard for shard in range(len(shards)) if not _shard(out, shard).with_suffix(".json").exists()]
    done = len(shards) - len(missing)
    with (
        progress("recording", len(shards), unit="shards", start=done) as bar,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
    ):
        jobs = [pool.submit(record_shard, corpus, shards[shard], _shard(out, shard), isolation) for shard in missing]
        try:
            for job in as_completed(jobs):
                job.result()
                bar.update(done := done + 1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def record_shard(corpus: TraceCorpus, files: list[Path], path: Path, isolation: Isolation) -> None:
    """Records the functions of some files and writes the shard, its counts last; a function of its arguments alone."""
    started, dropped, records = time.monotonic(), Counter(), []
    privacy = Privacy.here()
    for file in files:
        for subject, trace in corpus.explorer.explore(corpus.source.work(file, dropped), isolation, dropped):
            if kinds := privacy.kinds_in(trace):
                dropped[f"private: {kinds[0]}"] += 1
                continue
            stored = Stored("trace", subject.origin, fingerprint(subject.code), trace)
            records.append(to_bytes(stored))
            rng = Random(f"step over {trace.context}")
            if rng.random() < corpus.step_over and (episode := step_over(trace, rng)) != trace:
                records.append(to_bytes(stored._replace(kind="step-over", trace=episode)))
    counts = {"records": write_records(path, records), "dropped": dropped, "seconds": time.monotonic() - started}
    write_json(path.with_suffix(".json"), counts)


def _finish(corpus: TraceCorpus, out: Path, shards: int) -> dict:
    """Joins the shards, each trace once, and writes the datasheet last."""
    counts = [json.loads(_shard(out, shard).with_suffix(".json").read_text()) for shard in range(shards)]
    dropped = sum((Counter(one["dropped"]) for one in counts), Counter())
    tally = Tally([Path(corpus.source.path).name], dropped)
    distinct = _distinct({_shard(out, shard): one["records"] for shard, one in enumerate(counts)}, tally)
    records: dict[str, int] = {}
    for number in count():
        path = out / f"traces-{number:05d}{SUFFIX}"
        if not (written := write_records(path, islice(distinct, _RECORDS_PER_FILE))):
            path.unlink()
            break
        records[path.name] = written
    return write_datasheet(tally, records, sum(one["seconds"] for one in counts), out)


def _distinct(shards: dict[Path, int], tally: Tally) -> Iterator[bytes]:
    """The records of shards, of which each holds so many, that are the first of their kind; enters them in `tally`."""
    seen: set[bytes] = set()
    with progress("joining", len(shards), unit="shards") as bar:
        for number, (path, size) in enumerate(shards.items(), start=1):
            for record in read_records(path, size):
                stored = from_bytes(record)
                text = f"{stored.kind} {stored.program} {stored.trace.context.splitlines()[-1]}"
                key = hashlib.sha256(text.encode()).digest()[:16]
                if key in seen:
                    tally.dropped["a duplicate"] += 1
                    continue
                seen.add(key)
                tally.add(stored, len(record))
                yield record
            bar.update(number)
