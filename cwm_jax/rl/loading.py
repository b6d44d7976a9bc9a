"""Published weights on their way into an engine, which draws while they are read."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cwm_jax.checkpoints.training import DamagedCheckpoint
from cwm_jax.inference.engine import Engine
from cwm_jax.inference.weights import by_layer
from cwm_jax.rl.policy import Gone, PolicyReader, Publication, check
from cwm_jax.training.processes import is_first

_TRIES = 3  # of one version
_FINE, _GONE, _DAMAGED = range(3)


class Loading:
    """Takes one version after the other. Of an inference host of several processes each has one, and does the same.

    Args:
      engine: goes on with the weights.
      reader: where they are; the lease is that of the first process.
      abstract: shapes, dtypes and shardings of the weights on this host.
      in_background: whether they are read while tokens are drawn; else a run is the same every time.
      tell: has the other processes `begin` and `finish`; called by the first of several.

    Attributes:
      reader: as above.
      publication: what is on its way; None where nothing is.
      retries: weights that were gone or damaged.
      taken: for each version that was taken, when it was announced, seen, loaded and swapped in, in seconds since 1970;
        who tells it on empties it.
    """

    def __init__(
        self,
        engine: Engine,
        reader: PolicyReader,
        abstract: Any,
        in_background: bool = True,
        tell: Callable[..., None] = lambda *_: None,
    ):
        self._engine, self.reader, self._abstract, self._in_background = engine, reader, abstract, in_background
        self._tell = tell
        self.publication: Publication | None = None
        self.retries = 0
        self.taken: list[dict[str, float]] = []
        self._several = jax.process_count() > 1
        self._thread: threading.Thread | None = None
        self._params: Any = None
        self._error: Exception | None = None
        self._failures = Counter[int]()  # of the version that is tried
        self._seen = self._read_at = 0.0

    def begin(self, publication: Publication) -> None:
        """Begins to read weights, unless they are gone."""
        self._seen = time.time()
        if is_first():
            try:
                self.reader.lease(publication)
            except Gone:
                self.retries += 1
                return  # the next look finds a newer one
        self._tell("begin", publication)
        self.publication = publication
        self._thread = threading.Thread(target=self._read, args=(publication,), daemon=True)
        self._thread.start()
        if not self._in_background:
            self._thread.join()

    @property
    def ready(self) -> bool:
        """Whether what is on its way has been read, or cannot be."""
        return self._thread is not None and not self._thread.is_alive()

    def finish(self) -> Publication | None:
        """Has the engine go on with what was read; None where it was gone or damaged. Every process calls it.

        Raises:
          Exception: what came of reading this version for the third time; in the first process, which others follow.
        """
        self._tell("finish")
        self._thread.join()
        publication, params, error = self.publication, self._params, self._error
        self._thread = self.publication = self._params = self._error = None
        if self._several:
            params, error = self._agreed(publication, params, error)
        if params is None:
            self.retries += 1
            if is_first():
                self.reader.let_go()
                self._failed(publication.version, error)
            return None
        self._engine.swap(params, publication.version)
        if is_first():
            self.reader.use(publication.version)
        times = {"announced": publication.announced, "seen": self._seen, "loaded": self._read_at}
        self.taken.append({"version": publication.version, **times, "swapped": time.time()})
        return publication

    def _read(self, publication: Publication) -> None:
        try:
            params = self.reader.read(publication, self._abstract)
            self._params = jax.block_until_ready(params if self._several else _checked(publication, params))
        except Exception as error:
            self._error = error
        self._read_at = time.time()

    def _failed(self, version: int, error: Exception) -> None:
        """The next look finds these weights again or newer ones; those that are only gone are no news."""
        if isinstance(error, Gone):
            return
        self._failures = Counter({version: self._failures[version] + 1})
        if self._failures[version] == _TRIES:
            raise error
        print(f"rl: {error}; trying again", file=sys.stderr)

    def _agreed(self, publication: Publication, params: Any, error: Exception | None) -> tuple[Any, Exception | None]:
        """The weights, checked, where all processes have read them, else an error, in all of them.

        They compute together, so not while one draws.
        """
        mine = _FINE if error is None else _GONE if isinstance(error, Gone) else _DAMAGED
        worst = int(multihost_utils.process_allgather(np.int32(mine)).max())
        if worst == _GONE:
            return None, Gone(f"version {publication.version} was deleted while it was read")
        if worst == _DAMAGED:
            here = f": {error}" if error else ", by another process"
            return None, DamagedCheckpoint(f"version {publication.version} cannot be read{here}")
        try:
            return _checked(publication, params), None
        except DamagedCheckpoint as damage:
            return None, damage


def _checked(publication: Publication, params: Any) -> Any:
    """The weights as the engine holds them, so that it can go on with them at once.

    Raises:
      DamagedCheckpoint: they are not what was published.
    """
    check(publication, params)
    return by_layer(params, consume=True)
