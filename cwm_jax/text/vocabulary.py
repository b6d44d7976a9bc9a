"""Text to token ids and back: the `Vocabulary` protocol and a SentencePiece vocabulary trained on traces.

Before SentencePiece sees a text, a regular expression cuts it (`PRE_SPLIT`), and no token crosses a cut. So
the letters of a string value are one token each and stay countable, while an identifier is learnt as a whole.
"""

import hashlib
import io
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from cwm_jax.files import write_whole
from cwm_jax.text.pre_split import PRE_SPLIT, cut
from cwm_jax.text.special_tokens import BEGIN_OF_TEXT, END_OF_TEXT, PAD

_CACHED_LENGTH = 64  # characters; longer texts rarely repeat
_CACHED_TEXTS = 1 << 18
_LONGEST_PIECE = 64  # characters of the longest token that training may make
_SPACE = "␣"  # what SentencePiece sees for a space: its own "▁" may not end a piece, so `in ` or ` = ` were never one
_KINDS = ModelProto.SentencePiece


class Vocabulary(Protocol):
    """What maps text to ids: the calls of `seqio.Vocabulary`, plus control tokens by name.

    Unlike seqio's, `decode` goes on after `eos_id`: where a text ends is the caller's to say.

    Attributes:
      vocab_size: number of ids, control tokens included; every id is below it.
      unk_id: never produced by `encode`.
      fingerprint: SHA-256 of the model, in hex; where it is equal, so is every encoding.
      control_tokens: the control tokens, in the order of their ids.
    """

    vocab_size: int
    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int
    fingerprint: str
    control_tokens: tuple[str, ...]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; never a control token's, whatever the text spells."""

    def encode_segments(self, segments: Iterable[str]) -> list[int]:
        """Ids of the segments in order: a segment that is a control token becomes its id, any other is plain text."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text that `ids` spell; `decode(encode(text)) == text`. A control token spells its own name."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The UTF-8 of that text; of some ids alone it may be part of a character."""

    def token_id(self, control: str) -> int:
        """Id of a control token."""


