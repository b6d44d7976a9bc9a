"""Where Python files lie: folders, installed packages, source distributions, the standard library."""

import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cwm_jax.report.progress import progress
from cwm_jax.repos import Builder, NotBuilt, is_pinned

STDLIB = "stdlib"
_SKIPPED = {"site-packages", "__pycache__", "node_modules", "build", "dist", "test", "tests", "idle_test", "lib2to3"}
_DOWNLOADS = 4  # at once


@dataclass(frozen=True)
class Place:
    """Files of one origin.

    Attributes:
      name: what the names of its files start with; empty for a folder or a file that was named by its path.
      root: a folder or a file.
    """

    name: str
    root: Path

    def files(self) -> list[Path]:
        """The Python files, in a fixed order; those of tests are left out."""
        if self.root.is_file():
            return [self.root]
        found = self.root.rglob("*.py")
        return sorted(path for path in found if _SKIPPED.isdisjoint(path.relative_to(self.root).parts))

    def package_of(self, file: Path) -> tuple[str, str]:
        """The folder from which its package is imported, and the package's dotted name; both empty if it has none."""
        folders = []
        folder = file.parent
        while (folder / "__init__.py").exists():
            folders.insert(0, folder.name)
            folder = folder.parent
        if self.name == STDLIB:
            folder = self.root
            folders = list(file.relative_to(folder).parts[:-1])
        return (str(folder.resolve()), ".".join(folders)) if folders else ("", "")

    def name_of(self, file: Path) -> str:
        """What a trace says of the file: nothing of this machine."""
        name = str(file.relative_to(self.root)) if self.root.is_dir() else file.name
        return f"{self.name}/{name}" if self.name else name

    def mark_of(self, file: Path) -> str:
        """A text that is another for another name or other bytes; a file that cannot be read counts as empty."""
        try:
            content = file.read_bytes()
        except OSError:
            content = b""  # counted when it is its turn
        return f"{self.name_of(file)} {hashlib.sha256(content).hexdigest()}"


def find_files(names: Sequence[str], folder: Path, field: str, limit: int | None = None) -> list[tuple[Place, Path]]:
    """The Python files of what these names stand for, at most `limit`; arguments and errors as for `find_places`.

    Raises:
      FileNotFoundError: there is none.
    """
    files = [(place, file) for place in find_places(names, folder, field) for file in place.files()][:limit]
    if not files:
        raise FileNotFoundError(f"{field}={list(names)} hold no Python file beside those of tests")
    return files


def find_places(names: Iterable[str], folder: Path, field: str) -> list[Place]:
    """What these names stand for, in their order.

    Args:
      names: paths, pinned source distributions, installed packages, or `stdlib`.
      folder: source distributions are kept in its `sdists`.
      field: that holds the names, for errors.

    Raises:
      FileNotFoundError: there is nothing of a name.
      NotBuilt: a source distribution cannot be downloaded.
    """
    names = list(names)
    pinned = [name for name in names if not Path(name).exists() and is_pinned(name)]
    places = [Place(name, _sdist(name, folder)) if name in pinned else _here(name, field) for name in names]
    _download(pinned, folder, field)
    return places


def _here(name: str, field: str) -> Place:
    if name == STDLIB:
        return Place(STDLIB, Path(sysconfig.get_path("stdlib")))
    if (path := Path(name)).exists():
        return Place("", path)
    if name.isidentifier() and (spec := importlib.util.find_spec(name)) and spec.origin:
        return Place(name, Path((spec.submodule_search_locations or [spec.origin])[0]))
    raise FileNotFoundError(
        f"{field} names {name!r}: no folder, no file, no installed package, and no source distribution, which "
        "is written as NAME==VERSION"
    )


def _sdist(name: str, folder: Path) -> Path:
    return Path(folder) / "sdists" / name


def _download(names: list[str], folder: Path, field: str) -> None:
    missing = [name for name in names if not _sdist(name, folder).exists()]
    if not missing:
        return
    there = len(names) - len(missing)
    with progress("downloading", len(names), unit="sdists", start=there) as bar, ThreadPoolExecutor(_DOWNLOADS) as pool:
        running = [pool.submit(_download_one, name, _sdist(name, folder), field) for name in missing]
        for number, one in enumerate(running, start=there + 1):
            one.result()
            bar.update(number)


def _download_one(name: str, source: Path, field: str) -> None:
    try:
        Builder().download(name, source)
    except NotBuilt as error:
        raise NotBuilt(f"{field} names {name!r}: {error}\n{error.detail}", error.detail) from error
