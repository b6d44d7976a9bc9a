"""Weights from the learner to whoever draws with them: published as checkpoints, announced by files, leased, deleted.

    run/policy/12/                          the weights of version 12, an Orbax checkpoint in serving precision
    run/board/pub-000001-000000000012.json  says that it is whole, and what it should add up to
    run/board/lease-HOST.json               what a host uses and loads; nobody deletes that

Readers take the newest announcement there is and never wait for one: versions between are skipped. An announcement
appears only when Orbax counts the checkpoint as finalised, and (epoch, version) only ever grows: a learner that starts
again begins a new epoch and goes on counting.
"""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import utils as orbax_utils
from orbax.checkpoint import v1 as ocp

from cwm_jax.checkpoints.fingerprint import fingerprint
from cwm_jax.checkpoints.training import DamagedCheckpoint
from cwm_jax.files import full_disk, write_json
from cwm_jax.training.processes import as_first, is_first

_KEPT = 3  # newest versions that stay whoever uses them
LEASE_SECONDS = 60.0  # without a sign of life, after which a lease counts for nothing


class Gone(LookupError):
    """A version was deleted before it could be loaded; the newest one is to be looked for again."""


@dataclass(frozen=True)
class Publication:
    """Weights that are there to be loaded.

    Attributes:
      epoch: how often a learner was started behind what others had announced; the first is 1.
      version: of the weights, from 1.
      step: of training that they come from.
      parent: the step that the learner of this epoch started from.
      fingerprints: of each array, by its path.
      dtype: of the arrays.
      bytes: of all of them.
      announced: seconds since 1970.
    """

    epoch: int
    version: int
    step: int
    parent: int
    fingerprints: dict[str, int]
    dtype: str
    bytes: int
    announced: float

    @property
    def name(self) -> str:
        """Of its file; sorts as (epoch, version) does."""
        return f"pub-{self.epoch:06d}-{self.version:012d}.json"


class Policies:
    """The published weights of a run, as anybody sees them."""

    def __init__(self, run: Path):
        self._weights, self._board = Path(run).absolute() / "policy", Path(run).absolute() / "board"

    def names(self) -> list[str]:
        """Of all announcements, the newest last."""
        try:
            return sorted(name for name in os.listdir(self._board) if name.startswith("pub-"))
        except FileNotFoundError:
            return []

    def newest(self) -> Publication | None:
        """The newest that is announced; None where none is yet."""
        for name in reversed(self.names()):
            try:
                return Publication(**json.loads((self._board / name).read_text()))
            except FileNotFoundError:
                continue  # deleted just now, so there is a newer one or an older one is as good
        return None

    def folder(self, version: int) -> Path:
        """Of the weights of a version."""
        return self._weights / str(version)

    def read(self, publication: Publication, abstract: Any) -> Any:
        """As `PolicyReader.load`, of what somebody has leased, and not checked.

        Processes that hold the weights together read their parts without waiting for one another, and no device
        computes anything.
        """
        context = ocp.Context()
        alone = context.multiprocessing
        alone.primary_host = jax.process_index()
        alone.active_processes, alone.barrier_sync_key_prefix = {alone.primary_host}, f"process-{alone.primary_host}"
        try:
            with context:
                return ocp.load(self.folder(publication.version), abstract)
        except Exception as error:  # of a folder that is deleted while it is read, any library below may raise
            if publication.name in self.names() and self.folder(publication.version).exists():
                raise DamagedCheckpoint(f"version {publication.version} cannot be read: {error}") from None
            raise Gone(f"version {publication.version} was deleted while it was read") from None


