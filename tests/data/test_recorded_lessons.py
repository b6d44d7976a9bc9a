"""Lessons of recorded functions: exact in the compact form, split by program, in one vocabulary with generated ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cwm_jax.data.corpus import CorpusConfig, read_shard
from cwm_jax.data.lessons import CodeLesson, Lessons, StageRows, ThoughtLesson, TraceLesson, prepare_lessons
from cwm_jax.data.mixture import Group, MixedSet, Mixture, resolve
from cwm_jax.data.prepared import PreparedRows
from cwm_jax.data.recorded import RecordedPrograms
from cwm_jax.data.rows import RowFile
from cwm_jax.text.load import VOCABULARY
from cwm_jax.text.special_tokens import RETURN_SEP, THINKING_END, THINKING_START
from cwm_jax.text.vocabulary import SentencePieceVocabulary
from cwm_jax.tracing import parse
from cwm_jax.tracing.sources.program import fingerprint
from cwm_jax.tracing.store import read_stored

ROOT = Path(__file__).parent.parent.parent
BUCKETS = (256, 1024)


def lessons_of(traces: Path, **changes) -> Lessons:
    recorded = RecordedPrograms(**{"folder": str(traces), "held_out": 0.4, "tests": 3} | changes)
    stages = (
        StageRows("generated", (TraceLesson(),), BUCKETS),
        StageRows("real", (TraceLesson(), CodeLesson()), BUCKETS, "recorded"),
        StageRows("told", (ThoughtLesson(),), BUCKETS, "recorded"),
    )
    programs = CorpusConfig(strawberry=20, composed=20, tests=4, shards=1)
    return Lessons(stages, programs, recorded, vocabulary_size=600, workers=1)


@pytest.fixture(scope="module")
def made(traces, tmp_path_factory, one_cluster):
    folder = tmp_path_factory.mktemp("lessons")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return folder, prepare_lessons(lessons_of(traces), folder)


@pytest.fixture(scope="module")
def episodes(made):
    return [episode for path in sorted((made[0] / "recorded").glob("*.gz")) for episode in read_shard(path).episodes]


def test_every_recorded_trace_is_learnt_tested_or_counted(traces, made, episodes):
    _, manifests = made
    recorded = lessons_of(traces).recorded
    fit = [one for one in read_stored(traces) if len(one.trace.frames) <= recorded.max_frames]
    form, learnt = lessons_of(traces).form, {}
    for episode in episodes:
        learnt.setdefault(episode.source, []).append(form.trace(episode.source, episode.frames))
    assert any(recorded.is_held_out(one.program) for one in fit) and learnt
    for one in fit:
        assert (one.trace in learnt.get(one.trace.context, ())) != recorded.is_held_out(one.program)
    assert sum(map(len, learnt.values())) == sum(not recorded.is_held_out(one.program) for one in fit)
    assert manifests["real"].programs["recorded"] == sum(
        one.kind == "trace" and not recorded.is_held_out(one.program) for one in fit
    )


def test_tests_are_one_trace_of_a_program_that_no_row_tells(traces, made, episodes):
    folder, manifests = made
    tests = [json.loads(line) for line in (folder / "tests" / "recorded.jsonl").read_text().splitlines()]
    assert 0 < len(tests) == manifests["real"].tests["recorded"] <= 3
    truths = {one.trace.context: one.trace for one in read_stored(traces) if one.kind == "trace"}
    seen = {fingerprint(episode.source) for episode in episodes}
    found = [fingerprint(test["context"]) for test in tests]
    assert len(set(found)) == len(found) and not seen & set(found)
    for test in tests:
        assert parse(test["text"]) == truths[test["context"]]


def test_a_program_of_another_test_set_is_not_learnt(traces, tmp_path, made):
    first = next(read_stored(traces))
    programs = lessons_of(traces, held_out=0.0).recorded
    jobs = programs.jobs(lessons_of(traces).form, frozenset({fingerprint(first.trace.context)}), tmp_path)
    for job in jobs.values():
        job()
    shards = [read_shard(path) for path in jobs]
    learnt = {fingerprint(episode.source) for shard in shards for episode in shard.episodes}
    assert learnt and fingerprint(first.trace.context) not in learnt
    assert sum(shard.dropped["recorded: in a test set"] for shard in shards) > 0


def test_only_where_a_call_is_stepped_over_its_return_is_given(traces, episodes):
    kinds = {one.trace.context: set() for one in read_stored(traces)}
    for one in read_stored(traces):
        kinds[one.trace.context].add(one.kind)
    assert any(episode.forced for episode in episodes)
    for episode in episodes:
        assert all(episode.frames[index] == RETURN_SEP for index in episode.forced)
        assert not episode.forced or "step-over" in kinds[episode.source]


def test_stages_tell_their_own_programs_in_the_one_vocabulary(made, episodes):
    folder, manifests = made
    vocabulary = SentencePieceVocabulary.load(folder / VOCABULARY)
    thinks = {vocabulary.token_id(THINKING_START), vocabulary.token_id(THINKING_END)}
    texts = {}
    for name, manifest in manifests.items():
        rows = [RowFile(folder / name / f"rows-{limit}.array_record").read(np.arange(count)).tokens
                for limit, count in manifest.rows.items() if count]  # fmt: skip
        tokens = np.concatenate([some.ravel() for some in rows])
        assert bool(thinks & set(tokens.tolist())) == (name == "told")
        texts[name] = vocabulary.decode(tokens[tokens > 0])
        assert manifest.vocabulary == vocabulary.fingerprint
    definitions = {line for one in episodes for line in one.source.splitlines() if line.startswith("def ")}
    definitions = {line for line in definitions if "main" not in line}
    assert any(line in texts["real"] for line in definitions)
    assert not any(line in texts["generated"] for line in definitions)


def test_a_run_can_draw_from_the_stages_as_sets_of_a_mixture(made, tmp_path):
    folder, manifests = made
    sets = tuple(MixedSet(name, str(folder / name), max_epochs=100.0) for name in manifests)
    tokens = 4 * sum(manifest.tokens for manifest in manifests.values())
    resolve(Mixture((Group("all", 1.0, sets),), tokens)).write(tmp_path)
    size = SentencePieceVocabulary.load(folder / VOCABULARY).vocab_size
    ready = PreparedRows(str(tmp_path), size, BUCKETS, BUCKETS).ready(tmp_path / "run")
    assert [one.folder.name for one in ready.sets] == list(manifests)
    assert ready.seconds == manifests["real"].seconds
    assert (tmp_path / "run" / "data" / VOCABULARY).read_bytes() == (folder / VOCABULARY).read_bytes()


def test_what_cannot_be_is_refused(traces, made, tmp_path):
    with pytest.raises(ValueError, match=r"\['real', 'told'\] tell recorded programs; bind Lessons.recorded = @Rec"):
        replace(lessons_of(traces), recorded=None)
    with pytest.raises(ValueError, match=r"RecordedPrograms.held_out=1.0"):
        RecordedPrograms("", held_out=1.0)
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no finished traces; make them with"):
        prepare_lessons(lessons_of(Path("nowhere")), tmp_path)
    with pytest.raises(ValueError, match="another configuration"):
        prepare_lessons(lessons_of(traces, max_frames=32), made[0])
