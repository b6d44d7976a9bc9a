"""What commands of a session come to."""

from dataclasses import dataclass
from typing import Literal

from cwm_jax.tracing import Frame

RETURN, EXCEPTION = "__return__", "__exception__"  # what is returned or raised, among the locals; pdb's names


class Refused(ValueError):
    """The command makes no sense here; the message says why, and nothing has changed."""


@dataclass(frozen=True)
class Stop:
    """Where and why a command ended.

    Attributes:
      why: `end` where the entry returned, `broken` where the prediction broke off before the command was done,
        `pause` where whoever watches stopped it.
      note: a sentence for people; may be empty.
      breakpoint: the number of the one that was hit.
    """

    why: Literal["step", "breakpoint", "end", "broken", "pause"]
    note: str = ""
    breakpoint: int | None = None


@dataclass(frozen=True)
class Parting:
    """What holding a session against the real run showed.

    Attributes:
      frames: how many were held against it.
      index: of the first that the real run does not have there; None where it has all.
      real: the frame that it has in its place; None where it had ended.
      changed: whether the user had changed something by then, so that the real run could not do the same.
      run: in one sentence how the real run ended.
    """

    frames: int
    index: int | None
    real: Frame | None
    changed: bool
    run: str
