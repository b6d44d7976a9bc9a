"""Lessons: programs recorded once and told in several ways, as packed rows for each stage of a chain of runs.

    out/shards/             the generated programs and what they do
    out/recorded/           the same of functions that were recorded elsewhere, if there are any
    out/tests/              those that no stage sees
    out/vocabulary.model    one for all stages, trained on every way of telling
    out/told/               the documents of each file of programs, by stage
    out/NAME/               the rows of a stage, which `PreparedRows` reads, with copies of the tests and the vocabulary

Programs are the generated families and, if named, recorded functions; traces are in the compact form, so that a chain
can be learnt in minutes on a CPU. A stage may as well be a set of a `Mixture`.
"""

import hashlib
import io
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import ClassVar, Literal, Protocol

import numpy as np

from cwm_jax.components import plain
from cwm_jax.data import corpus
from cwm_jax.data.buckets import Bucket
from cwm_jax.data.corpus import TESTS, CorpusConfig, Episode, Shard, copy_tests
from cwm_jax.data.documents import make_document
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.prepare import record_shards
from cwm_jax.data.recorded import RecordedPrograms
from cwm_jax.data.rows import MOST_IN_A_ROW, Document, pack, write_rows
from cwm_jax.files import claim, digest_of, in_use, write_whole
from cwm_jax.report.progress import progress
from cwm_jax.text.load import VOCABULARY
from cwm_jax.text.special_tokens import BEGIN_OF_TEXT, END_OF_TEXT, THINKING_END, THINKING_START
from cwm_jax.text.vocabulary import SentencePieceVocabulary, train_vocabulary
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.narration import final_of, narrate
from cwm_jax.tracing.quality import Benchmark
from cwm_jax.tracing.shards import make_shards
from cwm_jax.tracing.store import record_digests
from cwm_jax.tracing.trace import START_MARKER, START_MARKER_PATTERN

_VOCABULARY_EPISODES = 4000  # as many as `prepare` trains a vocabulary on

_CALL = re.compile(rf"^(async )?def \w+\(\):{START_MARKER}\n    return .*\Z", re.MULTILINE | re.DOTALL)

Segments = list[tuple[str, float]]


class Lesson(Protocol):
    """A way of telling an episode.

    Attributes:
      share: of the episodes, drawn by their source.
    """

    share: float

    def segments(self, form: Compact, episode: Episode) -> Segments | None:
        """Its pieces, each with its loss weight; None where it is not told this way.

        Raises:
          ValueError, RecursionError: it should be, and cannot.
        """


@dataclass(frozen=True)
class CodeLesson:
    """The program alone, as plain code, every token learnt: without the call of a run, once for all runs of a shard."""

    share: ClassVar[float] = 1.0

    def segments(self, form: Compact, episode: Episode) -> Segments | None:
        code = START_MARKER_PATTERN.sub("", _CALL.sub("", episode.source)).strip() + "\n"
        return None if episode.forced else [(BEGIN_OF_TEXT, 1.0), (code, 1.0), (END_OF_TEXT, 1.0)]


@dataclass(frozen=True)
class TraceLesson:
    """The program, given, and what it does; of some runs only what comes of a call that is stepped over."""

    share: float = 1.0

    def segments(self, form: Compact, episode: Episode) -> Segments | None:
        return episode.segments(0.0)


@dataclass(frozen=True)
class ThoughtLesson:
    """The program and its call, given; then, as reasoning, what a run does in plain English; then what it returns.

    Attributes:
      share: see `Lesson`.
      longest_told: of a loop with more passes, those between the first and the last are summed up.
    """

    share: float = 1.0
    longest_told: int = 4

    def __post_init__(self):
        if self.longest_told < 2:
            raise ValueError(f"ThoughtLesson.longest_told={self.longest_told} must be at least 2")

    def segments(self, form: Compact, episode: Episode) -> Segments | None:
        if episode.forced:
            return None
        trace = form.trace(episode.source, episode.frames)
        trace = replace(trace, verdict="")  # its frames tell how it ends
        call = form.prefix(trace.context, trace.frames[:1])
        answer = trace.frames[-2:] if final_of(trace).how == "raised" else trace.frames[-1:]
        over = form.frames(replace(trace, frames=(trace.frames[0], *answer)))
        learnt = [narrate(trace, self.longest_told), THINKING_END, *over[len(call) :]]
        given = [*episode.context, *call, THINKING_START]
        return [(piece, 0.0) for piece in given] + [(piece, 1.0) for piece in learnt]


def symbols(form: Compact) -> tuple[str, ...]:
    """The control symbols of all lessons."""
    return (*form.control_symbols, THINKING_START, THINKING_END)


