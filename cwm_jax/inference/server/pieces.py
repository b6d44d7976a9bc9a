"""An answer as text, in the pieces in which its tokens come; what they say together does not depend on the pieces."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cwm_jax.inference.request import Finish, Reason, Scored, Token
from cwm_jax.inference.server.thread import Answers
from cwm_jax.text.special_tokens import STOP_TOKENS
from cwm_jax.text.streams import Speller, StopStrings
from cwm_jax.text.vocabulary import Vocabulary


class Piece(NamedTuple):
    """Some more of an answer.

    Attributes:
      text: what it says; it may lag behind the tokens.
      tokens: those that it came with, the one that ended the answer included.
      finish: why the answer is over, if it is.
      stop: the stop string or the caller's id that ended it.
      prompt_logprobs: with the end, if they were asked for.
    """

    text: str = ""
    tokens: tuple[Token, ...] = ()
    finish: Reason | None = None
    stop: str | int | None = None
    prompt_logprobs: tuple[Scored | None, ...] = ()


def joined(pieces: Sequence[Piece]) -> Piece:
    """One piece for several that follow each other."""
    text = "".join(piece.text for piece in pieces)
    tokens = tuple(token for piece in pieces for token in piece.tokens)
    return Piece(text, tokens, *pieces[-1][2:]) if pieces else Piece()


@dataclass(frozen=True)
class Ends:
    """What ends answers.

    Attributes:
      own: ids with which the model ends.
      ids: those of the caller.
      strings: those of the caller; the text ends before them.
      hidden: ids that the text leaves out.
    """

    own: tuple[int, ...]
    ids: tuple[int, ...] = ()
    strings: tuple[str, ...] = ()
    hidden: frozenset[int] = frozenset()


class Spoken:
    """One answer: events in, pieces out.

    Attributes:
      over: whether it has ended; what comes later is not part of it.
    """

    def __init__(self, vocabulary: Vocabulary, ends: Ends):
        self._ends, self._speller, self._stops = ends, Speller(vocabulary, ends.hidden), StopStrings(ends.strings)
        self._stop: str | int | None = None
        self.over = False

    def __call__(self, events: Sequence[Token | Finish]) -> Piece:
        """What these events add; the scores of the prompt come with the last one, however the answer ended."""
        text, tokens, finish, scores = "", [], None, ()
        for event in events:
            if isinstance(event, Finish):
                text += self._stops(self._speller.end()) + self._stops.end()
                finish, scores = event.reason, event.prompt_logprobs
            elif self.over:
                continue
            else:
                tokens.append(event)
                text += self._heard(event.id)
            if self._stops.found is not None:
                finish, self._stop = "stop", self._stops.found
            self.over |= finish is not None
        return Piece(text, tuple(tokens), finish, self._stop, scores)

    def _heard(self, token: int) -> str:
        """What a token lets be said."""
        if token not in self._ends.own and token not in self._ends.ids:
            return self._stops(self._speller([token]))
        if token in self._ends.ids:
            self._stop = token
        return ""


async def pieces(answers: Answers, spoken: Sequence[Spoken]) -> AsyncIterator[tuple[int, Piece]]:
    """The pieces of all answers as they come, each with the index of its answer."""
    async for events in answers:
        mine: dict[int, list[Token | Finish]] = {}
        for index, event in events:
            mine.setdefault(index, []).append(event)
        for index, one in mine.items():
            before = spoken[index].over
            piece = spoken[index](one)
            if not before or piece.prompt_logprobs:
                yield index, piece
            if spoken[index].over and not before and not isinstance(one[-1], Finish):
                answers.cancel(index)


def own_ends(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Ids with which a model of this vocabulary ends what it says."""
    return tuple(vocabulary.token_id(name) for name in STOP_TOKENS if name in vocabulary.control_tokens)


def control_ids(vocabulary: Vocabulary) -> frozenset[int]:
    """Ids of control tokens."""
    return frozenset(map(vocabulary.token_id, vocabulary.control_tokens))


def spell(vocabulary: Vocabulary, token: int, by_id: bool) -> str:
    """What a token is called beside its log-probability."""
    return f"token_id:{token}" if by_id else vocabulary.decode([token])
