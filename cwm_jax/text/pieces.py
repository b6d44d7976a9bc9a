"""Pieces: a text cut so that each is one control symbol or plain text, from token ids or from a text."""

import re
from collections.abc import Collection, Iterable, Iterator

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
    names = {vocabulary.token_id(symbol): symbol for symbol in symbols}
    ids: list[int] = []
    total = 0.0

    def text() -> Iterator[tuple[str, float]]:
        spelled = vocabulary.decode(ids) if ids else ""
        if spelled in symbols:
            yield from ((spelled[:1], 0.0), (spelled[1:], total))
        elif spelled:
            yield spelled, total

    for token, logprob in scored:
        if token not in names:
            ids.append(token)
            total += logprob
            continue
        yield from text()
        ids.clear()
        total = 0.0
        yield names[token], logprob
    yield from text()


def pieces_of_text(symbols: Collection[str], text: str) -> list[str]:
    """The pieces of a text in which control symbols stand by their names."""
    pattern = re.compile("(" + "|".join(re.escape(symbol) for symbol in symbols) + ")")
    return [piece for piece in pattern.split(text) if piece]