@dataclass(frozen=True)
class StageRows:
    """What one stage learns.

    Attributes:
      name: of its folder.
      lessons: all of whose documents are mixed.
      programs: that are told.
      buckets: tokens of the longest document in each bucket, ascending; the last is the length of every row, and longer
        documents are left out.
    """

    name: str
    lessons: tuple[CodeLesson | TraceLesson | ThoughtLesson, ...]
    buckets: tuple[int, ...]
    programs: Literal["generated", "recorded"] = "generated"

    def __post_init__(self):
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"StageRows.buckets={self.buckets} of {self.name} must be ascending, such as (256, 1024)")
        if wrong := [lesson for lesson in self.lessons if not 0 < lesson.share <= 1]:
            raise ValueError(f"{type(wrong[0]).__name__}.share={wrong[0].share} must be above 0 and at most 1")

    def documents(
        self, form: Compact, vocabulary: SentencePieceVocabulary, episodes: Iterable[Episode], dropped: Counter
    ) -> Iterator[Document]:
        """The documents of episodes, none that its lesson has just told; counts in `dropped` what cannot be told."""
        before: dict[Lesson, Segments] = {}
        for episode in episodes:
            for lesson in self.lessons:
                if Random(f"{type(lesson).__name__} {episode.source}").random() >= lesson.share:
                    continue
                segments = _segments(lesson, form, episode, dropped)
                if segments is not None and segments != before.get(lesson):
                    before[lesson] = segments
                    yield make_document(vocabulary, segments)


def _segments(lesson: Lesson, form: Compact, episode: Episode, dropped: Counter) -> Segments | None:
    """As `lesson.segments`; None, counted, where some real code cannot be told."""
    try:
        return lesson.segments(form, episode)
    except (ValueError, RecursionError):
        dropped[f"{type(lesson).__name__}: the rules cannot tell it"] += 1
        return None


@dataclass(frozen=True)
class Lessons:
    """What `prepare` makes for a chain of runs.

    Attributes:
      stages: in any order; no two have one name.
      corpus: the programs that are generated and recorded; their test sets go with the others.
      recorded: functions that were recorded before, for stages that tell those.
      benchmarks: whose programs are not learnt, wherever they come from.
      form: how a trace is written.
      vocabulary_size: pieces at most; fewer where the programs have fewer.
      workers: processes that record and tell; 0: one for each core.
    """

    stages: tuple[StageRows, ...]
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    recorded: RecordedPrograms | None = None
    benchmarks: tuple[Benchmark, ...] = ()
    form: Compact = field(default_factory=Compact)
    vocabulary_size: int = 640
    workers: int = 0

    def __post_init__(self):
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Lessons.stages={names} must be at least one, each with a StageRows.name of its own")
        telling = [stage.name for stage in self.stages if stage.programs == "recorded"]
        if telling and self.recorded is None:
            raise ValueError(f"{telling} tell recorded programs; bind Lessons.recorded = @RecordedPrograms()")


def prepare_lessons(lessons: Lessons, folder: Path, workers: int = 0) -> dict[str, Manifest]:
    """Makes `folder` hold what `lessons` describe, goes on making it, or reads what it holds; manifests by stage.

    Args:
      workers: processes, in place of `lessons.workers`.

    Raises:
      ValueError: the folder holds other lessons, another process makes them, or a stage has no document.
      OSError: the disk is full.
    """
    folder, started = Path(folder), time.monotonic()
    with in_use(folder):
        held_out = corpus.held_out(lessons.corpus, lessons.benchmarks)
        settings = _settings(lessons)
        claim(folder, settings)
        try:
            return {stage.name: Manifest.read(folder / stage.name) for stage in lessons.stages}
        except FileNotFoundError:
            pass
        tests = corpus.write_tests(lessons.corpus, folder)
        paths = {"generated": record_shards(lessons.corpus, lessons.form, folder, held_out, workers or lessons.workers)}
        if lessons.recorded:
            reading = lessons.recorded.jobs(lessons.form, held_out, folder / "recorded")
            make_shards("reading recorded programs", reading, workers or lessons.workers)
            paths["recorded"] = list(reading)
            tests["recorded"] = lessons.recorded.write_tests(reading, folder / TESTS / "recorded.jsonl")
        vocabulary = _vocabulary(lessons, folder, paths)
        told: dict[str, list[Path]] = {source: [] for source in paths}
        telling = {}
        for source, some in paths.items():
            for number, shard in enumerate(some):
                path = folder / "told" / f"{source}-{number:04d}.npz"
                telling[path] = partial(_write_documents, lessons, source, shard, folder / VOCABULARY, path)
                told[source].append(path)
        make_shards("telling", telling, workers or lessons.workers)
        found = {"settings": settings, "vocabulary": vocabulary.fingerprint, "tests": tests}
        found["seconds"] = round(time.monotonic() - started, 1)
        with progress("packing", len(lessons.stages), unit="stages") as bar:
            manifests = {}
            for stage in lessons.stages:
                manifests[stage.name] = _pack(stage, told[stage.programs], folder / stage.name, found)
                bar.update(len(manifests))
        return manifests


