"""Builds a project: its source, and a virtual environment in which it is installed together with pytest.

Download and build run outside the sandbox, as pip does them: they need the package index, and a source distribution's
build backend runs already when pip asks for its name. Only a time limit holds them. The tests run inside.
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

_PINNED = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+")
_MOST_BYTES = 256 << 20  # of an unpacked source distribution: more is no small project, or a bomb
_NOT_SOURCE = shutil.ignore_patterns("__pycache__", ".venv", ".tox", "node_modules")


class NotBuilt(RuntimeError):
    """A project cannot be built; the message is a reason that can be counted.

    Attributes:
      detail: what pip or the system had to say, for people.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.detail = detail


@dataclass(frozen=True)
class Build:
    """A project that is ready to run.

    Attributes:
      name: such as `inflection==0.5.1`, or the name of its folder.
      source: its files, as they came.
      environment: the virtual environment in which it is installed.
    """

    name: str
    source: Path
    environment: Path

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"


@dataclass(frozen=True)
class Builder:
    """Makes `Build`s.

    Attributes:
      requirements: what the tests need besides the project; pytest among it.
      pip: further arguments of `pip install`, such as `--no-index`.
      wall_seconds: of the download and of the build, each.
    """

    requirements: tuple[str, ...] = ("pytest==9.2.0",)
    pip: tuple[str, ...] = ()
    wall_seconds: float = 300.0

    def build(self, project: str, folder: Path) -> Build:
        """The project, built in `folder`, or found there as an earlier call left it.

        Args:
          project: `NAME==VERSION`, whose source distribution pip downloads, the path of an unpacked one, or
            `PATH@REVISION`, a revision of a git repository.
          folder: new, or of an earlier build of the same project.

        Raises:
          ValueError: `project` is none of these; or the folder holds another one.
          NotBuilt: it cannot be downloaded or built.
        """
        folder, name = Path(folder).resolve(), project_name(project)
        built, finished = Build(name, folder / "source", folder / "environment"), folder / "built"
        if finished.exists():
            if finished.read_text() != name:
                raise ValueError(f"{folder} holds {finished.read_text()}, not {name}; name another folder")
            return built
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if Path(project).is_dir():
            shutil.copytree(project, built.source, symlinks=True, ignore=_NOT_SOURCE)
        elif is_pinned(project):
            self.download(project, built.source)
        else:
            repository, _, revision = project.rpartition("@")
            _check_out(Path(repository), revision, built.source)
        _show_to_everyone(built.source)
        self._install(built)
        finished.write_text(name)
        return built

    def download(self, project: str, source: Path) -> None:
        """Unpacks the source distribution of `NAME==VERSION` as the folder `source`.

        Raises:
          NotBuilt: it cannot be downloaded or unpacked.
        """
        source.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            words = ["download", "--no-deps", "--no-binary", project.partition("==")[0], "--dest", folder, project]
            self._pip(words, "download failed")
            _unpack(next(Path(folder).iterdir()), source)

    def _install(self, built: Build) -> None:
        venv.create(built.environment, with_pip=False, symlinks=True)
        with tempfile.TemporaryDirectory() as folder:  # a build leaves its products in the source
            copy = shutil.copytree(built.source, Path(folder) / built.source.name, symlinks=True)
            python = ["--python", str(built.python)]
            self._pip([*python, "install", *self.pip, str(copy), *self.requirements], "build failed")

    def _pip(self, words: list[str], reason: str) -> None:
        argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input", *words]
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            _, errors = process.communicate(timeout=self.wall_seconds)
        except subprocess.TimeoutExpired:
            raise NotBuilt(f"{reason}: too slow", f"it took more than {self.wall_seconds} seconds") from None
        finally:
            if process.returncode is None:  # the build backend runs in the same group
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        if process.returncode:
            raise NotBuilt(reason, errors.decode(errors="replace").strip())


def is_pinned(project: str) -> bool:
    """Whether it names a source distribution, as `NAME==VERSION`."""
    return bool(_PINNED.fullmatch(project))


def project_name(project: str) -> str:
    """What a project is called: `NAME==VERSION`, the name of its folder, or that with `@REVISION`.

    Raises:
      ValueError: it is none of these.
    """
    repository, _, revision = project.rpartition("@")
    if Path(project).is_dir():
        return Path(project).resolve().name
    if is_pinned(project):
        return project
    if repository and Path(repository).is_dir():
        return f"{Path(repository).resolve().name}@{revision.replace('/', '-')}"
    raise ValueError(f"project={project!r} is no folder; write PATH, PATH@REVISION or NAME==VERSION")


def _unpack(archive: Path, source: Path) -> None:
    """Unpacks a source distribution, whose one folder becomes `source`."""
    try:
        with tarfile.open(archive) as tar, tempfile.TemporaryDirectory(dir=source.parent) as folder:
            if sum(member.size for member in tar) > _MOST_BYTES:
                raise NotBuilt("source distribution too large", f"more than {_MOST_BYTES >> 20} MiB")
            tar.extractall(folder, filter="data")
            (top,) = Path(folder).iterdir()
            top.rename(source)
    except (tarfile.TarError, ValueError, OSError) as error:
        raise NotBuilt("source distribution cannot be unpacked", f"{archive.name}: {error}") from error


def _check_out(repository: Path, revision: str, source: Path) -> None:
    """Unpacks a revision of a git repository as the folder `source`."""
    words = ["git", "-C", str(repository), "archive", "--format=tar", revision]
    done = subprocess.run(words, capture_output=True)
    if done.returncode:
        raise NotBuilt("no such revision", f"{repository}@{revision}: {done.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        tar.extractall(source, filter="data")


def _show_to_everyone(folder: Path) -> None:
    """Lets the user that the sandbox makes up read the files."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))
