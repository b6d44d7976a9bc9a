"""Suites against a server that knows what programs do: the perfect model gets all, a changed one what was changed."""

import json
from dataclasses import replace

import pytest
from true_server import Oracle, byte_vocabulary, last_value

from cwm_jax.evaluation.constructs import constructs
from cwm_jax.evaluation.cruxeval import read_rows
from cwm_jax.evaluation.metrics import METRICS
from cwm_jax.evaluation.runner import run_suites
from cwm_jax.evaluation.suites import SUITES, named
from cwm_jax.sandbox import Isolation
from cwm_jax.worldmodel.models.endpoint import Endpoint

LIMIT = 6
ROWS = read_rows()[:LIMIT]
CRUXEVAL = [name for name in SUITES if name.startswith("cruxeval")]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return byte_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture
def oracle(vocabulary):
    return Oracle(vocabulary, {row.code.strip("\n"): row.input for row in ROWS})


@pytest.fixture
def evaluate(oracle, vocabulary, tmp_path):
    """Puts suites to the oracle, in token ids unless told otherwise; what each came to, by its name."""

    with oracle.serving() as url:

        def run(name: str, in_ids: bool = True, limit: int = LIMIT):
            model = Endpoint(url, vocabulary=vocabulary if in_ids else None)
            return run_suites(named(name), model, tmp_path / "out", limit, Isolation.LIMITS_ONLY)["suites"]

        yield run


def scores(suites: dict) -> dict:
    return {name: suite.get("score") for name, suite in suites.items()}


def test_the_perfect_model_is_right_everywhere(evaluate, oracle):
    suites = evaluate("cruxeval") | evaluate("traces-cruxeval")
    assert scores(suites) == dict.fromkeys([*CRUXEVAL, "traces-cruxeval"], 1.0)
    assert all(suite["n"] == LIMIT and suite["reasons"] == {} for suite in suites.values())
    traces = suites["traces-cruxeval"]
    assert all(traces["metrics"][name] == 1 for name in METRICS[:7])
    assert all(row["free"] == row["forced"] == 1 and row["probability"] > 0.9 for row in traces["by_place"])
    assert all(row["score"] == 1 for row in [*traces["values_by_type"], *traces["by_construct"]])
    held = sum("for loop" in constructs(row.code) for row in ROWS)
    assert {row["type"]: row["n"] for row in traces["by_construct"]}["for loop"] == held > 0
    assert suites["cruxeval-output-trace"]["calibration"]["error"] < 0.1
    assert traces["frame_calibration"]["error"] < 0.15 and traces["frame_calibration"]["bins"][-1]["score"] == 1
    assert {body["temperature"] for body in oracle.asked if "messages" in body} == {1.0}


def test_in_text_alone_all_but_teacher_forcing_can_be_done(evaluate):
    suites = evaluate("cruxeval", in_ids=False, limit=2) | evaluate("traces-cruxeval", in_ids=False, limit=2)
    assert scores(suites) == dict.fromkeys([*CRUXEVAL, "traces-cruxeval"], 1.0)
    (reason,) = suites["traces-cruxeval"]["not_forced"]
    assert "--vocabulary" in reason
    assert not any("forced" in row for row in suites["traces-cruxeval"]["by_place"])


def test_wrong_values_cost_what_they_are(evaluate, oracle):
    wrong = {ROWS[1].id: "'no'", ROWS[4].id: "(1,", ROWS[5].id: "[*range(3)]"}
    changed = {row.code.strip("\n"): wrong[row.id] for row in ROWS if row.id in wrong}

    def change(trace):
        value = next((value for code, value in changed.items() if code in trace.context), None)
        return trace if value is None else last_value(trace, value)

    oracle.changes = change
    suites = evaluate("cruxeval-output") | evaluate("traces-cruxeval")
    for name in ("step", "trace"):
        assert suites[f"cruxeval-output-{name}"]["reasons"] == {"wrong value": 2, "no Python value": 1}
    assert suites["cruxeval-output-language"]["score"] == suites["cruxeval-output-reasoning"]["score"] == 1
    metrics = suites["traces-cruxeval"]["metrics"]
    assert metrics.pop("output_match") == suites["cruxeval-output-trace"]["score"] == 0.5
    assert [metrics[name] for name in METRICS[1:7]] == [1] * 6
    assert suites["traces-cruxeval"]["reasons"] == {"return value": 3}


def test_frames_count_as_sure_up_to_the_first_wrong_one(evaluate, oracle, tmp_path):
    def change(trace):
        frames = list(trace.frames)
        if ROWS[1].code.strip("\n") in trace.context:
            place = next(place for place, frame in enumerate(frames) if place > 1 and frame.locals)
            frames[place] = replace(frames[place], locals=(("nobody", "1"),))
        return replace(trace, frames=tuple(frames))

    oracle.changes = change
    evaluate("traces-cruxeval", limit=3)
    one, changed, _ = records_of(tmp_path, "traces-cruxeval")
    assert len(one["sure"]) == one["frames"] - 1 and all(right for _, right in one["sure"])  # the first is given
    assert [right for _, right in changed["sure"]] == [True, False] and changed["sure"][1][0] > 0.5
    free = evaluate("traces-cruxeval", limit=3)["traces-cruxeval"]["frame_calibration"]
    assert free["n"] == sum(len(record["sure"]) for record in records_of(tmp_path, "traces-cruxeval"))


def test_traces_are_counted_by_test_set(evaluate, oracle, tmp_path):
    evaluate("traces-cruxeval", limit=4)
    records = records_of(tmp_path, "traces-cruxeval")
    assert SUITES["traces-own"].score(records)["by_kind"] == []
    for place, record in enumerate(records):
        record |= {"kind": "composed" if place else "recorded", "right": place != 3}
    rows = {row["type"]: (row["n"], row["score"]) for row in SUITES["traces-own"].score(records)["by_kind"]}
    assert rows == {"composed": (3, pytest.approx(2 / 3)), "recorded": (1, 1.0)}


