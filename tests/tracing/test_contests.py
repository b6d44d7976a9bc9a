"""Contest solutions: every one records, prints what its label says, and a bad file costs only itself."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from cwm_jax.tracing import Isolation, Trace, parse, record, record_many, render
from cwm_jax.tracing.sources import contests
from cwm_jax.tracing.sources.contests import Case, Contests, Solution, judge, record_solution

PROBLEMS = Path(__file__).parents[1] / "data" / "contests.jsonl"  # our own problems and solutions
# By problem, for its correct and its incorrect solutions in turn: whether each test, the shortest first, is passed.
PASSED = {
    "shop_receipt": ["1111", "1110", "1111", "1000"],
    "longest_climb": ["1111", "1100", "1111", "0000"],
    "ponds": ["111", "110", "111", "000"],
    "greetings": ["111", "110", "111", "110"],
}


def solutions(path: Path = PROBLEMS, **bounds: int) -> tuple[list[Solution], Counter[str]]:
    dropped: Counter[str] = Counter()
    return list(Contests(str(path), **bounds).work(dropped)), dropped


def write(path: Path, *problems: object) -> Path:
    path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    return path


def problem(right: list[str], wrong: list[str], tests: dict[str, str], language: int = 3) -> dict:
    both = {"solutions": right, "incorrect_solutions": wrong}
    listed = {key: {"language": [language] * len(codes), "solution": codes} for key, codes in both.items()}
    return {"name": "own", **listed, "public_tests": {"input": [*tests], "output": [*tests.values()]}}


@pytest.mark.parametrize("isolation", Isolation)
def test_every_solution_records_and_is_as_right_as_its_label_says(isolation):
    found: dict[str, list[str]] = {}
    for solution in solutions()[0]:
        traces = list(record_many(solution.jobs(), contests.LIMITS, isolation))
        assert all(trace.complete and parse(render(trace)) == trace for trace in traces)
        passed = [contests.passes(test, trace) for test, trace in zip(solution.tests, traces)]
        assert all(passed) == solution.correct
        assert judge(solution, traces) == [""] * len(traces)
        found.setdefault(solution.problem, []).append("".join("01"[good] for good in passed))
    assert found == PASSED


def test_what_a_solution_reads_stands_in_its_trace():
    (solution, *_), _ = solutions()
    traces = [trace for _, trace in record_solution(solution, Counter(), Isolation.LIMITS_ONLY)]
    lines = {dict(frame.locals or ()).get("line") for frame in traces[-1].frames}
    assert lines >= {repr(line) for line in solution.tests[-1].input.splitlines(keepends=True)}


def test_correct_and_incorrect_ones_are_as_many_and_others_are_counted():
    found, dropped = solutions()
    assert [solution.correct for solution in found] == [True, False] * 8
    assert dropped == {"a solution that does not parse": 1, "a problem that uses files": 1}
    fewer, _ = solutions(solutions=1, tests=2)
    assert [solution.correct for solution in fewer] == [True, False] * 4
    assert all([len(test.input) for test in s.tests] == sorted(len(t.input) for t in s.tests)[:2] for s in fewer)
    with pytest.raises(ValueError, match="tests=0"):
        Contests("x", tests=0)


def test_only_python_3_counts_and_each_solution_and_test_once(tmp_path):
    one = problem(["print(1)", "print(1)", "print(2)"], ["print(3)"], {"": "1", "a": "1"})
    one["private_tests"] = {"input": ["a", "x" * 40_000], "output": ["2", "1"]}
    one["generated_tests"] = None
    found, _ = solutions(write(tmp_path / "a", one))
    assert len(found) == 2 and found[0].tests == (Case("", "1"), Case("a", "1"))
    found, dropped = solutions(write(tmp_path / "b", problem(["print(1)"], ["print(3)"], {"": "1"}, language=1)))
    assert not found and sum(dropped.values()) == 1


def test_damaged_lines_are_counted_and_the_rest_goes_on(tmp_path):
    good = problem(["print(1)"], ["print(2)"], {"": "1"})
    bad = [3, None, [], {}, {"name": "x"}, {**good, "solutions": None}, {**good, "solutions": {"language": [3]}}]
    bad += [{**good, "public_tests": {"input": [1], "output": ["1"]}}, problem(["print(1)"], ["2"], {"\ud800": "1"})]
    path = write(tmp_path / "a.jsonl", *bad, good)
    path.write_bytes(b"\xff\xfe\n{\n\n" + b"[" * 100_000 + b"\n" + path.read_bytes())
    found, dropped = solutions(path)
    assert len(found) == 2 and sum(dropped.values()) == len(bad) + 4
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert solutions(packed) == (found, dropped)
    with pytest.raises(OSError, match="nowhere"):
        solutions(tmp_path / "nowhere")


LOOP = "for i in range({}):\n    i\nprint(1)\n"
RIGHT_BUT = {
    LOOP.format(4_000): "",
    LOOP.format(5_100): "more than 10000 line events",
    "n = 'x' * 40_000\n" + "\n".join(f"n += '{i}'" for i in range(30)) + "\nprint(1)": "trace_limit",
    "n = 'x' * 40_000 + input()": "labelled correct, but an answer is wrong",
    "print(1)\n1 / 0": "labelled correct, but an answer is wrong",
    "print(1)\nimport sys\nsys.exit(1)": "labelled correct, but an answer is wrong",
    "print(1)\nimport sys\nsys.exit(0)": "",
    "print(' 1 \\n\\n')": "",
    "print(1)\nimport os\nos._exit(0)": "exited",
    "while True: input": "trace_limit",
    "print(1)\nn = [10 ** 6] * 10 ** 6\nprint(2)": "value_limit",
}


@pytest.mark.parametrize("code", RIGHT_BUT)
def test_what_is_too_long_or_contradicts_its_label_is_dropped_and_counted(code, tmp_path):
    (right, wrong), _ = solutions(write(tmp_path / "a", problem([code], ["print(1)"], {"9": "1\n"})))
    dropped: Counter[str] = Counter()
    kept = record_solution(right, dropped)
    assert dropped == ({RIGHT_BUT[code]: 1} if RIGHT_BUT[code] else {})
    assert len(kept) == (not dropped)
    assert judge(wrong, [record(*wrong.jobs()[0][:1])]) == ["labelled incorrect, but every answer is right"]


def test_one_wrong_answer_tells_on_all_runs_of_a_correct_solution_and_a_cut_run_on_none():
    context = "def main():  # << START_OF_TRACE\n    print(1)\n"
    right = record(context, isolation=Isolation.LIMITS_ONLY)
    cut = Trace(context, (), complete=False, verdict="timeout")
    tests = (Case("", "1"), Case("a", "2"))
    assert judge(Solution("p", True, context, tests), [right, right])[0].startswith("labelled correct")
    assert judge(Solution("p", True, context, tests), [right, cut]) == ["", "timeout"]
    assert judge(Solution("p", False, context, tests), [right, cut]) == ["", "timeout"]