def _shards(paths: Mapping[str, Sequence[Path]]) -> Iterator[tuple[str, Shard]]:
    """The shards of each source of programs, one at a time."""
    for source, some in paths.items():
        for path in some:
            yield source, corpus.read_shard(path)


def _settings(lessons: Lessons) -> str:
    """A hash of what shapes the rows; how many processes record does not, nor where recorded traces lie."""
    shaping = plain(lessons)
    del shaping["workers"]
    shaping["benchmarks"] = [(one.name, digest_of(Path(one.path))) for one in lessons.benchmarks]
    if lessons.recorded:
        shaping["recorded"] |= {"folder": record_digests(lessons.recorded.folder)}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def _vocabulary(lessons: Lessons, folder: Path, paths: Mapping[str, Sequence[Path]]) -> SentencePieceVocabulary:
    """The vocabulary, trained on some episodes of each source told in every way if it is not there."""
    path = folder / VOCABULARY
    if not path.exists():
        pieces = (
            [piece for piece, _ in _segments(lesson, lessons.form, episode, Counter()) or ()]
            for source, some in paths.items()
            for episode in _sample([episode for _, shard in _shards({source: some}) for episode in shard.episodes])
            for lesson in dict.fromkeys(
                lesson for stage in lessons.stages if stage.programs == source for lesson in stage.lessons
            )
        )
        train_vocabulary(pieces, lessons.vocabulary_size, symbols(lessons.form)).save(path)
    return SentencePieceVocabulary.load(path)


def _sample(episodes: list[Episode]) -> list[Episode]:
    return episodes[:: max(1, len(episodes) // _VOCABULARY_EPISODES)]


def _write_documents(lessons: Lessons, source: str, shard: Path, vocabulary: Path, path: Path) -> None:
    """Writes what all stages that tell the programs of `source` learn of a shard, and what is left out."""
    spelling, whole = SentencePieceVocabulary.load(vocabulary), corpus.read_shard(shard)
    arrays: dict[str, np.ndarray] = {}
    for stage in lessons.stages:
        if stage.programs == source:
            total = Shard(whole.python, whole.programs, Counter(whole.dropped))
            documents = list(stage.documents(lessons.form, spelling, whole.episodes, total.dropped))
            fit = [document for document in documents if len(document.tokens) <= stage.buckets[-1]]
            if len(fit) < len(documents):
                total.dropped["too many tokens"] += len(documents) - len(fit)
            documents = fit
            arrays[f"{stage.name}.lengths"] = np.array([len(document.tokens) for document in documents], np.int64)
            for kind, some in zip(Document._fields, zip(*documents)):
                arrays[f"{stage.name}.{kind}"] = np.concatenate(some)
            arrays[f"{stage.name}.total"] = np.array(json.dumps(vars(total)))
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    write_whole(path, file.getvalue())


def _pack(stage: StageRows, told: Iterable[Path], folder: Path, found: dict) -> Manifest:
    """Writes the rows of a stage and the manifest, last; `found` is what that tells of all stages alike."""
    buckets: dict[int, list[Document]] = {limit: [] for limit in stage.buckets}
    total = Shard(programs=Counter(), dropped=Counter())
    for path in told:
        with np.load(path) as arrays:
            one = Shard(**json.loads(str(arrays[f"{stage.name}.total"])))
            ends = np.cumsum(arrays[f"{stage.name}.lengths"])
            fields = [np.split(arrays[f"{stage.name}.{kind}"], ends[:-1]) for kind in Document._fields if len(ends)]
        total.programs.update(one.programs)
        total.dropped.update(one.dropped)
        total.python = one.python or total.python
        for document in map(Document, *fields) if fields else ():
            buckets[next(limit for limit in stage.buckets if len(document.tokens) <= limit)].append(document)
    documents = [document for some in buckets.values() for document in some]
    if not documents:
        raise ValueError(
            f"no program of {stage.name} fits StageRows.buckets={stage.buckets}, in tokens; left out are "
            f"{dict(total.dropped)}. Widen the buckets, in another folder"
        )
    length, rows = stage.buckets[-1], {}
    for limit, some in buckets.items():
        rows[limit] = write_rows(Bucket(limit, length).path(folder), pack(some, length, MOST_IN_A_ROW))
    write_whole(folder / VOCABULARY, (folder.parent / VOCABULARY).read_bytes())
    copy_tests(folder.parent, folder)
    manifest = Manifest(
        rows=rows,
        documents=len(documents),
        tokens=sum(len(document.tokens) for document in documents),
        predicted_tokens=sum(int((document.loss_weights == 1).sum()) for document in documents),
        programs=dict(total.programs),
        dropped=dict(total.dropped),
        python=total.python,
        **found,
    )
    manifest.write(folder)
    return manifest
