"""The released vocabulary: Llama-3's byte-pair encoding with CWM's names for its reserved ids (facts of the release).

The ranks file (`tokenizer.model` of the release: lines of base64 token and rank) is read here and encoded by
`tiktoken`, the library that made the format. It is not shipped with this project.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import tiktoken

from cwm_jax.text.special_tokens import BEGIN_OF_TEXT, CWM_IDS, END_OF_TEXT, PAD, STOP_TOKENS, TASK_IDS

RANKS = 128_000  # of the release; the ids of special tokens follow
RESERVED = 256
_CUT = 400_000  # characters encoded at once, as the released code does it
_PRE_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Llama3Vocabulary:
    """Byte-pair encoding over a ranks file, then 256 reserved ids of which CWM names some.

    The reserved id at place n is called `<|reserved_special_token_{n}|>` where CWM has no name for it. With a ranks
    file of another size than the release's the reserved ids follow its last rank, in the same places.

    Attributes (besides those of `Vocabulary`):
      stop_ids: what ends a turn: end of text, end of message, end of turn.
    """

    def __init__(self, ranks: bytes):
        """Takes the contents of a ranks file.

        Raises:
          ValueError: a line is no token and rank, a rank is missing or doubled, or a byte has no token.
        """
        self._ranks_file = ranks
        mergeable = _parse(ranks)
        names = {place - RANKS: name for name, place in (CWM_IDS | TASK_IDS).items()}
        self._control = {
            names.get(place, f"<|reserved_special_token_{place}|>"): len(mergeable) + place for place in range(RESERVED)
        }
        self._encoding = tiktoken.Encoding(
            "cwm", pat_str=_PRE_SPLIT, mergeable_ranks=mergeable, special_tokens=self._control
        )
        self.vocab_size = len(mergeable) + RESERVED
        self.bos_id, self.eos_id = self._control[BEGIN_OF_TEXT], self._control[END_OF_TEXT]
        self.pad_id = self._control[PAD]
        self.unk_id = self._control["<|reserved_special_token_255|>"]  # never produced: bytes spell every text
        self.stop_ids = tuple(self._control[name] for name in STOP_TOKENS)
        self.fingerprint = hashlib.sha256(ranks).hexdigest()
        self.control_tokens = tuple(self._control)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Llama3Vocabulary":
        """Reads a ranks file."""
        return cls(Path(path).read_bytes())

    def __reduce__(self):
        return type(self), (self._ranks_file,)

    def token_id(self, control: str) -> int:
        """Id of a special token.

        Raises:
          KeyError: there is none of this name.
        """
        if control not in self._control:
            raise KeyError(f"{control!r} is no special token; CWM names {', '.join(CWM_IDS)}")
        return self._control[control]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; never a special token's, whatever the text spells.

        Raises:
          ValueError: `text` holds a lone surrogate, which no UTF-8 text can.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"cannot encode the lone surrogate {text[error.start]!r}: it is no UTF-8 text") from None
        ids: list[int] = []
        for start in range(0, len(text), _CUT):
            ids += self._encoding.encode_ordinary(text[start : start + _CUT])
        return ids

    def encode_segments(self, segments: Iterable[str]) -> list[int]:
        """Ids of the segments in order: a segment that is a special token becomes its id, any other is plain text."""
        ids: list[int] = []
        for segment in segments:
            ids += [self._control[segment]] if segment in self._control else self.encode(segment)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text that `ids` spell; bytes that are not UTF-8 show as U+FFFD, special tokens as their names.

        Raises:
          ValueError: an id is not below `vocab_size`.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """What `decode` reads as UTF-8; raises as it does."""
        ids = [int(i) for i in ids]
        if ids and (min(ids) < 0 or max(ids) >= self.vocab_size):
            raise ValueError(f"ids must be in 0..{self.vocab_size - 1}, found {min(ids)}..{max(ids)}")
        return self._encoding.decode_bytes(ids)


def _parse(ranks: bytes) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for number, line in enumerate(ranks.splitlines(), start=1):
        try:
            token, rank = line.split()
            piece = base64.b64decode(token, validate=True)
            place = int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(f"line {number} of the ranks file is no base64 token and rank: {line[:60]!r}") from None
        if piece in found or place != len(found):
            raise ValueError(f"line {number} of the ranks file: expected a new token of rank {len(found)}, got {place}")
        found[piece] = place
    missing = [byte for byte in range(256) if bytes([byte]) not in found]
    if missing:
        raise ValueError(f"the ranks file lacks tokens for {len(missing)} of 256 bytes: is it cut short?")
    return found
