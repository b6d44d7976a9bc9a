"""Runs of tasks that talk, and hidden state, from their sources through the corpus into rows."""

import shutil
from collections import Counter
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_rows import ROOT, documents, vocabulary_of

from cwm_jax.data.packed_dataset import PackedDataset, pack_dataset
from cwm_jax.data.traces import Narrations, RecordedTraces
from cwm_jax.text.special_tokens import RETURN_SEP, TASK_SEP, TRACE_TOKENS
from cwm_jax.text.vocabulary import train_vocabulary
from cwm_jax.tracing import Hidden, Isolation, render
from cwm_jax.tracing.corpus import TraceCorpus, prepare_traces
from cwm_jax.tracing.episodes import step_over_tasks
from cwm_jax.tracing.explore import Explorer
from cwm_jax.tracing.hidden import render_hidden
from cwm_jax.tracing.sources.concurrent import ConcurrentPrograms
from cwm_jax.tracing.sources.functions import Functions
from cwm_jax.tracing.store import Stored, finished_datasheet, from_bytes, read_stored, to_bytes
from cwm_jax.tracing.tasks import Message, Step, TaskRun, parse_tasks, render_tasks
from cwm_jax.tracing.trace import Frame

BUCKETS = (4_096, 65_536)
PROGRAMS = ("pool_map", "process_pipe", "bounded_buffer")
SHARED = """\
def spread(rows: list, count: int):
    grid = [rows] * 2
    for row in grid:
        for step in range(count):
            row.append(step)
    return grid
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, one_cluster):
    folder = tmp_path_factory.mktemp("talking")
    (folder / "programs").mkdir()
    for name in PROGRAMS:
        shutil.copy(ROOT / "experiments/data/concurrent" / f"{name}.py", folder / "programs")
    (folder / "programs" / "alone.py").write_text("def main():\n    print(1)\n\n\nmain()\n")
    (folder / "programs" / "torn.py").write_text("def main(:\n")
    (folder / "programs" / "stuck.py").write_text(
        "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\n"
    )
    (folder / "shared.py").write_text(SHARED)
    hidden = Functions((str(folder / "shared.py"),), explorer=Explorer(hidden=Hidden()))
    sources = (ConcurrentPrograms((str(folder / "programs"),), schedules=3), hidden)
    prepare_traces(TraceCorpus(sources, step_over=1.0), folder / "out", 2)
    return folder / "out"


def test_schedules_differ_and_what_is_no_use_is_counted(corpus):
    stored, sheet = list(read_stored(corpus)), finished_datasheet(corpus)
    runs = Counter(one.origin for one in stored if one.kind == "tasks")
    assert set(runs) == {f"{name}.py" for name in PROGRAMS} and max(runs.values()) > 1
    assert sheet["traces"] == sum(one.kind in ("trace", "tasks") for one in stored)
    assert {"deadlock", "a script that starts no task", "a script that does not parse"} <= set(sheet["dropped"])
    for one in stored:
        assert from_bytes(to_bytes(one)) == one
        assert all(frame.line for frame in one.trace.frames)
    assert "tasks-step-over" in sheet["kinds"] and "Samples" in (corpus / "datasheet.html").read_text()


@given(st.integers(), st.floats(0, 1), st.data())
@settings(deadline=None, max_examples=40)
def test_stepping_over_keeps_what_tasks_tell_each_other(corpus, seed, enter, data):
    runs = [one.trace for one in read_stored(corpus) if one.kind == "tasks"]
    run = data.draw(st.sampled_from(runs))
    episode = step_over_tasks(run, Random(seed), enter)
    assert parse_tasks(render_tasks(episode)) == episode
    steps = iter(run.steps)
    assert all(step in steps for step in episode.steps)  # the same ones, in their order
    assert [s for s in episode.steps if isinstance(s.what, Message)] == [
        s for s in run.steps if isinstance(s.what, Message)
    ]
    assert len(list(episode.causes())) == len(list(run.causes()))
    for task in run.tasks:
        depth = 0
        for frame in episode.trace(task.number).frames:
            depth += {"call": 1, "return": -1}.get(frame.event, 0)
        assert depth == 0
    assert step_over_tasks(run, Random(seed), 1.0) == run


def answered_at_once(run) -> int:
    """Calls that the next step of their task returns from."""
    steps = [[step.what for step in run.steps if step.task == task.number] for task in run.tasks]
    events = [[what.event if isinstance(what, Frame) else what.kind for what in some] for some in steps]
    return sum(pair == ("call", "return") for some in events for pair in pairwise(some))


def test_rows_hold_the_runs_in_their_own_text(corpus, tmp_path):
    vocabulary = vocabulary_of(corpus)
    kinds = ("tasks", "tasks-step-over")
    pack_dataset(
        PackedDataset(RecordedTraces(str(corpus), kinds), str(corpus / "vocabulary.model"), BUCKETS),
        tmp_path / "rows",
        1,
    )
    found = documents(tmp_path / "rows", vocabulary, BUCKETS)
    stored = {render_tasks(one.trace): one for one in read_stored(corpus) if one.kind in kinds}
    assert set(found) == set(stored)
    given_returns = 0
    for text, (tokens, weights) in found.items():
        tokens = list(tokens)
        first = tokens.index(vocabulary.token_id(TASK_SEP))
        assert not np.any(weights[:first]) and vocabulary.decode(tokens[:first]) == text[: text.index(TASK_SEP)]
        run, stepped = stored[text].trace, stored[text].kind == "tasks-step-over"
        assert int(np.sum(weights[first:] == 0)) == (answered_at_once(run) if stepped else 0)
        unlearnt = {token for token, weight in zip(tokens[first:], weights[first:]) if weight == 0}
        assert unlearnt <= ({vocabulary.token_id(RETURN_SEP)} if stored[text].kind == "tasks-step-over" else set())
        given_returns += len(unlearnt)
    assert given_returns


def test_hidden_state_is_in_the_rows_where_it_is_asked_for(corpus, tmp_path):
    vocabulary, path = vocabulary_of(corpus), str(corpus / "vocabulary.model")
    stored = [one for one in read_stored(corpus) if one.kind in ("trace", "step-over")]
    assert all(frame.hidden is not None for one in stored for frame in one.trace.frames if frame.locals is not None)
    assert any("grid[0] is grid[1]" in text for one in stored for text in one.trace.values())
    for hidden, text in ((True, render_hidden), (False, render)):
        asked = RecordedTraces(str(corpus), ("trace", "step-over"), hidden=hidden)
        pack_dataset(PackedDataset(asked, path, BUCKETS), tmp_path / str(hidden), 1)
        assert set(documents(tmp_path / str(hidden), vocabulary, BUCKETS)) == {text(one.trace) for one in stored}


def test_what_makes_no_sense_is_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"Narrations.kinds holds \['tasks'\], which no rule tells"):
        Narrations(str(corpus), kinds=("trace", "tasks"))
    train_vocabulary(["def f(): return 1"], 400, TRACE_TOKENS).save(tmp_path / "plain.model")
    with pytest.raises(ValueError, match=r"plain.model lacks <\|task_sep\|>"):
        pack_dataset(
            PackedDataset(RecordedTraces(str(corpus)), str(tmp_path / "plain.model"), BUCKETS), tmp_path / "rows"
        )
    with pytest.raises(ValueError, match="schedules=0 must be at least 1"):
        ConcurrentPrograms(("x",), schedules=0)
    with pytest.raises(ValueError, match=r"ConcurrentPrograms\.paths is empty"):
        ConcurrentPrograms(())
    with pytest.raises(FileNotFoundError, match=r"ConcurrentPrograms\.paths names 'nowhere/here': no folder"):
        ConcurrentPrograms(("nowhere/here",)).parts(tmp_path)


def test_a_file_that_cannot_be_read_is_counted(tmp_path):
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (part,) = ConcurrentPrograms((str(tmp_path),)).parts(tmp_path)
    dropped = Counter()
    assert part.mark and not list(part.record(Isolation.LIMITS_ONLY, dropped))
    assert dropped == {"file cannot be read": 1}


def test_a_return_answers_the_call_of_its_own_task_alone():
    call, leave = Frame("call", "def f():\n", locals=()), Frame("return", "    return\n", value="None")
    spawn = Message("spawn", (("task", "1"), ("kind", "thread"), ("name", "w")))
    steps = (Step(0, call), Step(0, spawn), Step(1, call), Step(0, leave), Step(1, leave))
    stored = Stored("tasks-step-over", "x.py", "", TaskRun("def f():\n    return\n", steps))
    segments = RecordedTraces("unread").text(stored, Counter()).segments
    assert [weight for piece, weight in segments if piece == RETURN_SEP] == [1.0, 0.0]
