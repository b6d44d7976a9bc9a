"""Work spread over processes and machines by Ray: the one place that knows how Ray is started, and joined.

    with cluster(workers=2):
        for result in run_jobs(jobs):
            ...

Ray takes about two seconds to start and one to stop, and 370 MB with two workers (measured), so it is there only while
there is work.
"""

import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")

ADDRESS_HELP = "record on the Ray cluster at HOST:PORT, whose machines share the folders; default: on this machine"

_ANSWER = 10.0  # seconds in which a cluster must answer
_OBJECT_STORE = 100 << 20  # bytes: what jobs make goes into files
_AHEAD = 2  # jobs with Ray for each core: one that runs and one that is on its way
_RETRIES = 4  # of a job whose process died: machines may go, but a job that kills its process must end


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Has this process be part of the Ray cluster at `address`, `HOST:PORT` or `auto`; of none where that is None.

    Raises:
      ConnectionError: there is no cluster at the address, or it runs another Python or Ray.
    """
    if address is None:
        yield
        return
    try:
        if address != "auto":  # Ray would try for two minutes, with many words
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=_ANSWER).close()
        _start(address=address)
    except (OSError, ValueError) as error:
        raise ConnectionError(f"--address {address}: no Ray cluster could be joined there: {error}") from error
    try:
        yield
    finally:
        _stop()


@contextmanager
def cluster(workers: int) -> Iterator[None]:
    """Has Ray ready inside: the cluster that this process is part of already, else one of this machine alone.

    The latter dies with this process, and listens to this machine only, behind a token.

    Args:
      workers: jobs at once on this machine; in a cluster that was joined its cores decide.
    """
    if "ray" not in sys.modules:  # it reads these when it is imported
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else it listens to the whole network
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    if ray.is_initialized():
        yield
        return
    # Ray puts sockets into the folder, whose path has to be short for that.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            _start(
                address="local", num_cpus=workers, num_gpus=0, include_dashboard=False,
                object_store_memory=_OBJECT_STORE, _temp_dir=folder,
            )  # fmt: skip
            yield
        finally:
            _stop()


def _start(**how: Any) -> None:
    """Starts or joins Ray, which says little and leaves SIGTERM to the caller.

    Raises:
      ConnectionError: it does not answer.
    """
    import ray

    asked_to_stop = False
    try:
        with _sigterm_left_alone(), warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "os.fork", RuntimeWarning
            )  # JAX's: what is forked becomes another program at once
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **how)
    except SystemExit:  # of Ray's own handler of SIGTERM
        asked_to_stop = True
    except Exception as error:  # Ray's own are of many kinds
        raise ConnectionError(f"Ray does not start; it says: {error}") from error
    if asked_to_stop:
        signal.raise_signal(signal.SIGTERM)


def _stop() -> None:
    import ray

    # Ray leaves the default, behind Python's back. Where a SIGTERM to the whole process group has ended Ray already,
    # this takes 8 seconds, and may take a minute.
    with _sigterm_left_alone():
        ray.shutdown()


@contextmanager
def _sigterm_left_alone() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def run_jobs(jobs: Sequence[Callable[[], T]]) -> Iterator[T]:
    """Runs jobs on the cluster, in this process's folder; yields what they return, in the order in which they end.

    A job whose process or machine dies is run again elsewhere. Only a few jobs are with Ray at any time.

    Raises:
      What the first job that failed raised, or ChildProcessError if its process died time and again; the others
      are stopped, as they are when the caller goes on without them.
    """
    import ray

    run = ray.remote(max_retries=_RETRIES)(_run_in)
    waiting, running, folder = iter(jobs), {}, os.getcwd()
    try:
        while True:
            cores = max(1, int(ray.cluster_resources().get("CPU", 1)))  # machines come and go
            for job in islice(waiting, max(0, _AHEAD * cores - len(running))):
                reference = run.remote(folder, job)
                running[reference.future()] = reference
            if not running:
                return
            # Not `ray.wait`, which makes a plain KeyboardInterrupt of whatever a signal's handler raises.
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                result = _result(future)
                del running[future]
                yield result
    finally:
        for reference in running.values():
            ray.cancel(reference, force=True)


def _result(future: Future[T]) -> T:
    from ray.exceptions import RayError, RayTaskError

    try:
        return future.result()
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        raise ChildProcessError(
            f"a worker process was lost {_RETRIES + 1} times at the same job; if memory ran out, use fewer workers. "
            f"The same command goes on from here. Ray says: {error}"
        ) from error


def _run_in(folder: str, job: Callable[[], T]) -> T:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray blocks it, and what a job starts inherits that
    try:
        os.chdir(folder)
    except OSError as error:
        error.strerror += f" on {socket.gethostname()}; call from a folder that all machines of the cluster share"
        raise
    return job()
