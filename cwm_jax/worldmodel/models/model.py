"""A model: whatever goes on with a prompt, be it a checkpoint here or a server elsewhere."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from cwm_jax.tracing import Frame, Trace
from cwm_jax.tracing.told import Told


class CannotDo(ValueError):
    """What is asked of a model, this one has no way of doing; the message says why, and the way out."""


class Form(Protocol):
    """How a model reads and writes traces: `Compact` or `CwmText`.

    Attributes:
      control_symbols: pieces that are no plain text.
      frame_ends: symbols of which the first closes the frame under way.
    """

    control_symbols: tuple[str, ...]
    frame_ends: tuple[str, ...]

    def context(self, context: str) -> list[str]: ...

    def prefix(self, context: str, frames: Sequence[Frame]) -> list[str]: ...

    def frames(self, trace: Trace) -> list[str]: ...

    def told(self, context: str, pieces: Iterable[str], known: Sequence[Frame] = ()) -> Iterator[Told]: ...

    def event_indices(self, pieces: list[str]) -> list[int]: ...

    def trace(self, context: str, pieces: Sequence[str]) -> Trace: ...


@dataclass(frozen=True)
class Ask:
    """A prompt to go on from.

    Attributes:
      pieces: control symbols and plain text.
      max_tokens: of the answer.
      temperature, top_p, seed: how it is drawn; 0 takes the likeliest token.
      stop: each ends the answer: control symbols, or a text.
    """

    pieces: tuple[str, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question in words, to be thought about before it is answered.

    Attributes:
      system: the system message.
      user: the question.
      max_tokens: of thoughts and answer.
      temperature, top_p, seed: as in `Ask`.
    """

    system: str
    user: str
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Said:
    """An answer.

    Attributes:
      pieces: control symbols and plain text; of a question in words, the text behind the thoughts alone.
      tokens: how many it took, thoughts included.
      finish: `stop` at its end or at a stop, `length` where it was cut.
      logprobs: natural log-probability of each piece; empty where nobody tells.
      reason: why there is no answer; empty where there is one.
    """

    pieces: tuple[str, ...] = ()
    tokens: int = 0
    finish: Literal["stop", "length", ""] = ""
    logprobs: tuple[float, ...] = ()
    reason: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def confidence(self, symbols: Sequence[str]) -> float | None:
        """Probability of the last plain text, which in a whole trace is what the entry returned or raised."""
        if not self.logprobs:
            return None
        total, found = 0.0, False
        for piece, logprob in zip(reversed(self.pieces), reversed(self.logprobs)):
            if piece not in symbols:
                total, found = total + logprob, True
            elif found:
                break
        return math.exp(total) if found else None


class Forced(NamedTuple):
    """How a model takes a piece that it is given, all before it being true.

    Attributes:
      logprob: natural log-probability of the piece.
      first: whether greedy decoding would have said it; None where that is not known.
    """

    logprob: float
    first: bool | None


class Spoken(Protocol):
    """An answer while it is made: pieces with their log-probabilities, plain text as it comes.

    Attributes:
      finish: as in `Said`, once it has ended.
    """

    finish: Literal["stop", "length", ""]

    def __iter__(self) -> Iterator[tuple[str, float]]: ...


class Model(Protocol):
    """What goes on with prompts. All answers come in the order of what was asked, as they are asked for.

    Attributes:
      name: for people.
      subject: a folder of results is of one subject.
      identity: another one for other weights; what was answered under one is not asked again.
      form: how it reads and writes traces.
      longest: tokens that an answer has at most, whatever is asked for.
      tests: folder of the test sets that were recorded with its training data, if there are such.
    """

    name: str
    subject: str
    identity: str
    form: Form
    longest: int
    tests: Path | None

    def complete(self, asks: Sequence[Ask]) -> Iterator[Said]:
        """The answers.

        Raises:
          CannotDo: it cannot take such prompts.
        """

    def speak(self, asks: Sequence[Ask]) -> AbstractContextManager[Sequence[Spoken]]:
        """The answers while they are made, all of them together; leaving the context ends what still runs.

        Raises:
          CannotDo: as `complete`. ValueError: it cannot take one of the prompts, for what the message says.
        """

    def answer(self, questions: Sequence[Question]) -> Iterator[Said]:
        """The answers to questions in words.

        Raises:
          CannotDo: it does not talk.
        """

    def force(self, documents: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Iterator[list[Forced] | str]:
        """For each document, (pieces given, pieces to look at), how it takes each of the latter; a reason if it cannot.

        Raises:
          CannotDo: it does not tell probabilities of what it is given.
        """

    def count(self, text: str) -> int:
        """Tokens of a text; 0 where its vocabulary is not known here."""
