"""Halting: predictions that are called predictions, the benchmark, and the verb."""

import json
from random import Random

import pytest

from cwm_jax.checkpoints import default
from cwm_jax.evaluation.halting import PROVED, Halting
from cwm_jax.evaluation.halting_programs import programs
from cwm_jax.sandbox import Isolation
from cwm_jax.sandbox import Limits as SandboxLimits
from cwm_jax.tracing import Frame, Limits, Trace, record
from cwm_jax.tracing.sources import composed
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.halting import halts
from cwm_jax.worldmodel.halting.cli import main
from cwm_jax.worldmodel.halting.rollout import read_off, repeated_state
from cwm_jax.worldmodel.halting.runs import Program
from cwm_jax.worldmodel.holes.fill import fulfils
from cwm_jax.worldmodel.holes.shape import Check
from cwm_jax.worldmodel.real import RealRun


def rollout(code, arguments, frames=60):
    (trace,) = RealRun(Isolation.LIMITS_ONLY, Limits(max_frames=frames, wall_seconds=5.0)).predict(
        [wrap(code, "f", arguments)]
    )
    return trace


def test_a_return_predicts_an_end_and_a_state_that_comes_back_a_loop():
    assert read_off(rollout("def f(n):\n    return n", "1")).verdict == "terminates"
    looping = rollout("def f(n):\n    while n:\n        n = n", "1")
    said = read_off(looping)
    assert said.verdict == "loops" and said.state == {"n": "1"}
    first, again = said.frames
    assert looping.frames[first].source == looping.frames[again].source
    assert read_off(looping, "line 1: 'random'").verdict == "unknown"
    assert read_off(rollout("def f(n):\n    while n:\n        n += 1", "1")).verdict == "unknown"


def test_items_that_are_alike_are_no_state_that_comes_back():
    code = "def f(xs):\n    y = 0\n    for x in xs:\n        y = x\n        y = 0\n    return [y for x in xs]"
    trace = record(wrap(code, "f", "[1, 1, 1, 1]"), isolation=Isolation.LIMITS_ONLY)
    assert trace.complete and repeated_state(trace) is None


@pytest.mark.parametrize("seed", range(8))
def test_no_state_comes_back_in_programs_that_end(seed):
    program = composed.generate(Random(seed), 2)
    for trace in RealRun(Isolation.LIMITS_ONLY, Limits(max_frames=2000, wall_seconds=5.0)).predict(program.contexts()):
        assert read_off(trace).verdict == "terminates"
        assert repeated_state(trace) is None


def test_without_a_run_nothing_is_proved():
    answer = halts(wrap("def f():\n    return 1", "f"), rollout("def f():\n    return 1", ""), None)
    assert (answer.verdict, answer.proof) == ("terminates", False)
    assert [one.by for one in answer.evidence] == ["prediction"]


NEVER_PROVED = {
    "a comprehension's variable is no number of the module": (
        "n = 1e-30\ndef f():\n    t = [n for n in range(3)]\n    x, k = 10, 0\n    while x > 0 and n > 0:\n"
        "        x -= n\n        k += 1\n"
    ),
    "the text of a large number raises": (
        "def f():\n    n = 1\n    while n > 0:\n        print(n)\n        n = n + n // 1000 + 1\n"
    ),
    "the clock by another name": "import timeit\ndef f():\n    return timeit.default_timer()\n",
    "memory or stack that ran out may be caught": (
        "class A: pass\ndef g(n):\n    return g(n + 1)\ndef f():\n    try:\n        g(0)\n"
        "    except RecursionError:\n        return 1\n"
    ),
}


@pytest.mark.parametrize("code", NEVER_PROVED.values(), ids=NEVER_PROVED)
def test_what_cannot_be_known_is_not_proved(code):
    limits = SandboxLimits(wall_seconds=2.0, cpu_seconds=2)
    answer = halts(wrap(code, "f"), None, Isolation.LIMITS_ONLY, limits)
    assert not answer.proof, answer


