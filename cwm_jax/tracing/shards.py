"""Recording in several processes, shard by shard: every shard is a file of its own, and what is there is not redone."""

import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cwm_jax.cluster import cluster, run_jobs
from cwm_jax.report.progress import progress

_SEEN_WITHIN = 60.0  # seconds for which a network's file system may go on saying that a file is not there


def told_beside(shard: Path) -> Path:
    """The file, written after a shard, that tells of it: where it is there, the shard is whole."""
    return shard.with_suffix(".json")


def record_shards(what: str, jobs: Sequence[Callable[[], Path]], done: int, workers: int) -> None:
    """Runs jobs, of which each writes one shard and returns its path.

    A worker or a machine that dies loses the shard in hand alone, which another makes.

    Args:
      what: the progress bar's name.
      jobs: for the shards that are missing; they and what they hold pickle.
      done: shards that are there.
      workers: processes on this machine; a cluster that this process has joined runs as many as it has cores.

    Raises:
      What the first job that failed raised; the others are left out.
      FileNotFoundError: a shard was written where this machine does not see it.
    """
    if not jobs:
        return
    with progress(what, done + len(jobs), unit="shards", start=done) as bar, cluster(workers):
        for number, (path, host) in enumerate(run_jobs([partial(_record, job) for job in jobs]), start=done + 1):
            _see(path, host)
            bar.update(number)


def _record(job: Callable[[], Path]) -> tuple[Path, str]:
    return job(), socket.gethostname()


def _see(path: Path, host: str) -> None:
    until = time.monotonic() + _SEEN_WITHIN
    while not path.exists():
        if time.monotonic() > until:
            raise FileNotFoundError(
                f"{host} wrote {path}, which is not to be seen from {socket.gethostname()}: name a folder with --out "
                "that all machines of the cluster share"
            )
        time.sleep(0.2)
