"""Vocabularies from their files, whichever kind they are."""

import base64
import json
import os
from pathlib import Path

from google.protobuf.message import DecodeError

from cwm_jax.text.llama3 import Llama3Vocabulary
from cwm_jax.text.vocabulary import SentencePieceVocabulary, Vocabulary

VOCABULARY = "vocabulary.model"
"""The name of a vocabulary that was trained here, beside the rows, the run or the weights that have it."""
RELEASED = ("tokenizer.model", "tokenizer.json")
"""The release's names of its vocabulary, in its own form and in Hugging Face's."""


def find_vocabulary(folder: str | os.PathLike) -> Path:
    """The file of a vocabulary in a folder, of the release or trained here; FileNotFoundError where there is none."""
    for name in (*RELEASED, VOCABULARY):
        if (path := Path(folder) / name).exists():
            return path
    raise FileNotFoundError(
        f"{folder} holds no vocabulary; copy {' or '.join(RELEASED)} of the release there, or {VOCABULARY} of a run"
    )


def load_fitting(folder: str | os.PathLike, size: int) -> Vocabulary:
    """The vocabulary in the folder of weights for so many tokens.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it cannot be read, or has another size.
    """
    path = find_vocabulary(folder)
    vocabulary = load_vocabulary(path)
    if vocabulary.vocab_size != size:
        raise ValueError(f"{path} has {vocabulary.vocab_size} tokens, the weights {size}")
    return vocabulary


def load_vocabulary(path: str | os.PathLike) -> Vocabulary:
    """Reads a SentencePiece model that was trained here, a file of Llama-3 ranks, or the `tokenizer.json` that Hugging
    Face made of one; the contents tell which.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is none of them.
    """
    content = Path(path).read_bytes()
    # A model begins with the tag of its first piece, JSON with a brace, ranks with base64.
    kind = {b"\n": "SentencePiece model", b"{": "tokenizer of Llama-3 ranks"}.get(content[:1], "file of Llama-3 ranks")
    try:
        if content[:1] == b"\n":
            return SentencePieceVocabulary(content)
        return Llama3Vocabulary(_ranks(content) if content[:1] == b"{" else content)
    except (ValueError, KeyError, TypeError, AttributeError, DecodeError) as error:
        raise ValueError(f"{path} cannot be read as a {kind}: {error}") from error


def _ranks(tokenizer: bytes) -> bytes:
    """The ranks file that a byte-level `tokenizer.json` was made of: its ids are the ranks."""
    vocabulary = json.loads(tokenizer)["model"]["vocab"]
    letters = _letters()
    lines = []
    for token, rank in sorted(vocabulary.items(), key=lambda item: item[1]):
        piece = bytes(letters[letter] for letter in token)
        lines.append(base64.b64encode(piece) + b" %d\n" % rank)
    return b"".join(lines)


def _letters() -> dict[str, int]:
    """The byte that each letter of a byte-level token stands for: itself if one sees it, else the next from U+0100."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in set(seen)]
    return {chr(byte): byte for byte in seen} | {chr(256 + place): byte for place, byte in enumerate(rest)}
