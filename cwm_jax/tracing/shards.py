"""Work in several processes, shard by shard: every shard is a file of its own, and what is there is not redone."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from cwm_jax.cluster import cluster, run_jobs
from cwm_jax.report.progress import progress

_SEEN_WITHIN = 60.0  # seconds for which a network's file system may go on saying that a file is not there


def told_beside(shard: Path) -> Path:
    """The file, written after a shard, that tells of it: where it is there, the shard is whole."""
    return shard.with_suffix(".json")


def make_shards(what: str, jobs: Mapping[Path, Callable[[], object]], workers: int) -> None:
    """Has every file that is not there made by its job.

    A worker or a machine that dies loses the shard in hand alone, which another makes.

    Args:
      what: the progress bar's name.
      jobs: by the file whose being there says that the job is done; they and what they hold pickle.
      workers: processes on this machine, 0 for one on each core; a cluster that this process has joined runs as many
        as it has cores.

    Raises:
      What the first job that failed raised; the others are left out.
      FileNotFoundError: a shard was written where this machine does not see it.
    """
    missing = [partial(_make, path, job) for path, job in jobs.items() if not path.exists()]
    if not missing:
        return
    done = len(jobs) - len(missing)
    workers = workers or len(os.sched_getaffinity(0))
    with progress(what, len(jobs), unit="shards", start=done) as bar, cluster(workers):
        for number, (path, host) in enumerate(run_jobs(missing), start=done + 1):
            _see(path, host)
            bar.update(number)


def _make(path: Path, job: Callable[[], object]) -> tuple[Path, str]:
    job()
    return path, socket.gethostname()


def _see(path: Path, host: str) -> None:
    until = time.monotonic() + _SEEN_WITHIN
    while not path.exists():
        if time.monotonic() > until:
            raise FileNotFoundError(
                f"{host} wrote {path}, which is not to be seen from {socket.gethostname()}: name a folder with --out "
                "that all machines of the cluster share"
            )
        time.sleep(0.2)
