"""Pieces of ids and of texts: what is encoded is cut again where it was."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.text.llama3 import Llama3Vocabulary
from cwm_jax.text.pieces import fragments_of_ids, pieces_of_ids, pieces_of_text
from cwm_jax.text.special_tokens import TRACE_TOKENS

BYTES = Llama3Vocabulary(b"\n".join(b"%s %d" % (base64.b64encode(bytes([byte])), byte) for byte in range(256)))
plain = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
symbols = st.sampled_from(TRACE_TOKENS)
# Plain texts never stand side by side: nothing would tell where one ends.
alternating = st.lists(st.tuples(st.lists(symbols, min_size=1, max_size=2), plain), max_size=5).map(
    lambda groups: [piece for some, text in groups for piece in (*some, text)]
)


@given(alternating)
def test_pieces_come_back(pieces):
    ids = BYTES.encode_segments(pieces)
    found = list(pieces_of_ids(BYTES, TRACE_TOKENS, ((token, -1.0) for token in ids)))
    assert [piece for piece, _ in found] == pieces
    assert [-score for _, score in found] == [len(BYTES.encode_segments([piece])) for piece in pieces]
    if not any(token in piece for token in TRACE_TOKENS for piece in pieces if piece not in TRACE_TOKENS):
        assert pieces_of_text(TRACE_TOKENS, "".join(pieces)) == pieces


@given(symbols)
def test_spelled_names_are_no_symbols(symbol):
    scored = ((token, -1.0) for token in BYTES.encode(symbol))
    found = list(pieces_of_ids(BYTES, TRACE_TOKENS, scored))
    assert "".join(piece for piece, _ in found) == symbol and symbol not in dict(found)
    assert sum(score for _, score in found) == -len(symbol)


@given(alternating)
def test_fragments_are_the_pieces_token_by_token(pieces):
    ids = BYTES.encode_segments(pieces)
    found = list(fragments_of_ids(BYTES, TRACE_TOKENS, ((token, -1.0) for token in ids)))
    assert "".join(piece for piece, _ in found) == "".join(pieces)
    assert all(len(piece) == 1 or piece in TRACE_TOKENS for piece, _ in found)
    assert [piece for piece, _ in found if piece in TRACE_TOKENS] == [one for one in pieces if one in TRACE_TOKENS]
    assert sum(score for _, score in found) == -len(ids)
