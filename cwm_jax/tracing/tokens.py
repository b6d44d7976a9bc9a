"""How many tokens traces are: a vocabulary trained on a corpus, and the counts of each of its shards."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from cwm_jax.files import write_json
from cwm_jax.records import read_records
from cwm_jax.report.progress import progress
from cwm_jax.text.special_tokens import TASK_IDS, TASK_TOKEN_PATTERN, TRACE_TOKENS
from cwm_jax.text.vocabulary import SentencePieceVocabulary, train_vocabulary

VOCABULARY = "vocabulary.model"
_SIZE = 8192
_SAMPLE = 4000  # texts to train on: enough for the pieces of this size, a minute's work
_TOKENS = re.compile(f"({TASK_TOKEN_PATTERN.pattern})")


def _pieces(text: str) -> list[str]:
    """A trace's text, cut where control tokens stand."""
    return [piece for piece in _TOKENS.split(text) if piece]


def train_on_shards(shards: dict[Path, int], out: Path) -> Path:
    """The file of a vocabulary trained on a sample of all shards, made if need be.

    Args:
      shards: how many records each holds.
      out: folder of the corpus.
    """
    path = out / VOCABULARY
    if not path.exists():
        every = max(1, sum(shards.values()) // _SAMPLE)
        texts = islice(_texts(shards), 0, None, every)
        with progress("training a vocabulary", sum(shards.values()) // every, unit="traces") as bar:
            train_vocabulary(_counted(texts, bar), _SIZE, (*TRACE_TOKENS, *TASK_IDS)).save(path)
    return path


def _texts(shards: dict[Path, int]) -> Iterator[list[str]]:
    for path, count in shards.items():
        for record in read_records(path, count):
            yield _pieces(json.loads(record)["trace"])


def _counted(texts: Iterable, bar) -> Iterator:
    for number, text in enumerate(texts, start=1):
        yield text
        bar.update(number)


def counts_of(shard: Path) -> Path:
    """The file that `count_tokens` writes."""
    return shard.with_suffix(".tokens.json")


def count_tokens(shard: Path, records: int, vocabulary: Path) -> None:
    """Writes how many tokens each record of a shard is."""
    encode = SentencePieceVocabulary.load(vocabulary).encode_segments
    write_json(counts_of(shard), [len(encode(text)) for text in _texts({shard: records})])