class Publisher(Policies):
    """The learner's side: one at a time, in the background. A context manager.

    Of a learner of several processes each has one, and does the same; the first announces and deletes.

    Attributes:
      epoch: of this learner.
      version: of the weights that were published last, 0 before the first.
    """

    def __init__(self, run: Path, parent: int = 0, clock: Callable[[], float] = time.time):
        """Begins an epoch.

        Args:
          run: its folder.
          parent: training step that this learner starts from.
          clock: tells the time.
        """
        super().__init__(run)
        self._parent, self._clock = parent, clock
        self._board.mkdir(parents=True, exist_ok=True)
        numbers = list(map(_numbers, self.names()))
        self.epoch = max((epoch for epoch, _ in numbers), default=0) + 1
        written = [int(path.name.partition(".")[0]) for path in self._weights.glob("[0-9]*")]
        self.version = max([*written, *(version for _, version in numbers)], default=0)
        # What another process sees may be of this epoch already.
        self.epoch, self.version = as_first(self.epoch, self.version)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def publish(self, params: Any, step: int) -> int:
        """Begins to write weights, which may be overwritten as soon as this returns; their version.

        Waits for the one before. Until it is announced, readers keep to older ones.

        Args:
          params: in serving precision, on any mesh; every process of the learner calls this.
          step: of training that they come from.

        Raises:
          OSError: there was no space for the one before.
        """
        self.wait()
        self.version += 1
        marks = jax.device_get(fingerprint(params))
        leaves = jax.tree.leaves(params)
        told = Publication(
            self.epoch, self.version, step, self._parent, _by_path(marks), str(leaves[0].dtype),
            sum(leaf.nbytes for leaf in leaves), 0.0,
        )  # fmt: skip
        with full_disk(self._weights):
            writing = ocp.save_async(self.folder(self.version), params, overwrite=True)
        self._thread = threading.Thread(target=self._announce, args=(writing, told))
        self._thread.start()
        return self.version

    def wait(self) -> None:
        """Returns when all that was published is announced; raises OSError where there was no space for it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _announce(self, writing: Any, told: Publication) -> None:
        try:
            with full_disk(self._weights):
                writing.result()
            if is_first():
                if not orbax_utils.is_checkpoint_finalized(self.folder(told.version)):
                    raise OSError(f"{self.folder(told.version)} was written, but Orbax does not count it as finalised")
                told = Publication(**asdict(told) | {"announced": self._clock()})
                write_json(self._board / told.name, asdict(told))
                self._collect()
        except BaseException as error:
            self._error = error

    def _leased(self) -> set[int]:
        return {version for lease in leases(self._board, self._clock()) for version in lease.versions}

    def _collect(self) -> None:
        """Deletes versions that are neither among the newest nor leased: first what announces them."""
        leased = self._leased()
        names = self.names()
        kept = {version for _, version in map(_numbers, names[-_KEPT:])} | leased
        for name in names:
            if _numbers(name)[1] not in kept:
                (self._board / name).unlink(missing_ok=True)
        # A host may have leased one between the look and now: whoever leases looks again whether it is announced.
        leased = self._leased()
        for path in self._weights.iterdir():
            version = int(path.name.partition(".")[0])
            if version not in kept | leased and version < self.version:
                shutil.rmtree(path, ignore_errors=True)

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


@dataclass(frozen=True)
class Lease:
    """What a host holds.

    Attributes:
      host: its name.
      using: version that it draws with; None before the first.
      loading: version that it loads; None where it loads none.
      seen: seconds since 1970 of its last sign of life.
      ttl: seconds after which it counts for nothing.
    """

    host: str
    using: int | None
    loading: int | None
    seen: float
    ttl: float

    @property
    def versions(self) -> set[int]:
        return {version for version in (self.using, self.loading) if version is not None}


class PolicyReader(Policies):
    """A host's side.

    Attributes:
      using: version that it draws with; None before the first.
    """

    def __init__(self, run: Path, host: str = "", ttl: float = LEASE_SECONDS, clock: Callable[[], float] = time.time):
        super().__init__(run)
        self.using: int | None = None
        self._host = host or f"{socket.gethostname()}-{os.getpid()}"
        self._ttl, self._clock = ttl, clock
        self._loading: int | None = None

    def load(self, publication: Publication, abstract: Any) -> Any:
        """The weights, straight into the places that `abstract` says; the lease holds them until `use`.

        Args:
          publication: what `newest` gave.
          abstract: shapes, dtypes and shardings of this host's mesh.

        Raises:
          Gone: it was deleted meanwhile; ask for the newest again.
          DamagedCheckpoint: what was read is not what was written.
        """
        self.lease(publication)
        try:
            params = self.read(publication, abstract)
            check(publication, params)
            return params
        except BaseException:
            self.let_go()
            raise

    def lease(self, publication: Publication) -> None:
        """Nobody deletes a version from now on until `use` or `let_go`; raises Gone where it was deleted before."""
        self._loading = publication.version
        self.renew()
        # Looked at after the lease is there: what is announced now stays as long as the lease does.
        if publication.name not in self.names():
            self.let_go()
            raise Gone(f"version {publication.version} is not announced any more")

    def let_go(self) -> None:
        """Gives up the lease of what is not used yet."""
        self._loading = None
        self.renew()

    def use(self, version: int) -> None:
        """From now on this host draws with a version that it has loaded; the one before may be deleted."""
        self.using, self._loading = version, None
        self.renew()

    def renew(self) -> None:
        """A sign of life."""
        lease = Lease(self._host, self.using, self._loading, self._clock(), self._ttl)
        write_json(self._board / f"lease-{self._host}.json", asdict(lease))

    def leave(self) -> None:
        """Gives up the lease."""
        (self._board / f"lease-{self._host}.json").unlink(missing_ok=True)


def check(publication: Publication, params: Any) -> None:
    """Raises DamagedCheckpoint where weights are not those that were published; by all processes that hold them."""
    found = _by_path(jax.device_get(fingerprint(params)))
    wrong = [path for path, mark in publication.fingerprints.items() if found.get(path) != mark]
    if wrong or len(found) != len(publication.fingerprints):
        raise DamagedCheckpoint(f"version {publication.version}: {', '.join(wrong[:3])} is not as published")


def _numbers(name: str) -> tuple[int, int]:
    """Epoch and version of an announcement, by the name of its file."""
    epoch, version = name.removesuffix(".json").split("-")[1:]
    return int(epoch), int(version)


def leases(board: Path, now: float) -> list[Lease]:
    """Those that count at a time, of the hosts that are there."""
    found = []
    for path in board.glob("lease-*.json"):
        try:
            lease = Lease(**json.loads(path.read_text()))
        except FileNotFoundError:
            continue
        if now - lease.seen <= lease.ttl:
            found.append(lease)
    return found


def _by_path(marks: Any) -> dict[str, int]:
    leaves = jax.tree_util.tree_leaves_with_path(marks)
    return {jax.tree_util.keystr(path, simple=True, separator="."): int(np.asarray(mark)) for path, mark in leaves}
