"""Files that are whole or not there: a run may be killed at any point."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(path: str | os.PathLike, content: bytes | str) -> None:
    """Writes `content` beside `path` and moves it there, so that no reader and no later run sees half a file.

    Makes the folder where it is missing. Text is written as UTF-8.

    Raises:
      OSError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = own_part(path)
    try:
        with full_disk(path):
            part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def create_whole(path: Path, content: str) -> bool:
    """Makes a file that is whole, and on the disk, from the first moment on; False where there is one already.

    Of several who make one at once, on any machine, one succeeds.

    Raises:
      OSError: the disk is full.
    """
    part = own_part(path)
    try:
        with full_disk(path):
            part.write_text(content)
        sync(part)
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        sync(path.parent)
        return True
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Returns when a file, or what stands in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def own_part(path: Path) -> Path:
    """Where this thread writes what will be `path`: another, on any machine, may write the same at the same time."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def claim(folder: Path, settings: str) -> None:
    """Marks `folder`, which is made, as one of these settings: what is made in it goes on with no others.

    Raises:
      ValueError: it is marked with others.
    """
    mark = folder / "settings"
    if not mark.exists():
        write_whole(mark, settings)
    elif mark.read_text() != settings:
        raise ValueError(f"{folder} holds data of another configuration; name another folder, or delete this one")


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keeps `folder`, which is made, for this process alone until the context ends, however it ends.

    Raises:
      ValueError: another process has it.
      OSError: it cannot be made, or written.
    """
    with _lock_file(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(f"process {file.read()} works in {folder}; wait for it, or name another folder") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _lock_file(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / ".lock").open("a+")
    except OSError as error:
        told = f"{os.strerror(error.errno)}; name a folder that this user can make and write"
        raise OSError(error.errno, told, str(folder)) from None


@contextmanager
def full_disk(path: str | os.PathLike) -> Iterator[None]:
    """Has the error of a full disk name `path`, the space that is left and the fix.

    ArrayRecord, Orbax and TensorStore report it in errors of many types; here it is one.

    Raises:
      OSError: the work inside found no space, or no right to more of it.
    """
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None) or _number_in(str(error))
        if number not in _FULL:
            raise
        raise OSError(number, f"{os.strerror(number)}; {_make_room(path)}", str(path)) from error


def _number_in(message: str) -> int | None:
    """The `errno` of a full disk that an error's message tells of."""
    if "RESOURCE_EXHAUSTED" in message:
        return errno.ENOSPC
    return next((number for number in _FULL if os.strerror(number).lower() in message.lower()), None)


def _make_room(path: str | os.PathLike) -> str:
    """What to do when there is no space for `path`."""
    path = Path(path).absolute()
    folder = next(folder for folder in (path, *path.parents) if folder.exists())
    return (
        f"{shutil.disk_usage(folder).free / 2**20:,.1f} MiB are free there. Make room, or raise the limit, "
        "and give the same command again: it goes on from the last thing that was written whole"
    )


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
