"""Decontamination: items of benchmarks are found, renamed or in part; other programs are not."""

import ast
import json
import pickle
import sysconfig
from pathlib import Path
from textwrap import indent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.tracing.quality import Decontamination, is_swe_bench
from cwm_jax.tracing.quality.contamination import SWE_BENCH
from cwm_jax.tracing.wrap import wrap

CRUXEVAL = Path("tests/data/cruxeval.jsonl").absolute()
ROWS = [json.loads(line) for line in CRUXEVAL.read_text().splitlines()]
FILTER = Decontamination.against({"cruxeval": CRUXEVAL})
LIBRARY = Path(sysconfig.get_path("stdlib"))
SOLUTION = """def tally(words):
    seen = {}
    for word in words:
        seen[word] = seen.get(word, 0) + 1
    return seen"""
HEADER, _, BODY = SOLUTION.partition("\n")
CLAIM = "assert tally(['ab', 'ab', 'c']) == {'ab': 2, 'c': 1}"
ITEMS = {  # in the fields of each benchmark's own file
    "humaneval": {
        "task_id": "HumanEval/x",
        "prompt": f'{HEADER}\n    """Count them."""\n',
        "canonical_solution": BODY,
        "test": f"def check(candidate):\n    {CLAIM.replace('tally', 'candidate')}\n",
        "entry_point": "tally",
    },
    "mbpp": {"task_id": 1, "text": "Count them.", "code": SOLUTION.replace("\n", "\r\n"), "test_list": [CLAIM]},
    "cruxeval": {"code": SOLUTION, "input": "['ab', 'ab', 'c']", "output": "{'ab': 2, 'c': 1}"},
}


def test_finds_every_item_of_cruxeval_that_is_no_commonplace():
    missed = [row["code"] for row in ROWS if not FILTER.benchmark_in(wrap(row["code"], "f", row["input"]))]
    assert len(missed) < 8 and all(code.count("\n") == 1 for code in missed)


def test_finds_items_with_a_statement_put_in_and_by_input_and_output():
    edited = [row["code"].replace("\n", "\n    unused = 0\n", 1) for row in ROWS]
    assert sum(map(bool, map(FILTER.benchmark_in, edited))) > 0.7 * len(ROWS)
    known = [f"assert work({row['input']}) == {row['output']}" for row in ROWS]
    assert sum(FILTER.benchmark_in("", [text]) == "cruxeval" for text in known) > 0.75 * len(ROWS)


def test_drops_none_of_the_standard_librarys_functions():
    dropped, count = [], 0
    for name in ("textwrap", "heapq", "statistics", "shlex", "fractions", "bisect", "calendar", "string", "inspect"):
        for node in ast.walk(ast.parse((LIBRARY / f"{name}.py").read_text())):
            if isinstance(node, ast.FunctionDef):
                count += 1
                dropped += [node.name] * bool(FILTER.benchmark_in(ast.unparse(node)))
    assert count > 300 and dropped == []


@pytest.mark.parametrize("benchmark", ITEMS)
def test_reads_each_benchmarks_own_fields_and_keeps_none_of_its_text(benchmark, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(ITEMS[benchmark]) + "\n\n")
    found = Decontamination.against({benchmark: path})
    stored = pickle.dumps(found)
    assert not any(word in stored for word in (b"tally", b"seen", b"get"))
    renamed = SOLUTION.replace("tally", "g").replace("seen", "counts").replace("word", "w")
    other = pickle.loads(stored)
    assert other.benchmark_in("import os\n\nclass A:\n" + indent(renamed, "    ")) == benchmark
    assert other.benchmark_in(f"def test_it():\n    {CLAIM.replace('tally', 'mine')}, 'no'") == benchmark
    assert other.benchmark_in("def f(words):\n    return sorted(words, key=len)[::-1][:3]") == ""


@given(st.text())
def test_takes_any_text(text):
    assert FILTER.benchmark_in(text) == ""


@pytest.mark.parametrize(
    ("line", "benchmark", "message"),
    [
        ("{", "mbpp", "line 1"),
        ('{"code": "x"}', "mbpp", "test_list"),
        ("[]", "cruxeval", "line 1"),
        ("{}", "apps", "apps"),
    ],
)
def test_refuses_other_files(line, benchmark, message, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match=message):
        Decontamination.against({benchmark: path})


@given(st.sampled_from(SWE_BENCH), st.sampled_from(["{}", "https://github.com/{}.git", "someone/{}", "{}/"]))
def test_knows_swe_benchs_repositories_and_their_forks(repository, form):
    name = repository if "someone" not in form else repository.partition("/")[2]
    assert is_swe_bench(form.format(name)) and is_swe_bench(form.format(name).upper().replace(".GIT", ".git"))


def test_knows_distributions_and_leaves_others_alone():
    assert all(map(is_swe_bench, ["Django", "scikit_learn", "pvlib", "pytest"]))
    assert not any(map(is_swe_bench, ["more-itertools", "pytest-xdist", "djangorestframework", "flask-login"]))
