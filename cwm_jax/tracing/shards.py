"""Recording in several processes, shard by shard: every shard is a file of its own, and what is there is not redone."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from cwm_jax.report.progress import progress


def record_shards(what: str, jobs: Sequence[Callable[[], None]], done: int, workers: int) -> None:
    """Runs jobs, of which each writes one shard.

    Args:
      what: the progress bar's name.
      jobs: for the shards that are missing; they and what they hold pickle.
      done: shards that are there.
      workers: processes.

    Raises:
      What the first job that failed raised; the others that had not begun are left out.
    """
    with (
        progress(what, done + len(jobs), unit="shards", start=done) as bar,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
    ):
        running = [pool.submit(job) for job in jobs]
        try:
            for number, job in enumerate(as_completed(running), start=done + 1):
                job.result()
                bar.update(number)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