class SentencePieceVocabulary:
    """A SentencePiece model (with byte pieces) behind a pre-split; see `train_vocabulary`.

    The pre-split travels in the model's `trainer_spec.pretokenization_delimiter`, SentencePiece's own field for
    cuts made at training time, so one `.model` file is the whole vocabulary.

    Attributes (besides the protocol's):
      model: the serialized `ModelProto`.
      pre_split: the pattern that cuts texts before SentencePiece.
    """

    def __init__(self, model: bytes):
        """Takes a serialized `ModelProto`.

        Raises:
          ValueError: it has no pre-split or lacks byte pieces, without which it could not spell every text.
        """
        proto = ModelProto.FromString(model)
        self.model = model
        self._processor = SentencePieceProcessor(model_proto=model)
        self._pattern = re.compile(proto.trainer_spec.pretokenization_delimiter)
        self._control = {p.piece: i for i, p in enumerate(proto.pieces) if p.type == _KINDS.CONTROL}
        self._spelling = [_spelling(piece) for piece in proto.pieces]
        self._byte_ids = [i for i, piece in enumerate(proto.pieces) if piece.type == _KINDS.BYTE]
        self._pieces: dict[str, list[int]] = {}  # one piece of a cut; a text may be cut although it is one elsewhere
        self._texts: dict[str, list[int]] = {}
        self.vocab_size = len(self._spelling)
        self.pad_id, self.unk_id = self._processor.pad_id(), self._processor.unk_id()
        self.bos_id, self.eos_id = self._processor.bos_id(), self._processor.eos_id()
        self._never_plain = {*self._control.values(), self.unk_id}
        self.fingerprint = hashlib.sha256(model).hexdigest()
        self.pre_split = self._pattern.pattern
        self.control_tokens = tuple(self._control)
        if not self.pre_split or len(self._byte_ids) != 256:
            raise ValueError(
                f"not a model of train_vocabulary's: {len(self._byte_ids)} byte pieces (256 expected), "
                f"pre-split {self.pre_split!r}; train the vocabulary anew"
            )

    @classmethod
    def load(cls, path: str | os.PathLike) -> "SentencePieceVocabulary":
        """Reads a `.model` file."""
        return cls(Path(path).read_bytes())

    def save(self, path: str | os.PathLike) -> None:
        """Writes the `.model` file; whole or not at all."""
        write_whole(path, self.model)

    def __reduce__(self):
        return type(self), (self.model,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SentencePieceVocabulary) and self.model == other.model

    def __hash__(self) -> int:
        return hash(self.model)

    def token_id(self, control: str) -> int:
        """Id of a control token.

        Raises:
          KeyError: it is not one of this vocabulary's.
        """
        if control not in self._control:
            raise KeyError(f"{control!r} is no control token of this vocabulary; it has {', '.join(self._control)}")
        return self._control[control]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; never a control token's, whatever the text spells.

        Raises:
          ValueError: `text` holds a lone surrogate, which no UTF-8 text can.
        """
        if (known := self._texts.get(text)) is not None:
            return known.copy()
        ids: list[int] = []
        known_piece = self._pieces.get
        for piece in cut(self._pattern, text):
            ids += known_piece(piece) or self._encode_piece(piece)
        _remember(self._texts, text, ids.copy())
        return ids

    def encode_segments(self, segments: Iterable[str]) -> list[int]:
        """Ids of the segments in order: a segment that is a control token becomes its id, any other is plain text."""
        ids: list[int] = []
        control = self._control.get
        for segment in segments:
            if (token := control(segment)) is not None:
                ids.append(token)
            else:
                ids += self.encode(segment)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text that `ids` spell; bytes that are not UTF-8 (a model may predict them) show as U+FFFD.

        Raises:
          ValueError: an id is not below `vocab_size`.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """What `decode` reads as UTF-8; raises as it does."""
        ids = [int(i) for i in ids]
        if ids and (min(ids) < 0 or max(ids) >= self.vocab_size):
            raise ValueError(f"ids must be in 0..{self.vocab_size - 1}, found {min(ids)}..{max(ids)}")
        return b"".join([self._spelling[i] for i in ids])

    def _encode_piece(self, piece: str) -> list[int]:
        try:
            raw = piece.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"cannot encode the lone surrogate {piece[error.start]!r}: it is no UTF-8 text; "
                "escape it first, for example with text.encode('utf-8', 'backslashreplace').decode()"
            ) from None
        ids = list(self._processor.encode(piece.replace(" ", _SPACE)))
        # A piece that does not spell itself again (it holds a real "␣" or "▁") goes out as bytes: so the round
        # trip holds for every text by construction.
        if not self._never_plain.isdisjoint(ids) or b"".join([self._spelling[i] for i in ids]) != raw:
            ids = [self._byte_ids[byte] for byte in raw]
        _remember(self._pieces, piece, ids)
        return ids


def _remember(cache: dict[str, list[int]], text: str, ids: list[int]) -> None:
    if len(text) <= _CACHED_LENGTH:
        if len(cache) >= _CACHED_TEXTS:
            cache.clear()
        cache[text] = ids


def _spelling(piece: ModelProto.SentencePiece) -> bytes:
    if piece.type == _KINDS.BYTE:
        return bytes([int(piece.piece[3:5], 16)])  # "<0x41>"
    if piece.type == _KINDS.CONTROL:
        return piece.piece.encode()
    if piece.type == _KINDS.UNKNOWN:
        return "\ufffd".encode()
    return piece.piece.replace(_SPACE, " ").encode()


def train_vocabulary(
    texts: Iterable[str | Sequence[str]],
    size: int,
    control_symbols: Sequence[str],
    pre_split: str = PRE_SPLIT,
) -> SentencePieceVocabulary:
    """Trains a vocabulary with byte fallback and no normalisation; equal inputs give equal bytes.

    SentencePiece's unigram trainer chooses the characters and parts of names; whole pieces of the pre-split go before
    its parts, those that save most tokens first, and an encoding has as few tokens as it can (our choice: on short
    Python functions 3 % fewer tokens than BPE at size 512, and names that repeat are one token where there is room).

    Ids: padding 0, begin 1, end 2, unknown 3 (never produced), the other `control_symbols` in order, 256 bytes,
    then what was learnt.

    Args:
      texts: plain texts, or lists of segments of which those in `control_symbols` are left out. Wrap it in a
        progress bar when it is long: counting its pieces takes nearly all the time.
      size: number of ids at most; texts with too few repeated pieces give fewer.
      control_symbols: names that only `encode_segments` produces; begin, end and padding are added if missing.
      pre_split: where texts are cut; see `cut`.

    Raises:
      ValueError: `size` cannot hold the control symbols, the bytes and the common characters of the texts; there
        is no text; `pre_split` is empty; a control symbol is empty or stands twice.
      re.error: `pre_split` is no regular expression.
    """
    standard = (PAD, BEGIN_OF_TEXT, END_OF_TEXT)
    others = [symbol for symbol in control_symbols if symbol not in standard]
    if not all(others) or len(set(others)) != len(others):
        raise ValueError(f"control_symbols must be distinct and not empty, got {list(control_symbols)}")
    if not pre_split:
        raise ValueError("pre_split is empty; to cut nothing use '(?s:.+)'")
    words = _count_pieces(texts, re.compile(pre_split), {*standard, *others})
    if not words:
        raise ValueError("no texts to train a vocabulary on: every text is empty or a control symbol")
    smallest = len(standard) + 1 + len(others) + 256 + 1
    if size < smallest:
        raise ValueError(f"size {size} is too small: control symbols and bytes alone need {smallest}")
    written = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter([f"{word}\t{count}" for word, count in words]),
            input_format="tsv", model_writer=written, model_type="unigram", vocab_size=size, hard_vocab_limit=False,
            normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
            byte_fallback=True, max_sentencepiece_length=_LONGEST_PIECE,
            split_by_unicode_script=False, split_by_number=False, split_digits=True, control_symbols=others,
            pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece=PAD, bos_piece=BEGIN_OF_TEXT, eos_piece=END_OF_TEXT,
            num_threads=1, minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        raise ValueError(f"SentencePiece cannot train a vocabulary of size {size} on these texts: {error}") from None
    proto = ModelProto.FromString(written.getvalue())
    _prefer_whole_pieces(proto, words, size)
    proto.trainer_spec.pretokenization_delimiter = pre_split
    return SentencePieceVocabulary(proto.SerializeToString(deterministic=True))


def _prefer_whole_pieces(proto: ModelProto, words: list[tuple[str, int]], size: int) -> None:
    """Gives the room of the trainer's parts of pieces to whole pieces first (in place)."""
    given = [piece for piece in proto.pieces if piece.type != _KINDS.NORMAL]
    letters = {p.piece: p.score for p in proto.pieces if p.type == _KINDS.NORMAL and len(p.piece) == 1}
    parts = {p.piece: p.score for p in proto.pieces if p.type == _KINDS.NORMAL and len(p.piece) > 1}
    room = size - len(given) - len(letters)
    total = sum(count for _, count in words)
    whole = {
        word: math.log(count / total)
        for word, count in sorted(words, key=lambda item: (item[1] * (1 - len(item[0])), item[0]))
        if count > 1 and 1 < len(word) <= _LONGEST_PIECE and letters.keys() >= set(word) and not re.search(r"\d", word)
    }
    learnt = letters | dict(list((whole | {p: s for p, s in parts.items() if p not in whole}).items())[:room])
    del proto.pieces[:]
    proto.pieces.extend(given)
    for piece, score in learnt.items():
        # A price per token above all differences of likelihood: the fewest tokens win, then the likeliest.
        proto.pieces.add(piece=piece, score=score - 100, type=_KINDS.NORMAL)


def _count_pieces(
    texts: Iterable[str | Sequence[str]], pattern: re.Pattern, control: set[str]
) -> list[tuple[str, int]]:
    """The distinct pieces as SentencePiece sees them, most frequent first, each with its count."""
    segments: Counter[str] = Counter()
    for text in texts:
        segments.update([text] if isinstance(text, str) else text)
    counts: Counter[str] = Counter()
    for segment, count in segments.items():
        if segment not in control:
            for piece in cut(pattern, segment):
                counts[piece.replace(" ", _SPACE)] += count
    # A tab ends the piece in the trainer's input, and a NUL its strings; both are single bytes anyway.
    usable = [item for item in counts.items() if not ("\t" in item[0] or "\0" in item[0])]
    return sorted(usable, key=lambda item: (-item[1], item[0]))
