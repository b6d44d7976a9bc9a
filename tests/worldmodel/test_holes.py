"""Holes: where they are seen, what is proposed for them, and how few real runs it takes to fill them."""

import ast
import json
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from cwm_jax.checkpoints import default
from cwm_jax.evaluation.holes import Holes, tasks
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Limits, record
from cwm_jax.worldmodel.holes import Enumeration, Shape, fill
from cwm_jax.worldmodel.holes.cli import main
from cwm_jax.worldmodel.real import RealRun

SUM = '''def total(xs):
    """The sum of what is ??.

    >>> total([1, 2, 3, 4])
    6
    """
    t = 0  # or ??
    for x in xs:
        if ??:
            t += x
    return t, "??"[:0]


assert total([1, 3]) == (0, "")
assert total([2]) == (2, "")
'''.replace("    6\n", "    (6, '')\n")


def proposed(source, most=2000):
    return list(islice(Enumeration().propose(Shape(source)), most))


def test_holes_are_seen_in_code_only_and_examples_in_asserts_and_doctests():
    shape = Shape(SUM)
    assert len(shape.holes) == 1
    assert shape.filled(["x % 2 == 0"]) == SUM.replace("if ??:", "if x % 2 == 0:")
    assert [check.call for check in shape.checks] == ["total([1, 3])", "total([2])", "total([1, 2, 3, 4])"]
    assert record(shape.test(["x % 2 == 0"]), isolation=Isolation.LIMITS_ONLY).verdict == "returned"
    assert record(shape.test(["x"]), isolation=Isolation.LIMITS_ONLY).verdict == "raised"


@pytest.mark.parametrize(
    "source, complaint",
    [
        ("def f():\n    return 1\nassert f() == 1", "no hole"),
        ("def f():\n    return '??'  # ??\nassert f() == 1", "no hole"),
        ("def f():\n    return ??", "no example"),
        ("def f():\n    ?? = 1\nassert f() == 1", "line 2: .* expression"),
        ("def f():\n    return ?? ??\nassert f() == 1", "does not parse.*line 2"),
        ("def f(:\n    return ??\nassert f() == 1", "does not parse"),
        ("def f():\n    return 1\nassert f() == ??", "example has a hole"),
        ("def f():\n    return (??\n", "does not parse"),
    ],
)
def test_what_is_no_shape_is_explained(source, complaint):
    with pytest.raises(ValueError, match=complaint):
        Shape(source)


ATOMS = some.sampled_from(["x", "y", "1", "'a?'", "[0]", "-x", "x + y", "not x", "x if y else 1", "x and y", "f(y)"])
PLACES = some.sampled_from(
    ["{}", "2 * {}", "{} ** 2", "g({}, {})", "not {}", "{} in z", "z[{}]", "-{} - {}", "{}.real"]
)


@settings(deadline=None, max_examples=50)
@given(PLACES, some.lists(ATOMS, min_size=2, max_size=2))
def test_a_filled_hole_holds_the_whole_expression_and_no_needless_brackets(place, expressions):
    count = place.count("{}")
    shape = Shape(f"def f(x):\n    y = {place.replace('{}', '??')}\nassert f(1) == 1\n")
    filled = shape.filled(expressions[:count])
    wanted = place.format(*(f"({one})" for one in expressions[:count]))
    value = ast.parse(filled).body[0].body[0].value
    assert ast.dump(value) == ast.dump(ast.parse(wanted, mode="eval").body)
    if all(one.isidentifier() for one in expressions[:count]):
        assert "(" not in filled.split("\n")[1].replace("g(", "")


@pytest.mark.parametrize(
    "source, wanted",
    [
        ("def f(w, h):\n    return ??\nassert f(2, 3) == 6", "w * h"),
        ("def f(xs):\n    return ??\nassert f([3, 1]) == [1, 3]", "sorted(xs)"),
        ("def f(s):\n    return ??\nassert f('ab') == 'BA'", "s.upper()[::-1]"),
        ("def f(xs, i):\n    if ??:\n        return 0\n    return 1\nassert f([1], 3) == 0", "len(xs) <= i"),
        ("def g(a):\n    return a\ndef f(x):\n    return ??\nassert f(2) == 2", "g(x)"),
        (
            "def f(xs):\n    lo, hi = 0, len(xs)\n    mid = ??\n    return xs[mid]\nassert f([1, 2]) == 2",
            "(lo + hi) // 2",
        ),
    ],
)
def test_the_grammar_has_it(source, wanted):
    candidates = proposed(source)
    assert (wanted,) in candidates and len(set(candidates)) == len(candidates)


@pytest.mark.parametrize("place", range(0, 100, 9))
def test_every_candidate_parses_and_names_what_is_in_scope(place):
    shape = Shape(tasks()[place].source)
    names = {node.id for node in ast.walk(shape.tree) if isinstance(node, ast.Name)} - set(shape.holes)
    names |= {node.arg for node in ast.walk(shape.tree) if isinstance(node, ast.arg)}
    names |= {node.name for node in ast.walk(shape.tree) if isinstance(node, ast.FunctionDef)}
    for (expression,) in islice(Enumeration().propose(shape), 300):
        used = {node.id for node in ast.walk(ast.parse(expression, mode="eval")) if isinstance(node, ast.Name)}
        assert used <= names | {"len", "abs", "str", "sum", "max", "min", "sorted", "int", "list"}


