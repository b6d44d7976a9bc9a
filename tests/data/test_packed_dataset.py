"""From recorded traces to rows that train, by the verb as its users run it: nothing lost, nothing twice."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_rows import BUCKETS, ROOT, documents, gin, prepare, verb, vocabulary_of

from cwm_jax.data.manifest import Manifest
from cwm_jax.data.packed_dataset import DOCUMENTS, PackedDataset, pack_dataset
from cwm_jax.data.traces import Narrations, RecordedTraces
from cwm_jax.records import read_records, write_records
from cwm_jax.text.special_tokens import CALL_SEP, RETURN_SEP, TRACE_TOKENS
from cwm_jax.text.vocabulary import train_vocabulary
from cwm_jax.tracing import render
from cwm_jax.tracing.language import source_lines
from cwm_jax.tracing.store import finished_datasheet, from_bytes, read_stored, to_bytes


@pytest.fixture(scope="module")
def rows(traces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    done = prepare("--gin_file", gin(folder, traces), "--out", folder / "rows", "--workers", 2)
    assert done.returncode == 0, done.stderr
    return folder / "rows"


def digests(folder: Path) -> dict[str, str]:
    paths = [*folder.glob("rows-*"), folder / DOCUMENTS]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_rows_hold_every_trace_and_the_tokens_that_the_datasheet_counts(traces, rows):
    sheet, manifest = finished_datasheet(traces), Manifest.read(rows)
    assert manifest.tokens == sheet["tokens"] and manifest.programs == sheet["kinds"]
    assert manifest.python == sheet["python"] and not manifest.dropped
    stored = list(read_stored(traces))
    assert set(documents(rows, vocabulary_of(traces))) == {render(one.trace) for one in stored}
    told = [json.loads(line) for line in (rows / DOCUMENTS).read_text().splitlines()]
    assert [one["origin"] for one in told] == [one.origin for one in stored]
    assert sum(one["tokens"] for one in told) == manifest.tokens and not (rows / "shards").exists()


def test_frames_are_learnt_and_the_context_and_a_forced_return_are_given(traces, rows):
    vocabulary = vocabulary_of(traces)
    found, at_once = documents(rows, vocabulary), Counter()
    for stored in read_stored(traces):
        text, events = render(stored.trace), [frame.event for frame in stored.trace.frames]
        tokens, weights = found[text]
        learnt = int(np.flatnonzero(weights)[0])
        assert vocabulary.decode(tokens[:learnt]) == text[: text.index(CALL_SEP)]
        skipped = sum(pair == ("call", "return") for pair in pairwise(events))
        at_once[stored.kind] += skipped
        given = [token for token, weight in zip(tokens[learnt:], weights[learnt:]) if weight == 0]
        assert given == [vocabulary.token_id(RETURN_SEP)] * (skipped if stored.kind != "trace" else 0)
    assert at_once["step-over"] and at_once["trace"]  # a generator that is exhausted returns at once
    predicted = sum(int((weights == 1).sum()) for _, weights in found.values())
    assert predicted == Manifest.read(rows).predicted_tokens


@given(st.integers(0, 600), st.integers(0, 700), st.integers(0, 700))
@settings(deadline=None, max_examples=20)
def test_a_part_of_a_file_is_what_the_slice_says(count, first, last):
    records = [str(number).encode() for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.array_record"
        write_records(path, records, "group_size:64,zstd:3")
        assert list(read_records(path, count, slice(first, last))) == records[first:last]


def test_the_context_may_be_learnt_and_kinds_be_chosen(traces, tmp_path):
    (more := tmp_path / "more").mkdir()
    learnt = "RecordedTraces.kinds = ('step-over',)\nRecordedTraces.context_weight = 1.0\n"
    assert prepare("--gin_file", gin(more, traces, more=learnt), "--out", tmp_path / "rows").returncode == 0
    vocabulary, stored = vocabulary_of(traces), [one for one in read_stored(traces) if one.kind == "step-over"]
    found = documents(tmp_path / "rows", vocabulary)
    assert set(found) == {render(one.trace) for one in stored}
    for tokens, weights in found.values():
        assert {token for token, weight in zip(tokens[1:], weights[1:]) if weight == 0} <= {
            vocabulary.token_id(RETURN_SEP)
        }


def test_a_run_trains_on_the_rows(traces, tmp_path, one_cluster):
    pack_dataset(dataset(traces, buckets=(1024,)), tmp_path / "rows", 1)
    (tmp_path / "run.gin").write_text(f"""
Experiment.data = @PreparedRows()
PreparedRows.folder = '{tmp_path / "rows"}'
PreparedRows.vocabulary_size = {vocabulary_of(traces).vocab_size}
PreparedRows.buckets = (1024,)
PreparedRows.windows = (1024,)
StreamConfig.tokens_per_batch = 1024
ModelConfig.layers = 1
ModelConfig.d_model = 16
ModelConfig.q_heads = 1
ModelConfig.kv_heads = 1
ModelConfig.head_dim = 16
ModelConfig.d_ff = 16
Experiment.steps = 1
""")
    done = verb("train", f"--gin_file={tmp_path / 'run.gin'}", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    step = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert step["step"] == 1 and np.isfinite(step["loss"])


SMALL_PARTS = """
import sys
from cwm_jax.data import packed_dataset, traces
from cwm_jax.training.prepare_cli import main
traces._RECORDS_PER_PART = 9
make_shards = packed_dataset.make_shards
def told(what, jobs, workers):
    print(f"{sum(path.exists() for path in jobs)} are there")
    make_shards(what, jobs, workers)
