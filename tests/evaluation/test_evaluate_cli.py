"""`evaluate --suite` as its users call it, on a run that has learnt next to nothing; a checkpoint as a model."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cwm_jax.evaluation.cli import _results
from cwm_jax.evaluation.runner import run_suites
from cwm_jax.evaluation.suites import named
from cwm_jax.text.special_tokens import END_OF_TEXT
from cwm_jax.tracing import Isolation, record
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.models.endpoint import Endpoint
from cwm_jax.worldmodel.models.local import LocalModel
from cwm_jax.worldmodel.models.model import Ask
from cwm_jax.worldmodel.predict import predicted

ROOT = Path(__file__).parents[2]
CONTEXT = wrap("def f(n):\n    n += 1\n    return n", "f", "3")


@pytest.fixture(scope="module")
def run():
    """Runs the verb as a process."""

    def evaluate(*arguments):
        command = [sys.executable, "-m", "cwm_jax", "evaluate", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)

    return evaluate


@pytest.fixture(scope="module")
def model(trained_run):
    return LocalModel(trained_run)


def test_forced_by_its_own_words_a_model_is_never_surprised(model):
    (outcome,) = predicted(model, [(CONTEXT, ())], 64)
    prompt = tuple(model.form.context(CONTEXT))
    (said,) = model.complete([Ask(prompt, 64)])
    assert outcome.tokens == said.tokens <= 64 and said.pieces
    own, other = [*said.pieces], [*said.pieces[:3], END_OF_TEXT]
    forced, surprised = model.force([(prompt, own), (prompt, other)])
    assert all(one.first for one in forced)
    assert [one.logprob for one in forced] == pytest.approx(said.logprobs, abs=1e-3)
    assert not surprised[-1].first and surprised[-1].logprob < forced[3].logprob


def test_the_results_of_a_run_are_not_overwritten_by_those_of_another_model(run, trained_run):
    before = (trained_run / "results.json").read_bytes()
    for asked in (["--suite", "cruxeval-output-step"], ["--traces", "nowhere"]):
        done = run("--out", trained_run, "--limit", 1, *asked)
        assert done.returncode == 2 and "is a run; to measure it, name it with --checkpoint" in done.stderr
    assert (trained_run / "results.json").read_bytes() == before


def test_results_go_into_a_run_and_of_weights_and_servers_under_runs(trained_run, tmp_path):
    assert _results(trained_run) == trained_run / "evaluation"
    assert _results(tmp_path / "weights") == Path("runs/weights/evaluation") == _results(tmp_path / "x/../weights")
    assert _results(None) == Path("runs/evaluation")


def test_the_answers_do_not_depend_on_what_else_is_asked(model):
    asks = [
        Ask(tuple(model.form.context(CONTEXT)), 16, temperature, seed=seed)
        for temperature in (0.0, 1.0)
        for seed in (0, 1)
    ]
    together = list(model.complete([*asks, Ask(("words " * 5000,), 16)]))
    assert together[:4] == [next(model.complete([ask])) for ask in asks]
    assert together[0] == together[1] and "tokens; this checkpoint reads at most" in together[4].reason


@pytest.fixture(scope="module")
def evaluated(run, trained_run, tmp_path_factory):
    """The folder that two calls wrote, and what the second printed."""
    out = tmp_path_factory.mktemp("evaluated") / "results"
    common = ["--checkpoint", trained_run, "--out", out, "--unsafe"]
    first = run("--suite", "cruxeval-output", "--limit", 2, *common)
    assert first.returncode == 0, first.stderr
    second = run("--suite", "traces-own", "--limit", 3, *common)
    assert second.returncode == 0, second.stderr
    return out, second.stdout


def test_the_table_is_there_in_three_forms(evaluated):
    out, printed = evaluated
    suites = json.loads((out / "results.json").read_text())["suites"]
    names = [f"cruxeval-output-{mode}" for mode in ("language", "step", "reasoning", "trace")]
    assert list(suites) == [*names, "traces-own"]
    assert "--endpoint" in suites["cruxeval-output-reasoning"]["cannot"]
    markdown, page = (out / "results.md").read_text(), (out / "results.html").read_text()
    for suite in suites.values():
        assert suite["title"] in markdown and suite["title"] in page
    assert "results.html" in printed and "--endpoint" in printed


def test_what_a_tiny_model_cannot_do_counts_and_has_its_reason(evaluated):
    suites = json.loads((evaluated[0] / "results.json").read_text())["suites"]
    step = suites["cruxeval-output-step"]
    assert step["n"] == 2 and sum(step["reasons"].values()) == 2 * (1 - step["score"])
    own = suites["traces-own"]
    assert own["n"] == 3 and set(own["by_place"][0]) >= {"free", "forced", "probability"}
    assert 0 < own["by_place"][0]["probability"] < 1


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--suite", "nothing"], "there is no suite 'nothing'"),
        (["--suite", "cruxeval", "--limit", "0"], "--limit 0"),
        (["--suite", "run"], "--out"),
        (["--out", "x", "--limit", "3"], "--suite"),
        (["--suite", "run", "--endpoint", "http://127.0.0.1:9"], "--suite"),
        (["--suite", "cruxeval", "--model", "m"], "--endpoint"),
        (["--suite", "cruxeval", "--endpoint", "http://x", "--checkpoint", "y"], "two models"),
        (["--vocabulary", "y", "--out", "x"], "--endpoint"),
    ],
)
def test_bad_calls_are_explained(arguments, complaint, capsys, tmp_path, monkeypatch):
    from cwm_jax.__main__ import main

    try:
        status = main(["evaluate", *arguments])
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and complaint in capsys.readouterr().err


def test_a_server_that_is_not_there_is_explained(capsys):
    from cwm_jax.__main__ import main

    assert main(["evaluate", "--suite", "cruxeval-output-step", "--endpoint", "http://127.0.0.1:9"]) == 1
    assert "does not answer" in capsys.readouterr().err


def test_halting_is_a_suite_for_any_model(model, tmp_path):
    asked = lambda limit: run_suites(named("halting"), model, tmp_path, limit, Isolation.LIMITS_ONLY)  # noqa: E731
    assert asked(1)["suites"]["halting"]["n"] == 1
    first = (tmp_path / "items" / "halting.jsonl").read_text()
    found = asked(3)["suites"]["halting"]
    assert found["n"] == 3 and sum(map(sum, (one.values() for one in found["details"]["said"].values()))) == 3
    assert found["interval"][0] <= found["score"]
    lines = (tmp_path / "items" / "halting.jsonl").read_text()
    assert lines.startswith(first) and lines.count("\n") == 3  # what was asked is not asked again


@pytest.fixture(scope="module")
def served(trained_run):
    """The URL of a server of the run."""
    command = [sys.executable, "-m", "cwm_jax", "serve", "--checkpoint", str(trained_run), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield re.search(r"http://\S+", process.stdout.readline())[0]
        process.terminate()


def test_a_server_answers_as_its_checkpoint_does(run, evaluated, served, trained_run, tmp_path):
    vocabulary = trained_run / "data" / "vocabulary.model"
    common = ["--endpoint", served, "--vocabulary", vocabulary, "--limit", 2, "--out", tmp_path, "--unsafe"]
    done = run("--suite", "cruxeval-output-step", *common)
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(records(evaluated[0]), records(tmp_path), strict=True):
        sure, surely = ours.pop("confidence"), theirs.pop("confidence")  # None where there is no answer
        assert (sure or 0) == pytest.approx(surely or 0, rel=1e-2)
        assert ours == theirs


def records(folder: Path) -> list[dict]:
    """What became of each item, without what no two runs share."""
    lines = (folder / "items" / "cruxeval-output-step.jsonl").read_text().splitlines()
    return [{name: one for name, one in json.loads(line).items() if name not in ("seconds", "mark")} for line in lines]


def test_a_server_tells_how_it_takes_what_it_is_given(model, served, trained_run):
    endpoint = Endpoint(served, vocabulary=trained_run / "data" / "vocabulary.model")
    assert endpoint.form == model.form
    trace = record(CONTEXT, isolation=Isolation.LIMITS_ONLY)
    document = model.form.context(CONTEXT), model.form.frames(trace)
    (ours,), (theirs,) = model.force([document]), endpoint.force([document])
    assert [one.logprob for one in theirs] == pytest.approx([one.logprob for one in ours], abs=1e-3)
    assert [one.first for one in theirs] == [one.first for one in ours]
    asks = [Ask((*document[0], "<|call_sep|>"), 24, temperature, seed=3) for temperature in (0.0, 1.0)]
    assert [said.pieces for said in endpoint.complete(asks)] == [said.pieces for said in model.complete(asks)]
