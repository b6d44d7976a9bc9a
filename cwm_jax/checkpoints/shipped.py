"""The model that comes with the project, which verbs ask where no other is named; experiments/small/ makes it."""

from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "experiments" / "small" / "small-cpu"


def shipped() -> Path:
    """The folder of its weights.

    Raises:
      FileNotFoundError: this copy of the project has none.
    """
    if not SHIPPED.exists():
        raise FileNotFoundError(f"{SHIPPED} is gone, the model of this project; restore it, or name a --checkpoint")
    return SHIPPED
