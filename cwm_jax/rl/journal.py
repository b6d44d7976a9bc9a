"""The turn journal: actions that were drawn, so that a host that is started again goes on with its episodes.

    journal/GROUP/MEMBER-…    one record of MessagePack for each action, in the order of turns

Only what the policy drew is kept, each action under a digest of the request that it answers, whose prompt is all that
was said before. Who goes on with a group plays its environments again, for real, with the actions that are known: as
long as they say the same, nothing is drawn; where one says something else, the policy draws on from there. So no
episode is of two environments, and a record that was torn in the middle only shortens what is known (our choice:
environments cannot be stored, and of a long episode the drawing is what is dear).
"""

import hashlib
import secrets
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import msgpack
import numpy as np

from cwm_jax.inference.request import Completion, Request, Token


class _Action(NamedTuple):
    """What was drawn for the request of a digest."""

    digest: bytes
    ids: list[int]
    logprobs: list[float]
    versions: list[int]
    finish: str


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

    def episode(self, uid: str, member: int) -> "EpisodeJournal":
        """That of a member of a group, with what is known from its lives before."""
        folder = self._folder / uid
        folder.mkdir(parents=True, exist_ok=True)
        known = max(map(_read, folder.glob(f"{member}-*")), key=len, default=[])
        return EpisodeJournal(self, folder / f"{member}-{secrets.token_hex(4)}", known)

    def forget(self, uid: str) -> None:
        """Deletes what is kept of a group."""
        shutil.rmtree(self._folder / uid, ignore_errors=True)


class EpisodeJournal:
    """The actions of one life of an episode; made by `Journal.episode`."""

    def __init__(self, journal: Journal, path: Path, known: list[_Action]):
        self._journal, self._path, self._known = journal, path, iter(known)

    def draw(self, request: Request) -> Generator[Request, Completion, Completion]:
        """The answer to a request, which is yielded only where it is not known; and keeps it.

        Raises:
          OSError: the disk is full.
        """
        digest, action = _digest(request), next(self._known, None)
        if action is not None and action.digest == digest:
            answer = Completion(request, tuple(map(Token, *action[1:4])), action.finish)
            self._journal.replayed += len(answer.tokens)
        else:
            self._known = iter(())  # what followed was said to something else
            answer = yield request
        drawn = [[token.logprob for token in answer.tokens], [token.version for token in answer.tokens]]
        with open(self._path, "ab") as file:
            file.write(msgpack.packb(_Action(digest, answer.ids, *drawn, answer.finish)))
        return answer


def _digest(request: Request) -> bytes:
    said = np.asarray([request.max_tokens, *request.prompt], "<i4")
    return hashlib.blake2b(said.tobytes(), digest_size=16).digest()


def _read(path: Path) -> list[_Action]:
    """The records of a file as far as they are whole."""
    reader, found = msgpack.Unpacker(), []
    reader.feed(path.read_bytes())
    try:
        for record in reader:
            found.append(_Action(*record))
    except (ValueError, TypeError, msgpack.UnpackException):
        pass  # torn by whatever ended its writer
    return found
