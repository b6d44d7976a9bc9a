"""`prepare --source`: the same bytes however it is made, and nothing lost when it is killed."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cwm_jax.files import in_use
from cwm_jax.tracing import parse, read_traces, render
from cwm_jax.tracing.corpus import TraceCorpus, prepare_traces
from cwm_jax.tracing.sources.functions import Functions
from cwm_jax.tracing.store import read_stored

LIBRARY = Path(textwrap.__file__).parent
FILES = ("bisect", "colorsys", "fnmatch", "textwrap", "heapq", "shlex", "string", "quopri", "keyword", "stat")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for name in FILES:
        shutil.copy(LIBRARY / f"{name}.py", folder)
    return folder


def command(source: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "cwm_jax", "prepare", "--source", str(source), "--out", str(out), *more]


def prepare(source: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(source, out, *more), capture_output=True, text=True, timeout=300)


def digests(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("traces-*")}


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("traces") / "out"
    done = prepare(source, out, "--workers", "1")
    assert done.returncode == 0, done.stderr
    return out


def test_the_folder_holds_traces_and_a_datasheet(made):
    sheet = json.loads((made / "datasheet.json").read_text())
    stored = list(read_stored(made))
    kinds = [one.kind for one in stored]
    assert sheet["traces"] == kinds.count("trace") > 50
    assert sheet["episodes"] == kinds.count("step-over") > 0
    assert sheet["frames"] == sum(len(one.trace.frames) for one in stored)
    assert sheet["programs"] == len({one.program for one in stored})
    assert sheet["dropped"] and sheet["minutes"] > 0 and sheet["python"].startswith("3.")
    assert "Samples" in (made / "datasheet.html").read_text()
    for trace in read_traces(made):
        assert parse(render(trace)) == trace and trace.verdict in ("returned", "raised")
    runs = [(one.kind, one.program, one.trace.context.splitlines()[-1]) for one in stored]
    assert len(runs) == len(set(runs))


def test_two_workers_make_the_same_bytes(made, source, tmp_path):
    assert prepare(source, tmp_path / "out", "--workers", "2").returncode == 0
    assert digests(tmp_path / "out") == digests(made)


def test_killed_and_called_again_it_ends_the_same(made, source, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(command(source, out, "--workers", "1"), start_new_session=True)
    while not list((out / "shards").glob("*.json")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "datasheet.json").exists()
    with pytest.raises(FileNotFoundError, match="no finished traces"):
        next(read_traces(out))
    first = {path: path.stat().st_mtime_ns for path in (out / "shards").glob("*.json")}
    assert prepare(source, out).returncode == 0
    assert digests(out) == digests(made)
    assert all(path.stat().st_mtime_ns == when for path, when in first.items()), "a finished shard was made again"


def test_called_again_it_does_nothing(made, source):
    before = digests(made)
    times = {path: path.stat().st_mtime_ns for path in made.rglob("[!.]*")}
    assert prepare(source, made, "--workers", "1").returncode == 0
    assert digests(made) == before and times == {path: path.stat().st_mtime_ns for path in made.rglob("[!.]*")}


def test_errors_name_the_field_and_the_fix(made, source, tmp_path):
    done = prepare(tmp_path / "nowhere", tmp_path / "out")
    assert done.returncode == 2 and "nowhere" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "other.py").write_text("def f(n): return n + 1\n")
    done = prepare(tmp_path / "other.py", made)
    assert done.returncode == 2 and "another folder" in done.stderr
    assert prepare(source, tmp_path / "out", "--workers", "0").returncode == 2
    done = prepare(source, tmp_path / "other.py" / "out")
    assert done.returncode == 1 and "name a folder" in done.stderr and "Traceback" not in done.stderr
    with in_use(tmp_path / "out"):
        done = prepare(source, tmp_path / "out")
    assert done.returncode == 2 and f"process {os.getpid()} works in" in done.stderr
    damaged = tmp_path / "damaged"
    shutil.copytree(made, damaged)
    path = next(damaged.glob("traces-*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="damaged"):
        list(read_traces(damaged))


def test_what_holds_no_function_is_told_of(tmp_path):
    (tmp_path / "source").mkdir()
    corpus = TraceCorpus((Functions((str(tmp_path / "source"),)),))
    with pytest.raises(FileNotFoundError, match="no Python file"):
        prepare_traces(corpus, tmp_path / "out", 1)
    (tmp_path / "source" / "it.py").write_text("X = 1\n")
    with pytest.raises(ValueError, match="there are no programs"):
        prepare_traces(corpus, tmp_path / "out", 1)


def test_a_limit_reads_so_many_files(source, tmp_path):
    assert prepare(source, tmp_path / "out", "--limit", "1").returncode == 0
    files = json.loads((tmp_path / "out" / "datasheet.json").read_text())["files"]
    assert list(files) == ["bisect.py"]


def test_what_identifies_somebody_and_what_is_there_twice_stays_out(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "first.py").write_text("def twice(number: int):\n    return number * 2\n")
    (source / "second.py").write_text("def double(n: int):\n    # the same in other words\n    return n * 2\n")
    (source / "third.py").write_text("def author(n: int):\n    return 'anna.' + 'smith@institute' + '.org'\n")
    assert prepare(source, out, "--workers", "1").returncode == 0
    stored = list(read_stored(out))
    assert stored and {one.origin for one in stored} == {"first.py:twice"}
    dropped = json.loads((out / "datasheet.json").read_text())["dropped"]
    assert dropped["a duplicate"] > 0 and any(reason.startswith("private: ") for reason in dropped)


def test_a_corpus_that_grows_records_only_what_is_new(tmp_path):
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "out"
    for folder, text in ((first, "n + 1"), (second, "n * n - 3")):
        folder.mkdir()
        (folder / "code.py").write_text(f"def count(n: int):\n    total = {text}\n    return total\n")
    one = Functions((str(first),))
    prepare_traces(TraceCorpus((one,)), out, 1)
    before = {path: path.stat().st_mtime_ns for path in (out / "shards").glob("*.array_record")}
    (out / "settings").unlink()
    (out / "datasheet.json").unlink()
    sheet = prepare_traces(TraceCorpus((one, Functions((str(second),)))), out, 1)
    assert sheet["programs"] == 2 and len(before) == 1
    assert all(path.stat().st_mtime_ns == when for path, when in before.items()), "what was there was made again"
    assert len(list((out / "shards").glob("*.array_record"))) == 2
