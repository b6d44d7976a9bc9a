"""Lessons: one recording told in several ways, in one vocabulary, with nothing learnt that is given."""

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cwm_jax.data.corpus import CorpusConfig, copy_tests, read_shard, shard_path
from cwm_jax.data.lessons import (
    CodeLesson,
    Lessons,
    StageRows,
    ThoughtLesson,
    TraceLesson,
    _settings,
    _write_documents,
    prepare_lessons,
    symbols,
)  # fmt: skip
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.prepared import PreparedRows
from cwm_jax.data.rows import RowFile
from cwm_jax.text.load import VOCABULARY
from cwm_jax.text.special_tokens import THINKING_END, THINKING_START
from cwm_jax.text.vocabulary import SentencePieceVocabulary
from cwm_jax.tracing import Isolation, record
from cwm_jax.tracing.narration import final_of, final_value
from cwm_jax.tracing.quality import Benchmark
from cwm_jax.tracing.trace import START_MARKER_PATTERN
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.prepare_cli import root_of

LESSONS = Lessons(
    stages=(
        StageRows("code", (CodeLesson(),), (256,)),
        StageRows("traces", (TraceLesson(),), (256, 1024)),
        StageRows("thoughts", (ThoughtLesson(), TraceLesson(share=0.3)), (2048,)),
    ),
    corpus=CorpusConfig(
        strawberry=40, composed=40, methods=20, inputs=2, step_over=0.5, tests=5, shards=2, max_frames=24
    ),
    workers=1,
)
FORM = LESSONS.form


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    os.chdir(Path(__file__).parent.parent.parent)
    folder = tmp_path_factory.mktemp("lessons")
    return folder, prepare_lessons(LESSONS, folder)


@pytest.fixture(scope="module")
def episodes(made):
    return [episode for shard in range(2) for episode in read_shard(shard_path(made[0], shard)).episodes]


def _vocabulary(made):
    return SentencePieceVocabulary.load(made[0] / VOCABULARY)


def test_what_all_families_do_is_told(made):
    _, manifests = made
    assert set(manifests["traces"].programs) == {"strawberry", "composed", "methods"}
    assert manifests["traces"].tests["methods"] == 5


def test_all_stages_have_one_vocabulary_that_spells_everything_there(made, episodes):
    folder, manifests = made
    vocabulary = SentencePieceVocabulary.load(folder / VOCABULARY)
    assert set(symbols(FORM)) <= set(vocabulary.control_tokens)
    for stage in LESSONS.stages:
        assert manifests[stage.name].vocabulary == vocabulary.fingerprint
        assert (folder / stage.name / VOCABULARY).read_bytes() == vocabulary.model
        for lesson in stage.lessons:
            for episode in episodes[:20]:
                pieces = [piece for piece, _ in lesson.segments(FORM, episode) or ()]
                assert vocabulary.decode(vocabulary.encode_segments(pieces)) == "".join(pieces)


def test_code_is_the_program_without_the_call_of_a_run(episodes):
    for episode in episodes:
        segments = CodeLesson().segments(FORM, episode)
        if episode.forced:  # it is told with the trace that the episode was cut from
            assert segments is None
            continue
        _, (code, weight), _ = segments
        assert weight == 1 and not START_MARKER_PATTERN.search(code)
        compile(code, "code", "exec")
        assert not re.search(r"^def main", code, re.MULTILINE) and episode.source.lstrip().startswith(code.rstrip())


def test_a_program_is_code_once_however_often_it_was_run(made, episodes):
    codes = {CodeLesson().segments(FORM, episode)[1] for episode in episodes if not episode.forced}
    runs = sum(not episode.forced for episode in episodes)
    documents = list(LESSONS.stages[0].documents(FORM, _vocabulary(made), episodes, Counter()))
    assert runs > len(documents) == len(codes) > 40


def test_thoughts_tell_the_real_run_and_the_answer_is_what_it_returns(episodes):
    told = 0
    for episode in episodes:
        segments = ThoughtLesson().segments(FORM, episode)
        if segments is None:
            assert episode.forced
            continue
        told += 1
        actual = record(episode.source, isolation=Isolation.LIMITS_ONLY)
        pieces = [piece for piece, _ in segments]
        start, end = pieces.index(THINKING_START), pieces.index(THINKING_END)
        assert pieces.count(THINKING_START) == pieces.count(THINKING_END) == 1
        assert final_value(pieces[start + 1]) == final_of(actual) and end == start + 2
        call = pieces[len(FORM.context(episode.source)) : start]
        answered = FORM.trace(episode.source, [*call, *pieces[end + 1 :]])
        assert answered.complete and answered.frames == (actual.frames[0], actual.frames[-1])
        weights = [weight for _, weight in segments]
        assert weights == [0.0] * (start + 1) + [1.0] * (len(pieces) - start - 1)
    assert told > 50


def test_rows_hold_what_the_manifests_count_in_buckets_of_one_length(made):
    folder, manifests = made
    for stage in LESSONS.stages:
        manifest, tokens, predicted = manifests[stage.name], 0, 0
        assert manifest == Manifest.read(folder / stage.name)
        shorter = 0
        for limit, count in manifest.rows.items():
            if not count:
                continue
            rows = RowFile(folder / stage.name / f"rows-{limit}.array_record").read(np.arange(count))
            assert rows.tokens.shape == (count, stage.buckets[-1])
            for segments in rows.segment_ids:
                lengths = np.bincount(segments)[1:]
                assert ((shorter < lengths) & (lengths <= limit)).all()
            tokens += int((rows.segment_ids > 0).sum())
            predicted += int((rows.loss_weights == 1).sum())
            shorter = limit
        assert tokens == manifest.tokens > 0
        if stage.name != "code":  # there every token has weight 1, the first included, which nothing predicts
            assert predicted == manifest.predicted_tokens


