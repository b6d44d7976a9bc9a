"""From segments of text to the document that is packed: which tokens are learnt, and which are only given."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from cwm_jax.data.rows import Document
from cwm_jax.text.special_tokens import GIVEN_TOKENS


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
