"""The spool: finished groups on disk, from samplers to the learner, and to whoever else wants them.

A group is two files: its trajectories in an ArrayRecord file, and then a manifest, which appears whole or not at all
and at most once, however many samplers made the group. A truncated ArrayRecord file opens as an empty one, so readers
trust only what has a manifest with the same count and hash.
"""

import json
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cwm_jax.files import create_whole, digest_of, sync
from cwm_jax.records import read_records, write_records
from cwm_jax.rl.trajectory import Group, from_bytes, to_bytes

_RECORDS = ".array_record"
_TICK = 100_000_000  # ns; clocks of file systems are finer, those of network ones may be a little off


class DamagedGroup(ValueError):
    """The records of a sealed group are not those that were sealed."""


@dataclass(frozen=True)
class Sealed:
    """What is told of a group beside its records.

    Attributes:
      uid, task, worker, attempt: as in `Group`.
      records: name of the file of its trajectories.
      count: of them.
      sha256: of that file.
      tokens: of agents, in all.
      versions: oldest and newest weights that drew one; None where there is none.
      at: when it was sealed, nanoseconds since 1970; finer than the clocks of file systems, so that what one process
        seals has an order.
    """

    uid: str
    task: str
    worker: str
    attempt: int
    records: str
    count: int
    sha256: str
    tokens: int
    versions: tuple[int, int] | None
    at: int = 0


class Spool:
    """A folder of sealed groups; any number of processes, on any machine, seal and read."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, Sealed] = {}
        self._changed = 0  # when the folder had last changed at the last look, ns; 0: nothing to rely on

    def seal(self, group: Group) -> bool:
        """Stores a group whole; False, and nothing is stored, where it is there already.

        Raises:
          OSError: the disk is full.
        """
        name = f"{group.uid}.{secrets.token_hex(4)}{_RECORDS}"
        path, manifest = self.folder / name, self.folder / f"{group.uid}.json"
        if manifest.exists():
            return False
        write_records(path, map(to_bytes, group.trajectories), "group_size:1,zstd:3")
        sync(path)
        tokens = sum(one.agent_tokens for one in group.trajectories)
        sealed = Sealed(
            group.uid, group.task, group.worker, group.attempt, name, len(group.trajectories), digest_of(path), tokens,
            group.versions, time.time_ns(),
        )  # fmt: skip
        if not create_whole(manifest, json.dumps(asdict(sealed))):
            path.unlink()
            return False
        return True

    def sealed(self) -> dict[str, Sealed]:
        """All groups that are there, by uid; those that appeared since the last call stand last."""
        changed = self.folder.stat().st_mtime_ns
        if changed == self._changed:
            return dict(self._known)
        # What changes again within a tick of the file system's clock leaves no trace: only an old change is relied on.
        self._changed = changed if time.time_ns() - changed > _TICK else 0
        present = {name.removesuffix(".json"): name for name in os.listdir(self.folder) if name.endswith(".json")}
        for uid in self._known.keys() - present.keys():
            del self._known[uid]
        new = []
        for uid in present.keys() - self._known.keys():
            try:
                told = json.loads((self.folder / present[uid]).read_text())
            except FileNotFoundError:
                continue  # it was deleted just now
            new.append(Sealed(**told | {"versions": tuple(told["versions"]) if told["versions"] else None}))
        self._known |= {one.uid: one for one in sorted(new, key=lambda one: (one.at, one.uid))}
        return dict(self._known)

    def read(self, sealed: Sealed) -> Group:
        """The group.

        Raises:
          DamagedGroup: its records are gone, cut off or changed.
        """
        path = self.folder / sealed.records
        try:
            if (found := digest_of(path)) != sealed.sha256:
                raise ValueError(f"{path} is damaged: its sha256 is {found}, {sealed.sha256} was sealed")
            trajectories = tuple(map(from_bytes, read_records(path, sealed.count)))
        except (OSError, ValueError) as error:
            raise DamagedGroup(str(error)) from None
        return Group(sealed.uid, sealed.task, trajectories, sealed.worker, sealed.attempt)

    def delete(self, uids: Iterable[str]) -> None:
        """Makes room: groups that nobody needs any more. The ledger knows that they were there."""
        known = self.sealed()
        for uid in uids:
            if (sealed := known.get(uid)) is not None:
                (self.folder / f"{uid}.json").unlink(missing_ok=True)
                (self.folder / sealed.records).unlink(missing_ok=True)
