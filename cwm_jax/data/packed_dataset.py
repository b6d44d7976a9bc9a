"""Documents -> tokens -> packed rows, in a folder with a manifest, which `PreparedRows` reads and a `Mixture` mixes.

Tokenising goes part by part, each into a file of its own, so an interrupted call goes on where it was; packing streams
these files. The result has the same bytes however often it was stopped and however many processes there were. Beside
the rows, `documents.jsonl` tells where each document is from and its licence, for whoever passes data or model on.
"""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cwm_jax.components import plain
from cwm_jax.data.buckets import Bucket
from cwm_jax.data.code import PlainCode
from cwm_jax.data.documents import Part, make_document
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.rows import MAX_WEIGHT, MOST_IN_A_ROW, Document, pack, write_rows
from cwm_jax.data.traces import Narrations, RecordedTraces
from cwm_jax.files import claim, in_use, write_json, write_whole
from cwm_jax.records import read_records, write_records
from cwm_jax.text.load import load_vocabulary
from cwm_jax.text.vocabulary import Vocabulary
from cwm_jax.tracing.shards import make_shards, told_beside

DOCUMENTS = "documents.jsonl"


@dataclass(frozen=True)
class PackedDataset:
    """Documents that are tokenised and packed into rows.

    Attributes:
      documents: where they are from.
      vocabulary: file of a SentencePiece model that was trained here, or of Llama-3 ranks.
      buckets: tokens of the longest document in each bucket, ascending; the last is the length of every row, and longer
        documents are left out (default: those of CWM's mid-training).
    """

    documents: PlainCode | RecordedTraces | Narrations
    vocabulary: str
    buckets: tuple[int, ...] = (16_385, 65_537, 131_072)

    def __post_init__(self):
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"PackedDataset.buckets={self.buckets} must be ascending, such as (16_385, 131_072)")


class _Entry(NamedTuple):
    """What is told of a document beside its shard.

    Attributes:
      origin, kind, licence: see `Text`.
      tokens, predicted: of the document; how many it has, and how many of them are learnt.
    """

    origin: str
    kind: str
    licence: str | None
    tokens: int
    predicted: int


def pack_dataset(dataset: PackedDataset, folder: Path, workers: int = 0) -> Manifest:
    """Makes `folder` hold the rows that `dataset` describes, goes on making them, or reads what it holds already.

    Args:
      dataset: what is packed.
      folder: for the rows.
      workers: processes that tokenise; 0: one for each core.

    Raises:
      ValueError: the folder holds rows of other documents, settings or another vocabulary; the vocabulary lacks the
        special tokens; no document is fit; another process makes them.
      FileNotFoundError: a path, the traces or the vocabulary are not there.
    """
    folder, started = Path(folder), time.monotonic()
    vocabulary = _vocabulary(dataset)
    dropped: Counter = Counter()
    parts = dataset.documents.parts(dropped)
    settings = _settings(dataset, vocabulary, parts)
    with in_use(folder):
        claim(folder, settings)
        try:
            return Manifest.read(folder)
        except FileNotFoundError:
            pass
        shards = _tokenise(dataset, parts, folder / "shards", workers)
        entries = [entry for told in shards.values() for entry in told["entries"]]
        dropped.update(sum((Counter(told["dropped"]) for told in shards.values()), Counter()))
        if not entries:
            raise ValueError(f"no document of {dataset.documents} is fit; left out: {dict(dropped)}")
        rows = _write_rows(dataset.buckets, shards, folder)
        told = [{"origin": one.origin, "licence": one.licence, "tokens": one.tokens} for one in entries]
        write_whole(folder / DOCUMENTS, "".join(json.dumps(one) + "\n" for one in told))
        manifest = Manifest(
            settings=settings,
            vocabulary=vocabulary.fingerprint,
            rows=rows,
            documents=len(entries),
            tokens=sum(entry.tokens for entry in entries),
            predicted_tokens=sum(entry.predicted for entry in entries),
            programs=dict(Counter(entry.licence or entry.kind for entry in entries)),
            tests={},
            dropped=dict(dropped),
            seconds=round(time.monotonic() - started, 1),
            python=dataset.documents.python,
        )
        manifest.write(folder)
        shutil.rmtree(folder / "shards")
        return manifest


