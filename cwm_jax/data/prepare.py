"""`prepare`: programs -> traces -> tokens -> packed rows, offline, in a folder with a manifest.

Recording goes shard by shard and every shard is a file of its own, so an interrupted run
goes on where it was. The same configuration gives the same bytes, however often it was stopped.
"""

import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cwm_jax.components import plain
from cwm_jax.data import corpus
from cwm_jax.data.buckets import Bucket, ReadyRows, RowSet
from cwm_jax.data.corpus import CorpusConfig, HeldOut, Shard
from cwm_jax.data.documents import make_document
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.rows import Document, pack, write_rows
from cwm_jax.files import claim
from cwm_jax.report.progress import progress
from cwm_jax.text.load import VOCABULARY, find_vocabulary, load_vocabulary
from cwm_jax.text.vocabulary import SentencePieceVocabulary, train_vocabulary
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.shards import make_shards


@dataclass(frozen=True)
class DataConfig:
    """How a training set is made.

    Attributes:
      corpus: which programs are recorded.
      form: how a trace is written for the model.
      vocabulary_size: pieces at most; fewer where the corpus has fewer.
      buckets: lengths of rows in tokens, ascending; a document goes into the shortest that holds it.
      documents_per_row: most documents in one row; 1 is fastest where attention is quadratic on a CPU.
      context_weight: loss weight of the source context, from 0 to 1 (our choice: 0, the context is given).
    """

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    form: Compact = field(default_factory=Compact)
    vocabulary_size: int = 512
    buckets: tuple[int, ...] = (128, 192, 256, 384, 512)
    documents_per_row: int = 1
    context_weight: float = 0.0

    def __post_init__(self):
        if list(self.buckets) != sorted(set(self.buckets)) or not self.buckets:
            raise ValueError(f"DataConfig.buckets={self.buckets} must be ascending lengths, such as (128, 256)")
        if not 0 <= self.context_weight <= 1:
            raise ValueError(f"DataConfig.context_weight={self.context_weight} must be from 0 to 1")

    @property
    def layout(self) -> tuple[Bucket, ...]:
        return tuple(Bucket(length, length) for length in self.buckets)

    def size_of_vocabulary(self, run: Path) -> int:
        """Tokens of the vocabulary of a run that made its rows; FileNotFoundError where it has not yet."""
        return load_vocabulary(find_vocabulary(Path(run) / "data")).vocab_size

    def ready(self, out: Path) -> ReadyRows:
        """The rows, made in `out/data` if need be; raises what `prepare` raises."""
        folder = Path(out) / "data"
        manifest = prepare(self, folder)
        vocabulary = SentencePieceVocabulary.load(folder / VOCABULARY)
        return ReadyRows((RowSet(folder, manifest),), self.layout, vocabulary.vocab_size)


def prepare(config: DataConfig, folder: Path) -> Manifest:
    """Makes the data that `config` describes in `folder`, or goes on where an interrupted call stopped.

    Raises:
      ValueError: the folder holds data of another configuration.
    """
    folder = Path(folder)
    settings = _settings(config)
    claim(folder, settings)
    try:
        return Manifest.read(folder)
    except FileNotFoundError:
        pass
    started = time.monotonic()
    tests = corpus.write_tests(config.corpus, folder)
    held_out = corpus.held_out(config.corpus)
    shards = [corpus.read_shard(path) for path in record_shards(config.corpus, config.form, folder, held_out)]
    return _tokenise(config, folder, settings, shards, tests, started)


def _settings(config: DataConfig) -> str:
    """A hash of what shapes the data."""
    return hashlib.sha256(json.dumps(plain(config), sort_keys=True).encode()).hexdigest()


def record_shards(config: CorpusConfig, form: Compact, folder: Path, held_out: HeldOut, workers: int = 0) -> list[Path]:
    """Records the programs whose shards are not in `folder` yet, in so many processes; the files of all shards."""
    shards = {corpus.shard_path(folder, shard): shard for shard in range(config.shards)}
    jobs = {path: partial(corpus.record_shard, config, form, shard, folder, held_out) for path, shard in shards.items()}
    make_shards("recording programs", jobs, workers)
    return list(jobs)


def _tokenise(
    config: DataConfig, folder: Path, settings: str, shards: list[Shard], tests: dict[str, int], started: float
) -> Manifest:
    episodes = [episode for shard in shards for episode in shard.episodes]
    sample = episodes[:: max(1, len(episodes) // 4000)]
    vocabulary = train_vocabulary(
        ([*episode.context, *episode.frames] for episode in sample), config.vocabulary_size, config.form.control_symbols
    )
    vocabulary.save(folder / VOCABULARY)
    dropped = sum((Counter(shard.dropped) for shard in shards), Counter())
    buckets: dict[int, list[Document]] = {length: [] for length in config.buckets}
    tokens = predicted = 0
    with progress("tokenising", len(episodes), unit="traces") as bar:
        for index, episode in enumerate(episodes):
            document = make_document(vocabulary, episode.segments(config.context_weight))
            length = next((length for length in config.buckets if len(document.tokens) <= length), None)
            if length is None:
                dropped["too many tokens"] += 1
                continue
            buckets[length].append(document)
            tokens += len(document.tokens)
            predicted += int((document.loss_weights == 1).sum())
            if index % 500 == 0:
                bar.update(index)
        bar.update(len(episodes))
    rows = {}
    for bucket in config.layout:
        packed = pack(buckets[bucket.limit], bucket.length, config.documents_per_row)
        rows[bucket.limit] = write_rows(bucket.path(folder), packed)
    families = sum((Counter(shard.programs) for shard in shards), Counter())
    manifest = Manifest(
        settings=settings,
        vocabulary=vocabulary.fingerprint,
        rows=rows,
        documents=sum(map(len, buckets.values())),
        tokens=tokens,
        predicted_tokens=predicted,
        programs=dict(families),
        tests=tests,
        dropped=dict(dropped),
        seconds=round(time.monotonic() - started, 1),
        python=shards[0].python,
    )
    manifest.write(folder)
    return manifest
