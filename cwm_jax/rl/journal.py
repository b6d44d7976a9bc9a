"""The turn journal: actions that were drawn, so that whoever goes on with the group of a host that died has them.

    journal/GROUP/MEMBER-…    one record of MessagePack for each action, in the order of turns

Only what the policy drew is kept, each action under a digest of the request that it answers. Who goes on plays the
environments again, for real, with the actions that are known: as long as they say the same, nothing is drawn; where one
says something else, the policy draws on from there. So no episode is of two environments, and a record that is torn or
damaged only shortens what is known (our choice: environments cannot be stored, and of a long episode the drawing is
what is dear). A host that is behind may go on with actions of newer weights than its own.
"""

import hashlib
import secrets
import shutil
import time
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgpack
import numpy as np

from cwm_jax.inference.request import Completion, Request, Token

_NO_RECORDS = (OSError, ValueError, TypeError, msgpack.UnpackException)  # what comes of reading anything else


class _Action(NamedTuple):
    """What was drawn for the request of a digest."""

    digest: bytes
    ids: list[int]
    logprobs: list[float]
    versions: list[int]
    finish: str

    @property
    def check(self) -> bytes:
        return hashlib.blake2b(msgpack.packb(self), digest_size=8).digest()


class Journal:
    """The actions of groups under way.

    Args:
      folder: where they are; the hosts of a run share it.

    Attributes:
      replayed: tokens that did not have to be drawn again.
    """

    def __init__(self, folder: Path):
        self._folder = Path(folder)
        self.replayed = 0

    def episode(self, uid: str, member: int, again: bool) -> "EpisodeJournal":
        """That of a member of a group.

        Args:
          uid: of the group.
          member: its number there.
          again: whether the group was begun before, so that something may be known.
        """
        folder, known = self._folder / uid, []
        if again:
            for life in _lives(folder, member):
                known = max(life, known, key=len)  # of the longest the newest
        return EpisodeJournal(self, folder / f"{member}-{time.time_ns():020d}-{secrets.token_hex(4)}", known)

    def forget(self, uid: str) -> None:
        """Deletes what is kept of a group."""
        shutil.rmtree(self._folder / uid, ignore_errors=True)

    def sweep(self, done: Container[str]) -> None:
        """Deletes what is kept of groups that are done, whose hosts died before they could."""
        for folder in self._folder.glob("*"):
            if folder.name in done:
                self.forget(folder.name)


class EpisodeJournal:
    """The actions of one life of an episode; made by `Journal.episode`."""

    def __init__(self, journal: Journal, path: Path, known: list[_Action]):
        self._journal, self._path, self._known = journal, path, iter(known)
        self._begun = False

    def known(self, request: Request) -> Completion | None:
        """The answer of a life before."""
        action = next(self._known, None)
        if action is None or action.digest != _digest(request):
            self._known = iter(())  # what followed was said to something else
            return None
        self._journal.replayed += len(action.ids)
        return Completion(request, tuple(map(Token, *action[1:4])), action.finish)

    def keep(self, answer: Completion) -> None:
        """Keeps an answer; it is the system's at once, whatever becomes of this process.

        Raises:
          OSError: the disk is full, or somebody else has sealed the group.
        """
        drawn = [token.logprob for token in answer.tokens], [token.version for token in answer.tokens]
        action = _Action(_digest(answer.request), answer.ids, *drawn, answer.finish)
        if not self._begun:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._begun = True
        with open(self._path, "ab") as file:
            file.write(msgpack.packb([*action, action.check]))


def _digest(request: Request) -> bytes:
    said = np.asarray([request.max_tokens, *request.prompt], "<i4")
    return hashlib.blake2b(said.tobytes(), digest_size=16).digest()


def _lives(folder: Path, member: int) -> Iterator[list[_Action]]:
    """What each life of a member came to, in the order in which they began."""
    with suppress(OSError):  # the group was sealed just now
        for path in sorted(folder.glob(f"{member}-*")):
            yield _read(path)


def _read(path: Path) -> list[_Action]:
    """The records of a file as far as they are whole."""
    reader, found = msgpack.Unpacker(), []
    try:
        reader.feed(path.read_bytes())
        for *fields, check in reader:
            action = _Action(*fields)
            if action.check != check:
                break
            found.append(action)
    except _NO_RECORDS:
        pass  # torn by whatever ended its writer, or gone
    return found