@pytest.mark.parametrize("frames", [(), (Frame("call", "def f():\n", locals=()),)], ids=["nothing", "no return"])
def test_a_trace_that_ends_without_a_return_predicts_nothing(frames):
    trace = Trace("def f():  # << START_OF_TRACE\n    pass\n", frames, complete=True)
    assert read_off(trace).verdict == "unknown" and not fulfils(trace, Check("f() == 1", "f()", "1"))


def test_a_proof_overrules_a_prediction():
    wrong = rollout("def f(n):\n    while n:\n        n = n", "1")
    answer = halts(wrap("def f(n):\n    return n", "f", "1"), wrong, Isolation.LIMITS_ONLY)
    assert (answer.verdict, answer.proof) == ("terminates", True)
    assert [one.verdict for one in answer.evidence] == ["loops", "terminates"]


# The benchmark.


def test_the_benchmark_is_what_its_generator_makes_and_balanced():
    stored = [json.loads(line) for line in PROVED.read_text().splitlines()]
    assert [(one["name"], one["context"], one["verdict"]) for one in stored] == [
        (one.name, one.context, one.verdict) for one in programs()
    ]
    verdicts = [one["verdict"] for one in stored]
    assert len(stored) >= 200 and verdicts.count("loops") == verdicts.count("terminates")
    assert len({one["context"] for one in stored}) == len(stored)


@pytest.mark.parametrize("place", range(7, 236, 40))
def test_the_reasons_of_the_benchmark_can_be_checked_again(place):
    program = json.loads(PROVED.read_text().splitlines()[place])
    answer = halts(program["context"], None, Isolation.LIMITS_ONLY)
    assert (answer.verdict, answer.proof) == (program["verdict"], True)
    assert next(one.by for one in answer.evidence if one.proof) == program["proof"]["by"]


def test_real_rollouts_are_never_wrong():
    limits = Limits(max_frames=128, wall_seconds=5.0)
    suite = Halting(lambda model: RealRun(Isolation.LIMITS_ONLY, limits))
    items = suite.items(None)[:26]
    result = suite.score(list(suite.records(None, items, Isolation.LIMITS_ONLY)))
    details = result["details"]
    assert result["n"] == 26 and details["false_loops"] == details["false_terminates"] == 0
    assert result["score"] + details["unknown"] == 1 and result["score"] > 0.5
    assert details["spared"]["programs"] == round(26 * result["score"])


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


def test_the_verb_proves_without_a_model_and_predicts_with_one(verb, tmp_path, trained_run):
    (tmp_path / "one.py").write_text("def f(n):\n    while n:\n        n = -n\n")
    status, printed, _ = verb("one.py:f", "--args", "3", "--format", "json", "--unsafe")
    answer = json.loads(printed)
    assert status == 0 and (answer["verdict"], answer["proof"]) == ("loops", True)
    assert answer["evidence"][-1]["details"]["period"] == 2
    status, printed, _ = verb("one.py:f", "--args", "3", "--unsafe")
    assert status == 0 and printed.startswith("loops (proved)") and "same complete state" in printed
    status, printed, _ = verb("one.py:f", "--args", "3", "--format", "json", "--no-run", "--checkpoint", trained_run)
    answer = json.loads(printed)
    assert status == (3 if answer["verdict"] == "unknown" else 0) and answer["proof"] is False
    assert [one["by"] for one in answer["evidence"]] == ["prediction"]


@pytest.mark.parametrize(
    "text, arguments, complaint",
    [
        ("def f(:", ["one.py:f"], "does not parse"),
        ("def f(): pass", ["one.py:g"], "no function 'g'"),
        ("def f(): pass", ["one.py"], "start marker"),
        ("def f(): pass", ["one.py:f", "--no-run"], "the model of this project"),
        ("def f(): pass", ["one.py:f", "--checkpoint", "nowhere"], "nowhere"),
    ],
)
def test_bad_calls_of_the_verb_are_explained(text, arguments, complaint, verb, tmp_path):
    (tmp_path / "one.py").write_text(text)
    status, printed, complaints = verb(*arguments)
    assert status == 2 and printed == "" and complaint in complaints and complaints.count("\n") == 1


def test_a_program_without_an_entry_is_explained():
    with pytest.raises(ValueError, match="start marker"):
        Program("def f():\n    pass\n")
