"""Llama-3's vocabulary against `tiktoken` itself, on a ranks file made here."""

import base64
import pickle
import random

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.text.llama3 import Llama3Vocabulary
from cwm_jax.text.special_tokens import CWM_IDS

_RELEASE_PATTERN = (  # written out a second time: the test's oracle
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def made_ranks() -> dict[bytes, int]:
    """All bytes, then merges of neighbours that a Python text suggests, each of two tokens that exist."""
    tokens = [bytes([byte]) for byte in range(256)]
    known = set(tokens)
    rng = random.Random(0)
    text = b"def count(letters):\n    for letter in letters:\n        return the counted number 1234 of letters\n"
    while len(tokens) < 700:
        start = rng.randrange(len(text) - 1)
        left = next(text[start:end] for end in range(min(len(text), start + 8), start, -1) if text[start:end] in known)
        rest = start + len(left)
        if rest >= len(text):
            continue
        right = next(text[rest:end] for end in range(min(len(text), rest + 8), rest, -1) if text[rest:end] in known)
        if left + right not in known and len(left + right) <= 12:
            known.add(left + right)
            tokens.append(left + right)
        elif len(tokens) > 400 and rng.random() < 0.01:
            break
    return {token: rank for rank, token in enumerate(tokens)}


RANKS = made_ranks()
FILE = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in RANKS.items())
OURS = Llama3Vocabulary(FILE)
PEER = tiktoken.Encoding("peer", pat_str=_RELEASE_PATTERN, mergeable_ranks=RANKS, special_tokens={})


@given(st.text() | st.text(alphabet="def count(letrs):\n 0123'sT\r\t<|>_"))
def test_encodes_as_tiktoken_and_round_trips(text):
    assert OURS.encode(text) == PEER.encode_ordinary(text)
    assert OURS.decode(OURS.encode(text)) == text


def test_reserved_ids_lie_as_in_the_release():
    for name, place in CWM_IDS.items():
        assert OURS.token_id(name) == place - 128_000 + len(RANKS)
    assert OURS.vocab_size == len(RANKS) + 256
    assert OURS.token_id("<|reserved_special_token_2|>") == len(RANKS) + 2
    assert (OURS.bos_id, OURS.eos_id, OURS.pad_id) == (len(RANKS), len(RANKS) + 1, len(RANKS) + 4)
    assert OURS.stop_ids == (len(RANKS) + 1, len(RANKS) + 8, len(RANKS) + 9)


@pytest.mark.parametrize("name", [*CWM_IDS, "<|reserved_special_token_2|>"])
def test_special_tokens_never_arise_from_plain_text(name):
    ids = OURS.encode(f"x{name}y")
    assert max(ids) < len(RANKS) and OURS.decode(ids) == f"x{name}y"
    assert OURS.encode_segments(["x", name, "y"]) == [*OURS.encode("x"), OURS.token_id(name), *OURS.encode("y")]
    assert OURS.decode([OURS.token_id(name)]) == name


def test_long_texts_are_encoded_in_pieces_of_400_000_characters():
    text = "ab" * 200_001
    assert OURS.encode(text) == PEER.encode_ordinary(text[:400_000]) + PEER.encode_ordinary(text[400_000:])


def test_it_travels():
    other = pickle.loads(pickle.dumps(OURS))
    assert other.fingerprint == OURS.fingerprint and other.encode("def f") == OURS.encode("def f")


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (lambda file: file[: len(file) // 4], "cut short|no base64"),
        (lambda file: file.replace(b"\n", b"\nrubbish\n", 1), "line 2 .*no base64"),
        (lambda file: file + file.splitlines()[0], "expected a new token of rank"),
        (lambda file: b"", "lacks tokens for 256"),
        (lambda file: b"\n".join(file.splitlines()[1:]), "expected a new token of rank 0, got 1"),
    ],
)
def test_damaged_files_are_explained(damage, complaint):
    with pytest.raises(ValueError, match=complaint):
        Llama3Vocabulary(damage(FILE))


def test_bad_calls_are_explained():
    with pytest.raises(KeyError, match="no special token"):
        OURS.token_id("<|nonsense|>")
    with pytest.raises(ValueError, match="lone surrogate"):
        OURS.encode("\ud800")
    with pytest.raises(ValueError, match="ids must be in"):
        OURS.decode([OURS.vocab_size])
