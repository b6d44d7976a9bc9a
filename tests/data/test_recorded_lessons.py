"""Lessons of recorded functions: exact in the compact form, split by program, in one vocabulary with generated ones."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cwm_jax.data import recorded
from cwm_jax.data.corpus import CorpusConfig, HeldOut, episode_of, read_shard
from cwm_jax.data.lessons import CodeLesson, Lessons, StageRows, ThoughtLesson, TraceLesson, prepare_lessons
from cwm_jax.data.mixture import Group, MixedSet, Mixture, resolve
from cwm_jax.data.prepared import PreparedRows
from cwm_jax.data.recorded import RecordedPrograms
from cwm_jax.data.rows import RowFile
from cwm_jax.evaluation.trace_suite import KeptTraces, OwnPrograms, TraceSuite
from cwm_jax.text.load import VOCABULARY
from cwm_jax.text.special_tokens import RETURN_SEP, THINKING_END, THINKING_START
from cwm_jax.text.vocabulary import SentencePieceVocabulary
from cwm_jax.tracing import Isolation, parse, record
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.narration import final_of, final_value
from cwm_jax.tracing.quality import Benchmark, Decontamination
from cwm_jax.tracing.sources.program import fingerprint
from cwm_jax.tracing.store import Stored, read_stored
from cwm_jax.tracing.wrap import wrap

ROOT = Path(__file__).parent.parent.parent
BUCKETS = (256, 1024)
NOTHING = HeldOut(frozenset())


def lessons_of(traces: Path, **changes) -> Lessons:
    programs = RecordedPrograms(**{"folder": str(traces), "held_out": 0.4, "tests": 3} | changes)
    stages = (
        StageRows("generated", (TraceLesson(),), BUCKETS),
        StageRows("real", (TraceLesson(), CodeLesson()), BUCKETS, "recorded"),
        StageRows("told", (ThoughtLesson(),), BUCKETS, "recorded"),
    )
    generated = CorpusConfig(strawberry=20, composed=20, tests=4, shards=1)
    return Lessons(stages, generated, programs, vocabulary_size=600, workers=1)


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
    config = lessons_of(traces).recorded
    fit = [one for one in read_stored(traces) if len(one.trace.frames) <= config.max_frames]
    form, learnt = lessons_of(traces).form, {}
    for episode in episodes:
        learnt.setdefault(episode.source, []).append(form.trace(episode.source, episode.frames))
    assert any(config.is_held_out(one.program) for one in fit) and learnt
    for one in fit:
        assert (one.trace in learnt.get(one.trace.context, ())) != config.is_held_out(one.program)
    assert sum(map(len, learnt.values())) == sum(not config.is_held_out(one.program) for one in fit)
    assert manifests["real"].programs["recorded"] == sum(
        one.kind == "trace" and not config.is_held_out(one.program) for one in fit
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
    jobs = programs.jobs(lessons_of(traces).form, HeldOut(frozenset({fingerprint(first.trace.context)})), tmp_path)
    for job in jobs.values():
        job()
    shards = [read_shard(path) for path in jobs]
    learnt = {fingerprint(episode.source) for shard in shards for episode in shard.episodes}
    assert learnt and fingerprint(first.trace.context) not in learnt
    assert sum(shard.dropped["recorded: in a test set"] for shard in shards) > 0


def test_no_set_of_a_mixture_holds_a_program_of_a_benchmark(traces, made, episodes, tmp_path):
    folder, _ = made
    shards = [read_shard(path) for path in sorted((folder / "shards").glob("*.gz"))]
    generated = [episode.source for shard in shards for episode in shard.episodes]
    real = max((episode.source for episode in episodes), key=len)
    planted = [one[: one.index("def main")].strip() for one in (generated[0], generated[-1], real)]
    rows = [{"code": code, "input": "1", "output": "1", "id": str(n)} for n, code in enumerate(planted)]
    path = tmp_path / "cruxeval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = Decontamination.against({"cruxeval": path})
    every = [*generated, *(episode.source for episode in episodes)]
    assert sum(bool(benchmark.benchmark_in(source)) for source in every) >= 3
    lessons = replace(lessons_of(traces), benchmarks=(Benchmark("cruxeval", str(path)),))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        clean = prepare_lessons(lessons, tmp_path / "clean")
    kept = [episode.source for kind in ("shards", "recorded") for path in (tmp_path / "clean" / kind).glob("*.gz")
            for episode in read_shard(path).episodes]  # fmt: skip
    assert kept and not any(benchmark.benchmark_in(source) for source in kept)
    assert set(kept) == {source for source in every if not benchmark.benchmark_in(source)}
    assert clean["generated"].dropped["of a benchmark: cruxeval"] == 2
    assert clean["real"].dropped["recorded: of a benchmark: cruxeval"] >= 1


def test_only_where_a_call_is_stepped_over_its_return_is_given(traces, episodes):
    kinds = {one.trace.context: set() for one in read_stored(traces)}
    for one in read_stored(traces):
        kinds[one.trace.context].add(one.kind)
    assert any(episode.forced for episode in episodes)
    for episode in episodes:
        assert all(episode.frames[index] == RETURN_SEP for index in episode.forced)
        assert not episode.forced or "step-over" in kinds[episode.source]


def test_thoughts_of_a_run_that_raises_say_so_and_so_does_the_answer():
    form, actual = Compact(), record(wrap("def f(x):\n    return 1 // x", "f", "0"), isolation=Isolation.LIMITS_ONLY)
    assert actual.verdict == "raised"
    episode = episode_of(form, form.context(actual.context), actual)
    pieces = [piece for piece, _ in ThoughtLesson().segments(form, episode)]
    start, end = pieces.index(THINKING_START), pieces.index(THINKING_END)
    assert final_value(pieces[start + 1]) == final_of(actual)
    call = pieces[len(form.context(episode.source)) : start]
    answered = form.trace(episode.source, [*call, *pieces[end + 1 :]])
    assert answered.complete and answered.frames == (actual.frames[0], *actual.frames[-2:])


MANY = "def f(x):\n" + "    x += 1\n" * 70 + "    return x"
UNHASHABLE = "def f(d, k):\n    try:\n        d[k] = 1\n    except TypeError:\n        return 0\n    return d"


@pytest.mark.parametrize(("code", "arguments", "reason"), [
    ("def f(x):\n    return x", "1", ""),
    (MANY, "1", "too many frames"),
    (MANY.replace("x):\n", "x):\n    return x\n"), "1", "too many lines of code"),
    ("def f(x):\n    input()\n    return x", "1", "reads what its context does not hold"),
    (UNHASHABLE, "{}, [1]", ""),
])  # fmt: skip
def test_what_is_no_lesson_is_left_out_with_its_reason(code, arguments, reason):
    trace = record(wrap(code, "f", arguments), isolation=Isolation.LIMITS_ONLY)
    stored = Stored("trace", "here", "f", trace)
    found = recorded._episode(RecordedPrograms(""), Compact(), NOTHING, stored)
    assert found == (
        f"recorded: {reason}" if reason else episode_of(Compact(), Compact().context(trace.context), trace)
    )
    unknown = replace(trace, frames=tuple(replace(frame, line=None) for frame in trace.frames))
    found = recorded._episode(RecordedPrograms(""), Compact(), NOTHING, stored._replace(trace=unknown))
    assert found == (f"recorded: {reason}" if reason else "recorded: without line numbers")


def test_what_the_compact_form_does_not_tell_exactly_is_no_lesson():
    trace = record(wrap("def f(x):\n    y = x\n    return y", "f", "1"), isolation=Isolation.LIMITS_ONLY)
    told = recorded._episode(RecordedPrograms(""), Compact(), NOTHING, Stored("trace", "here", "f", trace))
    assert not isinstance(told, str)
    valued = replace(trace.frames[-1], locals=(("x", "1"),))  # the form has no locals at a return
    elsewhere = replace(trace.frames[3], line=1)  # and no label for a line of no program
    for frames in ((*trace.frames[:-1], valued), (*trace.frames[:3], elsewhere, *trace.frames[4:])):
        stored = Stored("trace", "here", "f", replace(trace, frames=frames))
        found = recorded._episode(RecordedPrograms(""), Compact(), NOTHING, stored)
        assert found == "recorded: not exact in the compact form"


def test_a_return_right_after_its_call_is_given_only_where_calls_are_stepped_over():
    form, trace = Compact(), record(wrap("def f(x):\n    return x", "f", "1"), isolation=Isolation.LIMITS_ONLY)
    kept = [frame for frame in trace.frames if frame.source != "    return x\n" or frame.event != "line"]
    trace = replace(trace, frames=tuple(kept))
    assert [frame.event for frame in trace.frames] == ["call", "line", "call", "return", "return"]
    assert episode_of(form, [], trace).forced == []
    over = episode_of(form, [], trace, over=True)
    assert [over.frames[index] for index in over.forced] == [RETURN_SEP]


@pytest.mark.parametrize("error", [ValueError, RecursionError])
def test_what_the_rules_cannot_tell_is_left_out_and_counted(made, episodes, error):
    class Untellable(ThoughtLesson):
        def segments(self, form, episode):
            if episode is episodes[0]:
                raise error
            return [(str(id(episode)), 1.0)]

    vocabulary = SentencePieceVocabulary.load(made[0] / VOCABULARY)
    stage, dropped = StageRows("told", (Untellable(),), BUCKETS, "recorded"), Counter()
    assert len(list(stage.documents(Compact(), vocabulary, episodes, dropped))) == len(episodes) - 1
    assert dropped == {"Untellable: the rules cannot tell it": 1}


def test_tests_are_spread_over_all_shards_each_once(tmp_path):
    for number in range(4):
        lines = [json.dumps({"name": str(name)}) for name in range(20 * number, 20 * number + 30)]
        (tmp_path / f"{number:04d}.tests.jsonl").write_text("\n".join(lines))
    shards = [tmp_path / f"{number:04d}.json.gz" for number in range(4)]
    assert RecordedPrograms("", tests=50).write_tests(shards, tmp_path / "tests.jsonl") == 50
    names = [int(json.loads(line)["name"]) for line in (tmp_path / "tests.jsonl").read_text().splitlines()]
    assert len(set(names)) == 50 and names == sorted(names) and sum(name < 45 for name in names) == 25
    assert RecordedPrograms("", tests=500).write_tests(shards, tmp_path / "tests.jsonl") == 90


def test_kept_traces_are_what_is_asked_for(made):
    model = SimpleNamespace(tests=made[0] / "tests", name="x")
    kept = [item for item in OwnPrograms().items(model) if item.id.startswith("recorded ")]
    assert kept and all(item.truth is not None and item.truth.frames[0].line for item in kept)
    for item in kept:
        again = record(item.context, isolation=Isolation.LIMITS_ONLY)
        assert again.frames == item.truth.frames
        assert [frame.line for frame in again.frames] == [frame.line for frame in item.truth.frames]


def test_traces_of_any_folder_are_a_suite_evenly_over_all(traces):
    model = SimpleNamespace(name="x")
    every = [one for one in read_stored(traces) if one.kind == "trace"]
    some = KeptTraces.of(str(traces), most=5).items(model)
    assert len(some) == 5 < len(every) and {item.kind for item in some} == {"trace"}
    numbers = [int(item.id.split()[1]) for item in some]
    assert set(np.diff(numbers)) <= {len(every) // 5, len(every) // 5 + 1}
    assert [item.truth for item in some] == [every[number].trace for number in numbers]
    whole = KeptTraces.of(str(traces)).items(model)
    assert [item.truth for item in whole] == [one.trace for one in every]
    assert len({item.id for item in whole}) == len(every)
    with pytest.raises(FileNotFoundError, match="nowhere holds no finished traces"):
        KeptTraces.of("nowhere")


def test_a_folder_that_holds_other_traces_is_another_suite(traces, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(traces, copy)
    same = KeptTraces.of(str(copy))
    assert same.digest == KeptTraces.of(str(traces)).digest and TraceSuite(same).name == "traces-in-copy"
    (records,) = copy.glob("*.array_record")
    records.write_bytes(records.read_bytes() + b"\0")
    assert KeptTraces.of(str(copy)) != same


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
    with pytest.raises(ValueError, match=r"holds rows of buckets \[256, 1024\], PreparedRows.buckets=\(256, 1024, 20"):
        PreparedRows(str(tmp_path), size, (*BUCKETS, 2048), (*BUCKETS, 2048)).ready(tmp_path / "longer")


def test_a_vocabulary_beside_any_set_of_a_mixture_is_the_one_of_the_run(made, tmp_path):
    folder, manifests = made
    shutil.copytree(folder / "generated", tmp_path / "bare")
    (tmp_path / "bare" / VOCABULARY).unlink()
    sets = [MixedSet("bare", str(tmp_path / "bare"), max_epochs=100.0), MixedSet("real", str(folder / "real"))]
    resolve(Mixture((Group("all", 1.0, tuple(sets)),), manifests["real"].tokens)).write(tmp_path)
    size = SentencePieceVocabulary.load(folder / VOCABULARY).vocab_size
    PreparedRows(str(tmp_path), size, BUCKETS, BUCKETS).ready(tmp_path / "run")
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
