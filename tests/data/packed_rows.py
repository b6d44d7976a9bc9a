"""What tests of packed rows share: a small module, its recorded traces, and the verbs."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from cwm_jax.data.prepared import PreparedRows
from cwm_jax.data.rows import RowFile
from cwm_jax.text.vocabulary import SentencePieceVocabulary

ROOT = Path(__file__).parent.parent.parent
SOURCE = """
def double(number: int) -> int:
    return number * 2


def total(numbers: list[int]) -> int:
    result = 0
    for number in numbers:
        result += double(number)
    return result


def words(text: str) -> list[str]:
    def spelled():
        for word in text.split():
            yield word.upper()

    return sorted(spelled())


def twice(number: int) -> list[int]:
    def both():
        yield number
        yield number

    return list(both())


def ratio(one: int, other: int) -> float:
    if other == 0:
        raise ValueError("no ratio")
    return double(one) / other
"""
BUCKETS = (512, 4_096)


def verb(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cwm_jax", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def prepare(*arguments) -> subprocess.CompletedProcess:
    return verb("prepare", *arguments)


def gin(folder: Path, traces: Path, documents: str = "RecordedTraces", more: str = "") -> Path:
    path = folder / f"{documents}.gin"
    path.write_text(
        f"PackedDataset.documents = @{documents}()\n{documents}.folder = '{traces}'\n"
        f"PackedDataset.vocabulary = '{traces}/vocabulary.model'\nPackedDataset.buckets = {BUCKETS}\n{more}"
    )
    return path


def documents(
    folder: Path, vocabulary: SentencePieceVocabulary, buckets=BUCKETS
) -> dict[str, tuple[list[int], np.ndarray]]:
    """Tokens and loss weights of every document of a set, by its text; no text stands twice."""
    ready = PreparedRows(str(folder), vocabulary.vocab_size, buckets, buckets).ready(folder)
    (only,) = ready.sets
    found, count = {}, 0
    for bucket in ready.buckets:
        file = RowFile(bucket.path(folder), only.manifest.rows[bucket.limit])
        for row in (file.read(np.array([number])) for number in range(len(file))):
            for number in range(1, row.segment_ids.max() + 1):
                inside = row.segment_ids == number
                assert inside.sum() <= bucket.limit
                found[vocabulary.decode(row.tokens[inside])] = row.tokens[inside].tolist(), row.loss_weights[inside]
                count += 1
    assert len(found) == count == only.manifest.documents
    return found


def vocabulary_of(traces: Path) -> SentencePieceVocabulary:
    return SentencePieceVocabulary.load(traces / "vocabulary.model")
