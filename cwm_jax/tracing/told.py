"""A frame that is being spelled: what it says, and which pieces say it."""

from collections.abc import Sequence
from typing import NamedTuple

from cwm_jax.tracing.trace import Frame


class Told(NamedTuple):
    """A frame, and where it is spelled.

    Attributes:
      frame: the frame; it has a line number.
      head: indices of the pieces that say which event and which line.
      values: by name the indices of the pieces of each value that was spelled for this frame; "" is a frame's own
        value (what is returned or raised). A local that is not named there is unchanged.
    """

    frame: Frame
    head: Sequence[int]
    values: dict[str, range]
