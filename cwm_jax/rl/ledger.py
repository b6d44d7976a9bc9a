"""The ledger: which groups the learner took for each step, written before the step is made.

A learner that is started again from a checkpoint of step s reads the entries after s and takes the very same groups in
the same order, so it comes to the same bits. What the ledger names is taken for ever; nothing is trained on twice.
"""

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cwm_jax.files import full_disk


@dataclass(frozen=True)
class Entry:
    """What was decided while groups were gathered for a step.

    Attributes:
      step: the first is 1.
      consumed: uids of the groups that it learns from, in order; empty where it is not decided yet.
      rejected: by uid why others were passed over.
      version: of the newest weights when that was decided; what counts as stale follows from it.
    """

    step: int
    consumed: tuple[str, ...] = ()
    rejected: dict[str, str] = field(default_factory=dict)
    version: int = 0


class Ledger:
    """The ledger of a run; one learner writes it, anybody reads it.

    Attributes:
      entries: all, in order.
      taken: uids of all groups that were consumed or rejected.
      steps: by number, the entries that say what a step learns from.
      last: the greatest of these numbers; 0 where there is none.
    """

    def __init__(self, path: Path):
        """Reads what is there; half a line, which a killed writer left, is none."""
        self._path = Path(path)
        self.entries: list[Entry] = []
        self.taken: set[str] = set()
        self.steps: dict[int, Entry] = {}
        self.last = 0
        self._whole = 0  # bytes of whole lines
        self.refresh()

    @property
    def reasons(self) -> Counter[str]:
        """How many groups were rejected for each reason."""
        return Counter(reason for entry in self.entries for reason in entry.rejected.values())

    @property
    def consumed(self) -> int:
        """How many groups were learnt from."""
        return sum(len(entry.consumed) for entry in self.entries)

    def refresh(self) -> None:
        """Reads what was added since; cheap where nothing was."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._whole)
                lines = file.read()
        except FileNotFoundError:
            return
        whole = lines.rfind(b"\n") + 1
        self._whole += whole
        for line in lines[:whole].splitlines():
            told = json.loads(line)
            self._add(Entry(**told | {"consumed": tuple(told["consumed"])}))

    def append(self, entry: Entry) -> None:
        """Adds an entry; it is on disk when this returns.

        Raises:
          ValueError: it is not of the step after the last that is decided, or names a group that was taken before.
          OSError: the disk is full.
        """
        expected = self.last + 1
        if entry.step != expected:
            raise ValueError(f"the next entry of {self._path} is of step {expected}, not {entry.step}")
        if again := self.taken & {*entry.consumed, *entry.rejected}:
            raise ValueError(f"group {min(again)} was taken before; each is taken once")
        line = json.dumps(asdict(entry)) + "\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with full_disk(self._path), self._path.open("ab") as file:
            file.truncate(self._whole)  # of half a line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._whole += len(line.encode())
        self._add(entry)

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        if entry.consumed:
            self.steps[entry.step] = entry
            self.last = max(self.last, entry.step)
        self.taken.update(entry.consumed, entry.rejected)
