"""A corpus of several sources: functions, a project's tests and contest solutions in one folder, each by its parts."""

import json
import sys
from pathlib import Path

import pytest

from cwm_jax import config
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import render
from cwm_jax.tracing.corpus import TraceCorpus, prepare_traces
from cwm_jax.tracing.quality import Benchmark
from cwm_jax.tracing.sources.contests import Contests
from cwm_jax.tracing.sources.functions import Functions
from cwm_jax.tracing.sources.repositories import Repositories
from cwm_jax.tracing.store import read_stored

sys.path.append(str(Path(__file__).parent.parent / "repos"))
from tiny_project import Tiny

KNOWN = """\
def f(text):
    counted = {}
    for letter in text:
        counted[letter] = counted.get(letter, 0) + 1
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))
"""
FILES = {
    "known.py": KNOWN.replace("f(text)", "frequencies(text: str)"),
    "longer.py": """\
def weigh(items: list, limit: int):
    total = 0
    for index, item in enumerate(items):
        if item > limit:
            total += item * index
        else:
            total -= 1
    return total
""",
}
FILES["near.py"] = FILES["longer.py"].replace("weigh", "measure").replace("-= 1", "-= 2")
WRONG = "total = 0\nfor _ in range(int(input())):\n    total += 1\nprint(total)\n"
PROBLEM = {
    "name": "double",
    "public_tests": {"input": ["3\n", "5\n"], "output": ["6\n", "10\n"]},
    "solutions": {"language": [3], "solution": ["n = int(input())\nprint(n * 2)\n"]},
    "incorrect_solutions": {"language": [3], "solution": [WRONG]},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> TraceCorpus:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "code").mkdir()
    for name, text in FILES.items():
        (folder / "code" / name).write_text(text)
    (folder / "problems.jsonl").write_text(json.dumps(PROBLEM) + "\n")
    (folder / "cruxeval.jsonl").write_text(json.dumps({"code": KNOWN, "input": "'aab'", "output": "[]"}) + "\n")
    project = Tiny(folder).write()
    return TraceCorpus(
        (Functions((str(folder / "code"),)), Repositories((str(project),)), Contests(str(folder / "problems.jsonl"))),
        benchmarks=(Benchmark("cruxeval", str(folder / "cruxeval.jsonl")),),
    )


def prepared(corpus: TraceCorpus, out: Path, workers: int) -> dict:
    built = Tiny(out / "builds").build()  # without network, where the source looks for it
    built.source.parent.rename(out / "builds" / "tiny.built")
    (out / "builds" / "tiny").rename(out / "builds" / "tiny.source")
    (out / "builds" / "tiny.built").rename(out / "builds" / "tiny")
    return prepare_traces(corpus, out, workers)


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    return out, prepared(corpus, out, 1)


def test_every_source_gives_traces(made):
    out, sheet = made
    stored = list(read_stored(out))
    origins = {one.origin.partition(":")[0] for one in stored}
    assert {"longer.py", "double"} <= origins and any(origin.startswith("tiny/") for origin in origins)
    assert sheet["kinds"]["episode"] > 5 and sheet["kinds"]["trace"] > 10
    assert sheet["sources"] == ["code", "tests of tiny", "problems.jsonl"]
    assert {one.origin for one in stored if one.origin.startswith("double")} == {"double:correct", "double:incorrect"}
    texts = [render(one.trace) for one in stored]
    assert sheet["tokens"] > sum(map(len, texts)) / 10 and sheet["frames"] == sum(len(s.trace.frames) for s in stored)


def test_benchmarks_and_near_duplicates_stay_out(made):
    out, sheet = made
    assert sheet["dropped"]["of a benchmark: cruxeval"] > 0 and sheet["dropped"]["a near duplicate"] > 0
    origins = {one.origin for one in read_stored(out)}
    assert not any(origin.startswith("known.py") for origin in origins)
    assert len(origins & {"longer.py:weigh", "near.py:measure"}) == 1


def test_two_workers_make_the_same_bytes_of_all_sources(made, corpus, tmp_path):
    prepared(corpus, tmp_path / "out", 2)
    for path in made[0].glob("traces-*"):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_a_gin_file_binds_sources(tmp_path):
    (tmp_path / "corpus.gin").write_text(
        "TraceCorpus.sources = [@Functions(), @Contests()]\nFunctions.paths = ['stdlib']\nContests.path = 'x.jsonl'\n"
    )
    corpus = config.load([tmp_path / "corpus.gin"], ["Explorer.keep=3"], TraceCorpus)
    assert corpus.sources[0].explorer.keep == 3 and corpus.sources[1].path == "x.jsonl"
    with pytest.raises(FileNotFoundError, match=r"x\.jsonl"):
        prepare_traces(corpus, tmp_path / "out", isolation=Isolation.LIMITS_ONLY)
    with pytest.raises(ValueError, match="sources is empty"):
        TraceCorpus(())


def test_projects_are_looked_at_before_anything_is_recorded(tmp_path):
    for folder in ("a/tiny", "b/tiny", "c"):
        (tmp_path / folder).mkdir(parents=True)
    tiny, other, third = (str(tmp_path / folder) for folder in ("a/tiny", "b/tiny", "c/../c/."))
    with pytest.raises(ValueError, match=r"projects names .*a/tiny' and another of the same name"):
        Repositories((tiny, other)).parts(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere.*NAME==VERSION"):
        Repositories((tiny, str(tmp_path / "nowhere"))).parts(tmp_path)
    with pytest.raises(ValueError, match="projects is empty"):
        Repositories().parts(tmp_path)
    with pytest.raises(ValueError, match="step_in=2"):
        Repositories(step_in=2)
    parts = Repositories((tiny, tiny, third, f"{third}@some/branch")).parts(tmp_path)
    assert [part.folder.relative_to(tmp_path / "builds").as_posix() for part in parts] == ["tiny", "c", "c@some-branch"]
