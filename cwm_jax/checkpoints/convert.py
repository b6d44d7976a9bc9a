"""The `convert` verb: weights from one form to another, a layer at a time."""

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from cwm_jax import config
from cwm_jax.checkpoints.dcp import DcpReader
from cwm_jax.checkpoints.huggingface import HuggingFaceReader, write_huggingface
from cwm_jax.checkpoints.weights import Part, Reader, WeightsReader, write_weights
from cwm_jax.files import write_json
from cwm_jax.model.transformer import ModelConfig
from cwm_jax.report.progress import progress

RELEASED = Path("experiments/models/cwm_32b.gin")
_WRITERS = {"orbax": write_weights, "hf": write_huggingface}
_SOURCE = "source.json"


def main(argv: list[str]) -> int:
    """Runs `convert` with these arguments; 2 for a bad call or a bad source."""
    files, overrides, rest = config.split_gin_flags(argv)
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax convert",
        description="Convert weights a layer at a time; a call that was interrupted goes on when made again.",
        epilog=f"--gin_file=F: for --from dcp the shape of the model; default: {RELEASED}.",
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="folder to read")
    parser.add_argument("destination", metavar="DST", type=Path, help="folder to make")
    parser.add_argument("--from", dest="form", choices=("hf", "dcp", "orbax"), required=True)
    parser.add_argument("--to", choices=tuple(_WRITERS), required=True)
    arguments = parser.parse_args(rest)
    if (files or overrides) and arguments.form != "dcp":
        parser.error(f"--gin_file and --gin.… belong to --from dcp; --from {arguments.form} reads the shape itself")
    reader: Reader
    if arguments.form == "hf":
        reader = HuggingFaceReader(arguments.source)
    elif arguments.form == "dcp":
        reader = DcpReader(arguments.source, config.load(files or [str(RELEASED)], overrides, ModelConfig))
    else:
        reader = WeightsReader(arguments.source)
    convert(reader, arguments.destination, arguments.to, _fingerprint(arguments.source))
    index = reader.index
    print(f"{index.parameters:,} parameters of {index.dtype} in {arguments.destination}")
    return 0


def convert(reader: Reader, destination: Path, to: str, fingerprint: str) -> None:
    """Writes all that `reader` gives to a new folder; what was interrupted goes on, what fails leaves nothing.

    Args:
      reader: where the weights come from.
      destination: the folder to make; until it is whole it is called `.NAME.partial`.
      to: `orbax` or `hf`.
      fingerprint: tells one source from another.

    Raises:
      ValueError: `destination` exists, or a tensor is damaged; the message names it.
    """
    destination = Path(destination)
    if destination.exists():
        raise ValueError(f"{destination} exists; name a new folder or remove it")
    partial = destination.with_name(f".{destination.name}.partial")
    source = {"fingerprint": fingerprint, "to": to}
    if partial.exists() and not _same(partial / _SOURCE, source):
        shutil.rmtree(partial)
    write_json(partial / _SOURCE, source)
    parts = len(reader.index.parts())
    try:
        with progress(f"converting to {to}", parts, unit="parts") as bar:
            done = 0

            def advance() -> None:
                nonlocal done
                done += 1
                bar.update(done)

            write: Callable = _WRITERS[to]
            write(partial, reader.index, _checked(reader), advance)
    except Exception:
        shutil.rmtree(partial)
        raise
    (partial / _SOURCE).unlink()
    partial.rename(destination)


def _checked(reader: Reader) -> Callable[[str], Part]:
    """`reader.read`, its result held against the index: a wrong array would be found only when it is used."""
    shapes = reader.index.parts()

    def read(name: str) -> Part:
        part = reader.read(name)
        for leaf, shape in shapes[name].items():
            if part[leaf].shape != shape or part[leaf].dtype != reader.index.dtype:
                raise ValueError(f"{name}/{leaf} is {part[leaf].dtype} {part[leaf].shape}; expected {shape}")
        return part

    return read


def _same(path: Path, wanted: dict[str, str]) -> bool:
    try:
        return json.loads(path.read_text()) == wanted
    except (OSError, ValueError):
        return False


def _fingerprint(source: Path) -> str:
    """Path, sizes and times of all files of a source."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    lines = [f"{path.absolute()} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
