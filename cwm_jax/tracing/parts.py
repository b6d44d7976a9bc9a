"""What every source of traces gives: parts, each of which one worker records by itself."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cwm_jax.components import plain
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.store import Stored


class Found(NamedTuple):
    """A trace that a source gives, and what tells whether there is another like it.

    Attributes:
      stored: the trace.
      own: the source of the function or program itself, without what it merely needs; near duplicates are found by it.
      inputs: what decides the trace besides its context.
    """

    stored: Stored
    own: str
    inputs: tuple[str, ...] = ()


class Part(Protocol):
    """About half a minute of work, which is what a killed worker loses. Pickles.

    Attributes:
      mark: a text, other for parts that other traces come of: its source's settings, and the bytes that are read.
    """

    mark: str

    def record(self, isolation: Isolation, dropped: Counter) -> Iterator[Found]:
        """The traces, always the same ones in the same order; counts in `dropped`, by reason, what is left out."""


def settings_of(source: Any, place: str) -> str:
    """The settings of a source, but for the field that says where it reads: the part of a mark that all parts share."""
    return str({name: value for name, value in plain(source).items() if name != place})


class Source(Protocol):
    """Where programs come from."""

    def parts(self, folder: Path, limit: int | None = None) -> list[Part]:
        """The work.

        Args:
          folder: where the source may keep what it downloads and builds.
          limit: files, projects or problems that are read, at most.

        Raises:
          FileNotFoundError: what it reads is not there.
        """

    def names(self) -> tuple[str, ...]:
        """What a datasheet says of where it reads; nothing of this machine."""