def test_predictions_spare_real_runs():
    shape, real = Shape(SUM), RealRun(Isolation.LIMITS_ONLY, Limits(max_frames=200, wall_seconds=5.0))
    guided = fill(shape, real, Isolation.LIMITS_ONLY, candidates=64)
    assert guided.checked and guided.score == 1.0 and guided.predicted == 64
    assert guided.executions <= 2, "the next candidate may have started"
    blind = fill(shape, None, Isolation.LIMITS_ONLY)
    assert blind.checked and blind.predicted == 0 and blind.executions > guided.executions
    assert guided.source == shape.filled(guided.expressions)


def test_without_a_run_the_best_prediction_is_the_answer():
    shape, real = Shape(SUM), RealRun(Isolation.LIMITS_ONLY, Limits(max_frames=200, wall_seconds=5.0))
    found = fill(shape, real, None, candidates=64)
    assert (found.checked, found.score, found.executions) == (False, 1.0, 0)
    assert record(shape.test(found.expressions), isolation=Isolation.LIMITS_ONLY).verdict == "returned"
    assert fill(shape, real, None, candidates=2).source is None
    with pytest.raises(ValueError, match="neither be predicted nor run"):
        fill(shape, None, None)


def test_real_runs_are_bounded_and_other_proposers_can_be_asked():
    class Model:
        def propose(self, shape):
            yield ("x in (2, 4)",)

    shape = Shape(SUM)
    none = fill(shape, None, Isolation.LIMITS_ONLY, executions=3)
    assert none.source is None and none.executions == 3
    found = fill(shape, None, Isolation.LIMITS_ONLY, executions=3, proposers=[Model(), Enumeration()])
    assert found.expressions == ("x in (2, 4)",) and found.checked
    with pytest.raises(ValueError, match="executions=0"):
        fill(shape, None, Isolation.LIMITS_ONLY, executions=0)


def test_holes_that_no_example_connects_are_filled_apart():
    source = "def f(w, h):\n    return ??\ndef g(x):\n    return f(x, ??)\ndef k(s):\n    return ??\n"
    source += "assert f(2, 3) == 6\nassert g(4) == 8\nassert k('ab') == 'BA'\n"
    shape = Shape(source)
    assert [places for places, _ in shape.parts()] == [(0, 1), (2,)]
    assert [check.call for check in shape.parts()[1][1].checks] == ["k('ab')"]
    found = fill(shape, None, Isolation.LIMITS_ONLY, executions=400)
    assert found.checked and len(found.expressions) == 3 and found.executions < 400
    assert record(shape.test(found.expressions), isolation=Isolation.LIMITS_ONLY).verdict == "returned"


def test_a_candidate_that_never_ends_costs_its_limit_only():
    shape = Shape("def f(n):\n    while ??:\n        n -= 1\n    return n\nassert f(3) == 0\nassert f(0) == 0\n")
    found = fill(shape, None, Isolation.LIMITS_ONLY)
    assert found.checked and found.executions > 1


# The benchmark.


def test_tasks_are_solved_by_what_was_masked():
    found = tasks()
    assert len(found) >= 90 and len({task.source for task in found}) == len(found)
    for task in found[::16]:
        assert task.source.count("??") == 1
        assert record(Shape(task.source).test([task.masked]), isolation=Isolation.LIMITS_ONLY).verdict == "returned"


def test_real_rollouts_fill_at_least_what_enumeration_does():
    limits = Limits(max_frames=300, wall_seconds=5.0)
    suite = Holes(budget=2, candidates=16, predictor=lambda model: RealRun(Isolation.LIMITS_ONLY, limits))
    result = suite.score(list(suite.records(None, tasks()[:4], Isolation.LIMITS_ONLY)))
    details = result["details"]
    assert result["n"] == 4 and result["score"] >= details["enumeration"]
    assert result["score"] > 0 and details["predicted"] == 4 * 16
    assert details["executions"] <= 8 and details["enumeration_executions"] <= 8


# The verb.


@pytest.fixture
def verb(tmp_path, monkeypatch, capsys):
    """Calls the verb in an empty folder, without the model of the project; exit status, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default, "SHIPPED", tmp_path / "none")

    def call(*arguments):
        status = main([*map(str, arguments)])
        return status, *capsys.readouterr()

    return call


def test_the_verb_fills_without_a_model_and_scores_with_one(verb, tmp_path, trained_run):
    (tmp_path / "one.py").write_text(SUM)
    status, printed, told = verb("one.py", "--unsafe")
    assert status == 0 and printed != SUM and "all examples hold in a real run" in told
    assert record(printed.replace("assert", "#") + CHECKED, isolation=Isolation.LIMITS_ONLY).verdict == "returned"
    arguments = ["--no-run", "--candidates", "2", "--checkpoint", trained_run, "--format", "json"]
    status, printed, told = verb("one.py", *arguments)
    answer = json.loads(printed)
    assert status == (3 if answer["source"] is None else 0)
    assert (answer["checked"], answer["executions"], answer["predicted"]) == (False, 0, 2)


CHECKED = "\ndef main():  # << START_OF_TRACE\n    assert total([1, 2, 3, 4]) == (6, '')\n"


@pytest.mark.parametrize(
    "text, arguments, complaint",
    [
        (SUM, ["missing.py"], "missing.py"),
        (SUM, ["one.py", "--no-run"], "the model of this project"),
        (SUM, ["one.py", "--limit", "0"], "executions=0"),
        ("x = 1", ["one.py"], "no hole"),
    ],
)
def test_bad_calls_of_the_verb_are_explained(text, arguments, complaint, verb, tmp_path):
    (tmp_path / "one.py").write_text(text)
    status, printed, complaints = verb(*arguments)
    assert status == 2 and printed == "" and complaint in complaints and complaints.count("\n") == 1
