"""Which tokens of a document are learnt."""

import base64

import numpy as np
import pytest

from cwm_jax.data.documents import make_document
from cwm_jax.text.llama3 import Llama3Vocabulary
from cwm_jax.text.special_tokens import THINKING_END, THINKING_START
from cwm_jax.text.vocabulary import train_vocabulary

LLAMA = Llama3Vocabulary(b"".join(base64.b64encode(bytes([n])) + f" {n}\n".encode() for n in range(256)))
TRAINED = train_vocabulary(["what is it? because it is 4"] * 3, 300, (THINKING_START, THINKING_END))


@pytest.mark.parametrize("vocabulary", [LLAMA, TRAINED], ids=["llama3", "sentencepiece"])
def test_the_token_that_starts_thinking_is_given_never_predicted(vocabulary):
    segments = [("what is it?", 0.0), (THINKING_START, 1.0), ("because", 1.0), (THINKING_END, 1.0), (" it is 4", 0.5)]
    tokens, weights = make_document(vocabulary, segments)
    np.testing.assert_array_equal(tokens, vocabulary.encode_segments([text for text, _ in segments]))
    (start,) = np.flatnonzero(tokens == vocabulary.token_id(THINKING_START))
    (end,) = np.flatnonzero(tokens == vocabulary.token_id(THINKING_END))
    assert not weights[: start + 1].any()
    assert (weights[start + 1 : end + 1] == 1).all() and end > start + 1
    assert (weights[end + 1 :] == 0.5).all() and len(weights) > end + 1


def test_text_that_spells_the_token_is_learnt():
    tokens, weights = make_document(LLAMA, [(f"say {THINKING_START}", 1.0)])
    assert LLAMA.token_id(THINKING_START) not in tokens and (weights == 1).all()
