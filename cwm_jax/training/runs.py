"""The runs of a folder."""

from pathlib import Path


def newest_run(root: Path = Path("runs")) -> Path:
    """The run under `root` whose checkpoint was written last.

    Raises:
      FileNotFoundError: there is none.
    """
    found = [folder.parent for folder in Path(root).glob("*/checkpoints") if any(folder.iterdir())]
    if not found:
        raise FileNotFoundError(f"no checkpoint under {root}/; make one with `make run`, or name one with --checkpoint")
    return max(found, key=lambda run: (run / "checkpoints").stat().st_mtime)
