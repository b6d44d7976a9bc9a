"""Vocabularies from their files, whichever kind they are."""

import os
from pathlib import Path

from google.protobuf.message import DecodeError

from cwm_jax.text.llama3 import Llama3Vocabulary
from cwm_jax.text.vocabulary import SentencePieceVocabulary, Vocabulary


def load_vocabulary(path: str | os.PathLike) -> Vocabulary:
    """Reads a SentencePiece model that was trained here, or a file of Llama-3 ranks; the contents tell which.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is neither.
    """
    content = Path(path).read_bytes()
    model = content.startswith(b"\n")  # the tag of a model's first piece; ranks begin with base64
    try:
        return (SentencePieceVocabulary if model else Llama3Vocabulary)(content)
    except (ValueError, DecodeError) as error:
        kind = "SentencePiece model" if model else "file of Llama-3 ranks"
        raise ValueError(f"{path} cannot be read as a {kind}: {error}") from error
