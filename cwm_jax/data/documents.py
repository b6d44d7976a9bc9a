"""From segments of text to the document that is packed: which tokens are learnt, and which are only given."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from cwm_jax.data.rows import Document
from cwm_jax.text.special_tokens import GIVEN_TOKENS


class Text(NamedTuple):
    """A document before it is tokenised.

    Attributes:
      segments: special tokens or plain text, each with its loss weight.
      origin: where it is from, such as `inflection-0.5.1.tar.gz/inflection-0.5.1/inflection/__init__.py`.
      kind: of document, such as `code` or `trace`.
      licence: that it is under, as an SPDX expression; None where it is not known.
    """

    segments: tuple[tuple[str, float], ...]
    origin: str
    kind: str
    licence: str | None = None


class Part(Protocol):
    """Some of the documents of a source: what one process tokenises at once. Pickles.

    Attributes:
      mark: a text, other for parts that other documents come of.
    """

    mark: str

    def texts(self, dropped: Counter) -> Iterator[Text]:
        """The documents, always the same ones in the same order; counts in `dropped`, by reason, what is left out."""


class Encoder(Protocol):
    """What a vocabulary does here."""

    def encode_segments(self, segments: Iterable[str]) -> list[int]: ...


def make_document(vocabulary: Encoder, segments: Iterable[tuple[str, float]]) -> Document:
    """The document of segments, special tokens or plain text, each with its loss weight.

    `GIVEN_TOKENS` have weight 0 wherever they stand, whatever is asked.
    """
    tokens: list[int] = []
    weights: list[float] = []
    for segment, weight in segments:
        ids = vocabulary.encode_segments([segment])
        tokens += ids
        weights += [0.0 if segment in GIVEN_TOKENS else weight] * len(ids)
    return Document(np.asarray(tokens, np.int32), np.asarray(weights, np.float32))