_load = lru_cache(maxsize=1)(load_vocabulary)


def _vocabulary(dataset: PackedDataset) -> Vocabulary:
    vocabulary = _load(dataset.vocabulary)
    for token in dataset.documents.special_tokens:
        try:
            vocabulary.token_id(token)
        except KeyError:
            raise ValueError(
                f"PackedDataset.vocabulary={dataset.vocabulary} lacks {token}; name one that was trained on such traces"
            ) from None
    return vocabulary


def _settings(dataset: PackedDataset, vocabulary: Vocabulary, parts: list[Part]) -> str:
    """A hash of what shapes the rows. Where files lie does not: the same ones elsewhere give the same rows."""
    documents = {name: value for name, value in plain(dataset.documents).items() if name not in ("paths", "folder")}
    shaping = [documents, dataset.buckets, vocabulary.fingerprint, [part.mark for part in parts]]
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def _tokenise(dataset: PackedDataset, parts: list[Part], folder: Path, workers: int) -> dict[Path, dict]:
    """The shards, made where they are missing, and what is told of each."""
    shards = {folder / f"{number:05d}.array_record": part for number, part in enumerate(parts)}
    settings = dataset.vocabulary, dataset.buckets[-1]
    jobs = {told_beside(shard): partial(tokenise, part, *settings, shard) for shard, part in shards.items()}
    make_shards("tokenising", jobs, workers)
    told = {shard: json.loads(told_beside(shard).read_text()) for shard in shards}
    return {shard: one | {"entries": [_Entry(*entry) for entry in one["entries"]]} for shard, one in told.items()}


def tokenise(part: Part, vocabulary: str, longest: int, shard: Path) -> None:
    """Tokenises a part and writes its shard, then what is told of it.

    What it writes is a function of its arguments alone.
    """
    encoder, dropped = _load(vocabulary), Counter()
    records, entries = [], []
    for text in part.texts(dropped):
        document = make_document(encoder, text.segments)
        if len(document.tokens) > longest:
            dropped["too many tokens"] += 1
            continue
        records.append(_to_bytes(document))
        predicted = int(np.count_nonzero(document.loss_weights[1:]))
        entries.append(_Entry(text.origin, text.kind, text.licence, len(document.tokens), predicted))
    write_records(shard, records, "group_size:64,zstd:3")
    write_json(told_beside(shard), {"entries": entries, "dropped": dropped})


def _to_bytes(document: Document) -> bytes:
    """Tokens as uint32, then weights as rows store them."""
    weights = np.round(document.loss_weights * MAX_WEIGHT)
    return document.tokens.astype("<u4").tobytes() + weights.astype("u1").tobytes()


def _from_bytes(data: bytes) -> Document:
    tokens = np.frombuffer(data, "<u4", len(data) // 5)
    weights = np.frombuffer(data, "u1", offset=4 * len(tokens))
    return Document(tokens.astype(np.int32), weights.astype(np.float32) / MAX_WEIGHT)


def _write_rows(buckets: tuple[int, ...], shards: dict[Path, dict], folder: Path) -> dict[int, int]:
    """Writes a file for each bucket; rows in each."""
    rows, shorter = {}, 0
    for limit in buckets:
        documents = _between(shorter, limit, shards)
        rows[limit] = write_rows(Bucket(limit, buckets[-1]).path(folder), pack(documents, buckets[-1], MOST_IN_A_ROW))
        shorter = limit
    return rows


def _between(shorter: int, limit: int, shards: dict[Path, dict]) -> Iterator[Document]:
    """The documents of more than `shorter` and at most `limit` tokens."""
    for shard, told in shards.items():
        lengths = [entry.tokens for entry in told["entries"]]
        for length, record in zip(lengths, read_records(shard, len(lengths))):
            if shorter < length <= limit:
                yield _from_bytes(record)
