"""Pieces: a text cut so that each is one control symbol or plain text, from token ids or from a text."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from cwm_jax.text.vocabulary import Vocabulary


class Piece(NamedTuple):
    """One piece, and the tokens that spell it.

    Attributes:
      text: the name of a control symbol, or plain text.
      tokens: indices of its tokens.
    """

    text: str
    tokens: range


def pieces_of_ids(vocabulary: Vocabulary, symbols: Collection[str], ids: Sequence[int]) -> Iterator[Piece]:
    """The pieces that ids spell: each of `symbols` by its name, the plain text between them whole.

    Plain text that spells the name of a symbol comes as two pieces, so that no piece is taken for what it is not.
    """
    names = {vocabulary.token_id(symbol): symbol for symbol in symbols}
    start = 0
    for index, token in enumerate([*ids, None]):
        if token is not None and token not in names:
            continue
        if start < index:
            text = vocabulary.decode(ids[start:index])
            if text in symbols:
                yield from (Piece(text[:1], range(start, start)), Piece(text[1:], range(start, index)))
            else:
                yield Piece(text, range(start, index))
        if token is not None:
            yield Piece(names[token], range(index, index + 1))
        start = index + 1


def pieces_of_text(symbols: Collection[str], text: str) -> list[str]:
    """The pieces of a text in which control symbols stand by their names."""
    pattern = re.compile("(" + "|".join(re.escape(symbol) for symbol in symbols) + ")")
    return [piece for piece in pattern.split(text) if piece]