def test_a_second_call_reads_what_is_there_and_other_lessons_are_refused(made):
    folder, manifests = made
    assert prepare_lessons(replace(LESSONS, workers=2), folder) == manifests
    with pytest.raises(ValueError, match="another configuration"):
        prepare_lessons(replace(LESSONS, vocabulary_size=600), folder)


def test_a_test_set_that_is_gone_is_gone_in_a_copy_too(made, tmp_path):
    copy_tests(made[0], tmp_path)
    (tmp_path / "tests" / "gone.jsonl").write_text("{}\n")
    copy_tests(made[0], tmp_path)
    assert not (tmp_path / "tests" / "gone.jsonl").exists()
    assert {path.name for path in (tmp_path / "tests").iterdir()} == {
        path.name for path in (made[0] / "tests").iterdir()
    }


def test_a_benchmark_that_has_changed_makes_other_lessons(made, tmp_path):
    path = tmp_path / "cruxeval.jsonl"
    path.write_text(json.dumps({"code": "def f(x):\n    return x", "input": "1", "output": "1", "id": "0"}) + "\n")
    one = replace(LESSONS, benchmarks=(Benchmark("cruxeval", str(path)),))
    before = _settings(one)
    assert before == _settings(one) != _settings(LESSONS)
    path.write_text(path.read_text() * 2)
    assert _settings(one) != before
    with pytest.raises(FileNotFoundError):
        prepare_lessons(replace(LESSONS, benchmarks=(Benchmark("cruxeval", "nowhere"),)), tmp_path / "out")
    assert not (tmp_path / "out" / "settings").exists()  # the folder is free for the call that names it right


def test_what_fits_the_last_bucket_to_the_token_is_kept_and_what_does_not_is_counted(made, tmp_path):
    shard = shard_path(made[0], 0)
    whole, few = StageRows("whole", (TraceLesson(),), (4096,)), read_shard(shard).episodes
    lengths = sorted(len(one.tokens) for one in whole.documents(FORM, _vocabulary(made), few, Counter()))
    for limit, kept in ((lengths[-1], len(lengths)), (lengths[-1] - 1, sum(n < lengths[-1] for n in lengths))):
        lessons = Lessons((StageRows("cut", (TraceLesson(),), (limit,)),), LESSONS.corpus)
        _write_documents(lessons, "generated", shard, made[0] / VOCABULARY, tmp_path / "told.npz")
        told = np.load(tmp_path / "told.npz")
        assert sorted(told["cut.lengths"].tolist()) == lengths[:kept]
        assert json.loads(str(told["cut.total"]))["dropped"].get("too many tokens", 0) == len(lengths) - kept


def test_telling_goes_on_where_it_was_stopped_and_comes_to_the_same_bytes(made, tmp_path):
    folder, manifests = made
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for stage in LESSONS.stages:
        shutil.rmtree(copy / stage.name)
    told = sorted((copy / "told").iterdir())
    kept = told[0].stat().st_mtime_ns
    told[1].unlink()
    again = prepare_lessons(LESSONS, copy)
    assert told[0].stat().st_mtime_ns == kept and told[1].exists()
    for name, manifest in again.items():
        assert replace(manifest, seconds=0) == replace(manifests[name], seconds=0)
        for path in (folder / name).glob("rows-*"):
            assert (copy / name / path.name).read_bytes() == path.read_bytes()


def test_a_share_is_of_programs_and_the_same_every_time(made, episodes):
    vocabulary = SentencePieceVocabulary.load(made[0] / VOCABULARY)
    stage = StageRows("some", (TraceLesson(share=0.5),), (1024,))
    some = [document.tokens.tolist() for document in stage.documents(FORM, vocabulary, episodes, Counter())]
    assert 0.3 * len(episodes) < len(some) < 0.7 * len(episodes)
    assert some == [document.tokens.tolist() for document in stage.documents(FORM, vocabulary, episodes, Counter())]


def test_a_run_takes_the_vocabulary_and_the_tests_beside_its_rows(made, tmp_path):
    folder = made[0] / "traces"
    size = SentencePieceVocabulary.load(folder / VOCABULARY).vocab_size
    rows = PreparedRows(str(folder), size, buckets=(256, 1024), windows=(256, 1024))
    assert rows.ready(tmp_path).vocab_size == size
    assert (tmp_path / "data" / VOCABULARY).read_bytes() == (folder / VOCABULARY).read_bytes()
    taken = {path.name: path.read_bytes() for path in (tmp_path / "data" / "tests").iterdir()}
    assert taken == {path.name: path.read_bytes() for path in (made[0] / "tests").iterdir()} and len(taken) == 6
    with pytest.raises(ValueError, match=f"bind PreparedRows.vocabulary_size = {size}"):
        replace(rows, vocabulary_size=size + 1).ready(tmp_path)


@pytest.mark.parametrize(("wrong", "told"), [
    (lambda: StageRows("x", (CodeLesson(),), (512, 256)), "ascending"),
    (lambda: StageRows("x", (TraceLesson(share=0.0),), (256,)), "TraceLesson.share=0.0"),
    (lambda: ThoughtLesson(longest_told=1), "ThoughtLesson.longest_told=1"),
    (lambda: Lessons(stages=()), "at least one"),
    (lambda: Lessons(stages=(LESSONS.stages[0], LESSONS.stages[0])), "name of its own"),
])  # fmt: skip
def test_what_cannot_be_is_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()


def test_bindings_of_the_programs_alone_are_an_experiments_and_not_of_lessons():
    assert root_of([], ["CorpusConfig.strawberry=5"]) is Experiment
    assert root_of([], ["CorpusConfig.strawberry=5", "Lessons.workers=1"]) is Lessons