def test_what_is_no_return_is_no_answer(evaluate, oracle):
    oracle.changes = lambda trace: replace(trace, frames=trace.frames[:3])
    found = evaluate("cruxeval-output", limit=2)
    (reason,) = found["cruxeval-output-step"]["reasons"]
    assert reason.startswith("cannot be read: frame 2")
    assert found["cruxeval-output-trace"]["reasons"] == {"does not end in a return": 2}


def test_an_equal_value_is_right_however_it_is_written(evaluate, oracle):
    oracle.changes = lambda trace: last_value(trace, f"({trace.frames[-1].value})  # as it is")
    assert evaluate("cruxeval-output-step")["cruxeval-output-step"]["score"] == 1
    oracle.says = lambda text: text.replace("== ", "== (\n  ", 1).replace("\n[/", "\n)\n[/", 1)
    assert evaluate("cruxeval-output-language")["cruxeval-output-language"]["score"] == 1


def test_surprises_are_seen_where_they_are(evaluate, oracle, tmp_path):
    codes = [ROWS[place].code for place in (0, 3)]
    oracle.surprises = lambda context, frame: frame == 2 and any(code in context for code in codes)
    evaluate("traces-cruxeval")
    records = records_of(tmp_path, "traces-cruxeval")
    for row, record in zip(ROWS, records):
        right = record["forced"]["right"]
        assert [place for place, one in enumerate(right) if not one] == ([2] if row.code in codes else [])
        assert (record["forced"]["probability"][2] < 0.01) == (row.code in codes)
        assert record["right"]


def records_of(folder, name):
    """The records of a suite."""
    return [json.loads(line) for line in (folder / "out" / "items" / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("wrong, score", [(2, 1.0), (8, 0.0)])
def test_inputs_are_found_by_trying_predicted_calls(evaluate, oracle, wrong, score):
    oracle.draws = ("[7]", "[8, 8]", *["[9, 7]"] * (wrong - 2))  # seed 0 is taken greedily, seeds 1 to 7 are drawn
    assert set(scores(evaluate("cruxeval-input-trace", limit=1)).values()) == {score}


def test_what_is_done_is_not_asked_again(evaluate, oracle, tmp_path):
    first = evaluate("cruxeval-output-trace", limit=2)
    asked = len(oracle.asked)
    assert evaluate("cruxeval-output-trace", limit=2) == first and len(oracle.asked) == asked
    path = tmp_path / "out" / "items" / "cruxeval-output-trace.jsonl"
    path.write_text(path.read_text()[:-20])  # as a kill leaves it
    evaluate("cruxeval-output-trace", limit=4)
    assert len(oracle.asked) == asked + 3
    assert [record["id"] for record in records_of(tmp_path, "cruxeval-output-trace")] == [row.id for row in ROWS[:4]]
    assert evaluate("cruxeval-output-step", limit=1).keys() == {"cruxeval-output-trace", "cruxeval-output-step"}


@pytest.mark.parametrize(
    "kind, suite, in_ids, complaint",
    [
        ({"reads_symbols": False}, "cruxeval-output-trace", False, "--vocabulary"),
        ({"returns_ids": False}, "cruxeval-output-step", True, "return_token_ids"),
        ({"talks": False}, "cruxeval-input-reasoning", True, "/v1/chat/completions"),
        ({"completes": False}, "cruxeval-output-language", True, "/v1/completions"),
        ({"completes": False}, "traces-cruxeval", False, "/v1/completions"),
        ({}, "traces-own", True, "--checkpoint"),
    ],
)
def test_what_cannot_be_done_is_said(evaluate, oracle, kind, suite, in_ids, complaint):
    vars(oracle).update(kind)
    found = evaluate(suite, in_ids, limit=1)[suite]
    assert complaint in found["cannot"] and "score" not in found


def test_without_ranks_forced_shares_are_lower_bounds(evaluate, oracle):
    oracle.tells_ranks = False
    oracle.surprises = lambda context, frame: frame == 1
    rows = evaluate("traces-cruxeval", limit=2)["traces-cruxeval"]["by_place"]
    assert rows[0]["at_least"] and rows[0]["forced"] < 1 and "at_least" not in rows[1]


def test_a_server_without_extensions_is_asked_without_them(evaluate, oracle):
    oracle.refuses = {"reasoning", "chat_template_kwargs", "add_special_tokens", "skip_special_tokens"}
    found = evaluate("cruxeval-output-reasoning", limit=2) | evaluate("cruxeval-output-step", in_ids=False, limit=2)
    assert set(scores(found).values()) == {1.0}


def test_reasons_tell_why_there_is_no_answer(evaluate, oracle):
    oracle.longest = 40
    oracle.says = lambda text: "I do not know"
    found = evaluate("cruxeval-output", limit=2)
    assert found["cruxeval-output-language"]["reasons"] == {"no Python value": 2}
    assert found["cruxeval-output-trace"]["reasons"] == {"cut at the longest answer": 2}
    oracle.longest, oracle.refuses = None, {"prompt"}
    (reason,) = evaluate("cruxeval-input-step", limit=2)["cruxeval-input-step"]["reasons"]
    assert "unknown field prompt" in reason


def test_a_server_that_lists_no_models_is_explained(oracle):
    with oracle.serving() as url, pytest.raises(ValueError, match="lists no models"):
        Endpoint(f"{url}/elsewhere")
    with oracle.serving() as url, pytest.raises(ValueError, match="--model 'other' is none"):
        Endpoint(url, "other")