packed_dataset.make_shards = told
main(sys.argv[1:])
"""


def test_killed_and_called_again_it_ends_the_same(traces, rows, tmp_path):
    out, file = tmp_path / "rows", gin(tmp_path, traces)
    command = [sys.executable, "-c", SMALL_PARTS, "--gin_file", str(file), "--out", str(out), "--workers"]
    process = subprocess.Popen([*command, "1"], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    while not list((out / "shards").glob("*.json")) and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    first = len(list((out / "shards").glob("*.json")))  # a worker that outlives its driver may end another
    done = subprocess.run([*command, "2"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert digests(out) == digests(rows), done.stderr
    assert 0 < first <= int(done.stdout.split(" are there")[0])
    before = {path: path.stat().st_mtime_ns for path in rows.glob("*-*")}
    assert prepare("--gin_file", file, "--out", rows).returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in rows.glob("*-*")}


def test_stored_traces_keep_their_lines_and_older_ones_can_be_read(traces):
    for stored in read_stored(traces):
        lines = source_lines(stored.trace.context)
        assert all(lines[frame.line - 1] == frame.source for frame in stored.trace.frames)
        fields = json.loads(to_bytes(stored))
        del fields["lines"]
        older = from_bytes(json.dumps(fields).encode())
        assert older == stored and older.trace.frames[0].line is None


def test_a_dry_run_counts_and_writes_nothing(traces, tmp_path):
    done = prepare("--gin_file", gin(tmp_path, traces), "--out", tmp_path / "rows", "--dry-run")
    sheet = finished_datasheet(traces)
    assert done.returncode == 0 and not (tmp_path / "rows").exists()
    counts = {line.split()[1]: int(line.split()[0].replace(",", "")) for line in done.stdout.splitlines()}
    none = dict.fromkeys(("episode", "tasks", "tasks-step-over"), 0)
    assert counts == {"trace": sheet["traces"], "step-over": sheet["kinds"]["step-over"], **none}


def test_sets_are_mixed_by_the_verb(traces, rows, tmp_path):
    file = tmp_path / "mixture.gin"
    file.write_text(f"""
Mixture.groups = (@all/Group(),)
Mixture.tokens = 1000
all/Group.name = 'all'
all/Group.share = 1.0
all/Group.sets = (@there/MixedSet(), @gone/MixedSet())
there/MixedSet.name = 'there'
there/MixedSet.folder = '{rows}'
gone/MixedSet.name = 'gone'
gone/MixedSet.folder = '{tmp_path / "gone"}'
""")
    done = prepare("--gin_file", file, "--out", tmp_path / "out", "--dry-run")
    assert done.returncode == 0 and not (tmp_path / "out").exists(), done.stderr
    assert all(word in done.stdout for word in ("tokens", "epochs", "rate", "there", "absent: gone", "100 %"))
    made = prepare("--gin_file", file, "--out", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "mixture.json").read_text())
    assert made.stdout.startswith(done.stdout) and [one["rate"] for one in written["sets"]] == [1.0]
    done = prepare("--gin_file", file, "--out", tmp_path / "out", "--workers", 2)
    assert done.returncode == 2 and "--workers does nothing for a mixture" in done.stderr


def dataset(traces: Path, **changed) -> PackedDataset:
    fields = {"documents": RecordedTraces(str(traces)), "vocabulary": f"{traces}/vocabulary.model", "buckets": BUCKETS}
    return PackedDataset(**fields | changed)


def test_bad_input_is_named_with_its_fix(traces, rows, tmp_path, one_cluster):
    done = prepare("--gin_file", gin(tmp_path, tmp_path / "none"), "--out", tmp_path / "rows")
    assert done.returncode == 2 and "none/vocabulary.model" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(FileNotFoundError, match="no finished traces; make them with"):
        pack_dataset(dataset(traces, documents=RecordedTraces(str(tmp_path))), tmp_path / "rows")
    with pytest.raises(ValueError, match="another configuration; name another folder"):
        pack_dataset(dataset(traces, documents=Narrations(str(traces))), rows)
    with pytest.raises(ValueError, match=r"no document .* is fit; left out: \{'too many tokens': \d+"):
        pack_dataset(dataset(traces, buckets=(8,)), tmp_path / "short", 1)
    compact = train_vocabulary(["def f(): return 1"], 400, [token for token in TRACE_TOKENS if token != RETURN_SEP])
    compact.save(tmp_path / "compact.model")
    with pytest.raises(ValueError, match=r"compact.model lacks <\|return_sep\|>"):
        pack_dataset(dataset(traces, vocabulary=str(tmp_path / "compact.model")), tmp_path / "rows")
    with pytest.raises(ValueError, match=r"RecordedTraces.kinds=\('traces',\) must be some of"):
        RecordedTraces(str(traces), kinds=("traces",))
    with pytest.raises(ValueError, match=r"Narrations.share=0 must be above 0"):
        Narrations(str(traces), share=0)
    shutil.copytree(traces, tmp_path / "damaged")
    path = next((tmp_path / "damaged").glob("traces-*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="damaged"):
        pack_dataset(dataset(tmp_path / "damaged"), tmp_path / "rows", 1)
