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
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from random import Random

from cwm_jax.components import plain
from cwm_jax.files import claim, write_json
from cwm_jax.records import read_records
from cwm_jax.report.progress import progress
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.datasheet import Tally, write_datasheet
from cwm_jax.tracing.episodes import step_over
from cwm_jax.tracing.explore import Explorer
from cwm_jax.tracing.quality import Privacy, exact_name
from cwm_jax.tracing.shards import record_shards
from cwm_jax.tracing.sources.functions import Functions
from cwm_jax.tracing.sources.program import fingerprint
from cwm_jax.tracing.store import SUFFIX, Stored, from_bytes, read_datasheet, to_bytes, write_stored

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
    claim(out, _settings(corpus, files))
    if (sheet := read_datasheet(out)) is not None:
        return sheet
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
    paths = {shard: _shard(out, shard) for shard in range(len(shards))}
    missing = [shard for shard, path in paths.items() if not path.with_suffix(".json").exists()]
    jobs = [partial(record_shard, corpus, shards[shard], paths[shard], isolation) for shard in missing]
    record_shards("recording", jobs, len(shards) - len(missing), workers)


def record_shard(corpus: TraceCorpus, files: list[Path], path: Path, isolation: Isolation) -> Path:
    """Records the functions of some files and writes the shard, then what is told of it; returns the latter's path.

    What it writes is a function of its arguments alone, but for the seconds that it took.
    """
    started, dropped, records, names = time.monotonic(), Counter(), [], []
    privacy = Privacy.here()
    for file in files:
        for subject, trace in corpus.explorer.explore(corpus.source.work(file, dropped), isolation, dropped):
            if kinds := privacy.kinds_in(trace):
                dropped[f"private: {kinds[0]}"] += 1
                continue
            try:
                name, program = exact_name(trace.context), fingerprint(subject.code)
            except RecursionError:
                dropped["source nested too deeply"] += 1
                continue
            stored = Stored("trace", subject.origin, program, trace)
            records.append(to_bytes(stored))
            names.append(f"trace {name}")
            rng = Random(f"step over {trace.context}")
            if rng.random() < corpus.step_over and (episode := step_over(trace, rng)) != trace:
                records.append(to_bytes(stored._replace(kind="step-over", trace=episode)))
                names.append(f"step-over {name}")
    write_stored(path, records)
    told = {"names": names, "dropped": dropped, "seconds": time.monotonic() - started}
    write_json(path.with_suffix(".json"), told)
    return path.with_suffix(".json")


def _finish(corpus: TraceCorpus, out: Path, shards: int) -> dict:
    """Joins the shards, each trace once, and writes the datasheet last."""
    told = [json.loads(_shard(out, shard).with_suffix(".json").read_text()) for shard in range(shards)]
    dropped = sum((Counter(one["dropped"]) for one in told), Counter())
    tally = Tally([Path(corpus.source.path).name], dropped)
    distinct = _distinct({_shard(out, shard): one["names"] for shard, one in enumerate(told)}, tally)
    records: dict[str, int] = {}
    for number in count():
        path = out / f"traces-{number:05d}{SUFFIX}"
        if not (written := write_stored(path, islice(distinct, _RECORDS_PER_FILE))):
            path.unlink()
            break
        records[path.name] = written
    return write_datasheet(tally, records, sum(one["seconds"] for one in told), out)


def _distinct(shards: dict[Path, list[str]], tally: Tally) -> Iterator[bytes]:
    """The records of shards that are the first of their name; enters them in `tally`."""
    seen: set[str] = set()
    with progress("joining", len(shards), unit="shards") as bar:
        for number, (path, names) in enumerate(shards.items(), start=1):
            for name, record in zip(names, read_records(path, len(names))):
                if name in seen:
                    tally.dropped["a duplicate"] += 1
                    continue
                seen.add(name)
                tally.add(from_bytes(record), len(record))
                yield record
            bar.update(number)
