"""Pieces: a text cut so that each is one control symbol or plain text, from token ids or from a text."""

import re
from collections.abc import Collection, Iterable, Iterator

from cwm_jax.text.streams import Speller
from cwm_jax.text.vocabulary import Vocabulary


def pieces_of_ids(
    vocabulary: Vocabulary, symbols: Collection[str], scored: Iterable[tuple[int, float]]
) -> Iterator[tuple[str, float]]:
    """The pieces that ids spell: each of `symbols` by its name, the plain text between them whole.

    Plain text that spells the name of a symbol comes as two pieces, so that no piece is taken for what it is not. A
    piece comes as soon as it is known to end.

    Args:
      scored: ids, each with its log-probability.

    Yields:
      A piece and its log-probability, the sum over its tokens.
    """
    texts: list[str] = []
    total = 0.0
    for piece, logprob in fragments_of_ids(vocabulary, symbols, scored):
        if piece not in symbols:
            texts.append(piece)
            total += logprob
            continue
        yield from _plain("".join(texts), total, symbols)
        texts.clear()
        total = 0.0
        yield piece, logprob
    yield from _plain("".join(texts), total, symbols)


def fragments_of_ids(
    vocabulary: Vocabulary, symbols: Collection[str], scored: Iterable[tuple[int, float]]
) -> Iterator[tuple[str, float]]:
    """As `pieces_of_ids`, but plain text as it comes, mostly token by token; no piece ends within a character."""
    names = {vocabulary.token_id(symbol): symbol for symbol in symbols}
    spell = Speller(vocabulary)
    total = 0.0  # of what has not come to a character yet
    for token, logprob in scored:
        if token in names:
            yield from _plain(spell.end(), total, symbols)
            yield names[token], logprob
            total = 0.0
            continue
        total += logprob
        if text := spell([token]):
            yield from _plain(text, total, symbols)
            total = 0.0
    yield from _plain(spell.end(), total, symbols)


def _plain(text: str, logprob: float, symbols: Collection[str]) -> Iterator[tuple[str, float]]:
    """Plain text, in two pieces where it could be taken for a symbol; nothing where there is none."""
    if text in symbols:
        yield from ((text[:1], 0.0), (text[1:], logprob))
    elif text:
        yield text, logprob


def pieces_of_text(symbols: Collection[str], text: str) -> list[str]:
    """The pieces of a text in which control symbols stand by their names."""
    pattern = re.compile("(" + "|".join(re.escape(symbol) for symbol in symbols) + ")")
    return [piece for piece in pattern.split(text) if piece]
