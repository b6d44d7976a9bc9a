"""Which model is asked where none is named."""

from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "experiments" / "small" / "small-cpu"  # comes with the project


def default_checkpoint(runs: Path = Path("runs")) -> Path:
    """The run under `runs` whose checkpoint was written last; where there is none, the model of the project.

    Raises:
      FileNotFoundError: neither is there.
    """
    found = [folder.parent for folder in Path(runs).glob("*/checkpoints") if any(folder.iterdir())]
    if found:
        return max(found, key=lambda run: (run / "checkpoints").stat().st_mtime)
    if not SHIPPED.exists():
        raise FileNotFoundError(
            f"no checkpoint under {runs}/, and {SHIPPED}, the model of this project, is gone; restore it, make a run "
            "with `make run`, or name one with --checkpoint"
        )
    return SHIPPED
