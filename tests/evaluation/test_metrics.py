"""The nine metrics, exactness and the failure categories, on hand-made pairs and as properties of any pair."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cwm_jax.evaluation.metrics import (
    CATEGORIES,
    METRICS,
    exact,
    failure_category,
    first_mismatch,
    frames_exact,
    macro_average,
    trace_metrics,
)
from cwm_jax.tracing.trace import Frame, Trace

SHARES = METRICS[:7]


def call(source: str, **values: str) -> Frame:
    return Frame("call", source + "\n", locals=tuple(values.items()))


def line(source: str, **values: str) -> Frame:
    return Frame("line", source + "\n", locals=tuple(values.items()))


def ret(source: str, value: str) -> Frame:
    return Frame("return", source + "\n", value=value)


def raised(source: str, value: str) -> Frame:
    return Frame("exception", source + "\n", value=value)


def trace(*frames: Frame, complete: bool = True) -> Trace:
    return Trace("", frames, complete)


def changed(whole: Trace, index: int, **parts) -> Trace:
    frames = list(whole.frames)
    frames[index] = replace(frames[index], **parts)
    return replace(whole, frames=tuple(frames))


names = st.sampled_from(["n", "s", "total", ".0"])
values = st.sampled_from(["..", "1", "-2", "'a'", "[1]", "{}", "True", "None", "<f object>", "'un"])
values |= st.text(max_size=4)
sources = st.text(max_size=6) | st.sampled_from(
    ["if n > 1:", "elif s:", "while n:", "for n in s:", "n += 1", "x = [n for n in s]", "return n", "else:", ")"]
)
states = st.dictionaries(names, values, max_size=3).map(lambda state: tuple(state.items()))
events_with_state = st.builds(Frame, st.sampled_from(["call", "line"]), sources, locals=states)
events_with_value = st.builds(Frame, st.sampled_from(["return", "exception"]), sources, value=values)
frames = st.lists(events_with_state | events_with_value, max_size=8).map(tuple)
any_traces = st.builds(Trace, st.just(""), frames, st.booleans())
runs = st.builds(lambda first, middle, last: trace(first, *middle, last), events_with_state, frames, events_with_value)


@given(runs)
def test_a_trace_against_itself_is_perfect(actual):
    scores = trace_metrics(actual, actual, len)
    assert tuple(scores) == METRICS
    assert [scores[name] for name in SHARES] == [1.0] * 7
    assert exact(actual, actual) and first_mismatch(actual, actual) is None
    assert first_mismatch(replace(actual, complete=False), actual) == len(actual.frames)
    assert frames_exact(actual, actual) == (len(actual.frames), len(actual.frames))


@given(any_traces, runs)
def test_shares_are_ordered_and_lengths_belong_to_the_real_trace(predicted, actual):
    scores = trace_metrics(predicted, actual, len)
    assert all(0 <= scores[name] <= 1 for name in SHARES)
    assert scores["state_exact"] <= scores["state_key_value_match"] <= scores["state_key_match"] <= scores["valid_json"]
    assert all(scores[name] == trace_metrics(actual, actual, len)[name] for name in METRICS[7:])
    assert exact(predicted, actual) == (predicted == actual)


@given(runs, st.data())
def test_a_prefix_gets_the_credit_of_its_frames(actual, data):
    kept = data.draw(st.integers(0, len(actual.frames) - 1))
    predicted = replace(actual, frames=actual.frames[:kept], complete=False)
    scores = trace_metrics(predicted, actual, len)
    with_state = [index for index, frame in enumerate(actual.frames) if frame.locals is not None]
    share = sum(index < kept for index in with_state) / len(with_state)
    assert [scores[name] for name in ("output_match", "valid_format")] == [0, 0]
    assert scores["action_exact"] == kept / len(actual.frames)
    assert all(scores[name] == share for name in ("state_exact", "valid_json", "state_key_match"))
    assert first_mismatch(predicted, actual) == frames_exact(predicted, actual)[0] == kept
    assert failure_category(predicted, actual) == "format"
    assert failure_category(replace(predicted, complete=True), actual) == "stopped early"


@given(runs, st.data())
def test_one_wrong_state_changes_the_state_scores_alone(actual, data):
    with_state = [index for index, frame in enumerate(actual.frames) if frame.locals is not None]
    index = data.draw(st.sampled_from(with_state))
    predicted = changed(actual, index, locals=(*actual.frames[index].locals, ("new", "7")))
    scores = trace_metrics(predicted, actual, len)
    assert scores["state_exact"] == pytest.approx(1 - 1 / len(with_state))
    assert scores["state_key_match"] == scores["state_key_value_match"] < 1
    assert all(scores[name] == 1 for name in ("output_match", "valid_format", "action_exact", "valid_json"))
    assert first_mismatch(predicted, actual) == index
    assert frames_exact(predicted, actual) == (len(actual.frames) - 1, len(actual.frames))


@given(runs, st.data())
def test_one_wrong_value_changes_the_scores_of_values_alone(actual, data):
    with_state = [index for index, frame in enumerate(actual.frames) if frame.locals is not None]
    with_values = [index for index in with_state if actual.frames[index].locals]
    assume(with_values)
    index = data.draw(st.sampled_from(with_values))
    (name, value), *rest = actual.frames[index].locals
    scores = trace_metrics(changed(actual, index, locals=((name, value + "?"), *rest)), actual, len)
    pairs = len(rest) + 1
    wrong = 1 - (pairs - 1) / (pairs + 1)  # one pair is missed, one is too many
    assert scores["state_exact"] == pytest.approx(1 - 1 / len(with_state))
    assert scores["state_key_value_match"] == pytest.approx(1 - wrong / len(with_state))
    untouched = ("output_match", "valid_format", "action_exact", "valid_json", "state_key_match")
    assert all(scores[name] == 1 for name in untouched)


@given(runs)
def test_a_wrong_outcome_changes_the_output_alone(actual):
    assume(len(actual.frames) < 2 or actual.frames[-2].event != "exception")
    assume(actual.frames[-1].value != "<other>")
    scores = trace_metrics(changed(actual, -1, value="<other>"), actual, len)
    assert scores.pop("output_match") == 0
    assert all(scores[name] == 1 for name in SHARES if name in scores)


@given(runs, st.data())
def test_locals_that_cannot_be_read_are_a_wrong_state_at_a_right_line(actual, data):
    with_state = [index for index, frame in enumerate(actual.frames) if frame.locals is not None]
    scores = trace_metrics(changed(actual, data.draw(st.sampled_from(with_state)), locals=None), actual, len)
    share = pytest.approx(1 - 1 / len(with_state))
    names = ("state_exact", "valid_json", "state_key_match", "state_key_value_match")
    assert [scores[name] for name in names] == [share] * 4 and scores["action_exact"] == 1


@given(runs, st.data())
def test_one_wrong_source_changes_the_action_score_alone(actual, data):
    index = data.draw(st.integers(0, len(actual.frames) - 1))
    scores = trace_metrics(changed(actual, index, source="elsewhere"), actual, len)
    assert scores.pop("action_exact") == pytest.approx(1 - 1 / len(actual.frames))
    assert all(scores[name] == 1 for name in SHARES if name in scores)


@given(runs, events_with_value)
def test_surplus_frames_cost_nothing_but_exactness(actual, surplus):
    predicted = replace(actual, frames=(*actual.frames, surplus))
    scores = trace_metrics(predicted, actual, len)
    assert all(scores[name] == 1 for name in SHARES if name != "output_match")
    assert not exact(predicted, actual) and first_mismatch(predicted, actual) == len(actual.frames)
    assert failure_category(predicted, actual) == "ran on"


@given(any_traces, runs)
def test_every_failure_has_a_category(predicted, actual):
    assume(predicted != actual)
    assert failure_category(predicted, actual) in CATEGORIES


@given(st.lists(st.tuples(any_traces, runs), min_size=1, max_size=4))
def test_the_average_gives_every_trace_the_same_weight(pairs):
    scores = [trace_metrics(predicted, actual, len) for predicted, actual in pairs]
    average = macro_average(scores)
    for name in METRICS:
        assert average[name] == pytest.approx(sum(score[name] for score in scores) / len(scores))


ACTUAL = trace(
    call("def f(n):", n="1"),
    line("  n += 1", n=".."),
    line("  m = n", n="2"),
    line("  return m", n="..", m="2"),
    ret("  return m", "2"),
)


def test_known_scores():
    predicted = trace(
        call("def f(n):", n="1"),
        line("  n += 1", n=".."),
        line("  m = n", n="3"),  # the key matches, the pair does not
        ret("  return m", "2"),  # no state where one should be, at the right line
        ret("  return m", "2"),
    )
    scores = trace_metrics(predicted, ACTUAL, len)
    assert scores == {
        "output_match": 1,
        "valid_format": 1,
        "state_exact": 2 / 4,
        "action_exact": 4 / 5,
        "valid_json": 3 / 4,
        "state_key_match": 3 / 4,
        "state_key_value_match": 2 / 4,
        "state_tokens": (10 + 11 + 10 + 21) / 4,
        "action_tokens": (10 + 9 + 8 + 11 + 11) / 5,
    }
    assert frames_exact(predicted, ACTUAL) == (3, 5)
    assert first_mismatch(predicted, ACTUAL) == 2


def test_tokens_are_counted_on_the_text_of_the_trace():
    counted = []
    trace_metrics(trace(complete=False), ACTUAL, lambda text: counted.append(text) or 1)
    assert counted == [
        *('{"n": "1"}', '{"n": ".."}', '{"n": "2"}', '{"n": "..", "m": "2"}'),
        *(frame.source for frame in ACTUAL.frames),
    ]


def test_the_overlap_of_names_and_of_pairs():
    actual = trace(call("def f(a, b):", a="1", b="2"), ret("  return a", "1"))
    predicted = trace(call("def f(a, b):", b="3", a="1", c="0"), ret("  return a", "1"))
    scores = trace_metrics(predicted, actual, len)
    assert scores["state_key_match"] == pytest.approx(2 / 3)
    assert scores["state_key_value_match"] == pytest.approx(1 / 4)


def test_an_order_of_locals_is_no_state_error_but_not_exact():
    predicted = changed(ACTUAL, 3, locals=(("m", "2"), ("n", "..")))
    assert trace_metrics(predicted, ACTUAL, len)["state_exact"] == 1
    assert not exact(predicted, ACTUAL)


@pytest.mark.parametrize(
    ("guess", "real", "same"),
    [
        ("[1, 2]", "[1,2]", True),
        ("{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}", True),
        ("1.0", "1", True),
        ("'1'", "1", False),
        ("<f object>", "<f object>", True),
        ("<f object>", "<g object>", False),
        ("print(1)", "None", False),
        ("[1, 2", "[1, 2]", False),
        ("{[]: 1}", "{}", False),
        ("(" * 500, "1", False),
        ("1 + 1", "2", False),
    ],
)
def test_outputs_match_by_value_and_nothing_is_executed(guess, real, same):
    actual = changed(ACTUAL, 4, value=real)
    predicted = changed(ACTUAL, 4, value=guess)
    assert trace_metrics(predicted, actual, len)["output_match"] == same


def test_no_output_without_an_end_and_a_raise_is_no_return():
    passing_on = trace(call("def f():"), line("  g()"), raised("  g()", "E"), ret("  g()", "None"))
    returning = trace(call("def f():"), line("  g()"), ret("  g()", "E"))
    assert trace_metrics(replace(returning, complete=False), returning, len)["output_match"] == 0
    assert trace_metrics(returning, passing_on, len)["output_match"] == 0
    assert trace_metrics(changed(passing_on, 3, value="0"), passing_on, len)["output_match"] == 1


def after(statement: str, guess: Frame, frame: Frame) -> str:
    """The category of `guess` in place of `frame`, next after `statement` ran with n = 1, s = 'ab', xs = [1]."""
    start = (call("def f(n, s, xs):", n="1", s="'ab'", xs="[1]"), line(statement, n="..", s="..", xs=".."))
    return failure_category(trace(*start, guess, ret("x", "0")), trace(*start, frame, ret("x", "0")))


BODY, END = line("    a()", n=".."), line("  b()", n="..")


@pytest.mark.parametrize(
    ("statement", "guess", "frame", "category"),
    [
        ("  if n > 1:", BODY, END, "branch after if/while"),
        ("  elif n > 1:", BODY, END, "branch after if/while"),
        ("  while n:", END, BODY, "branch after if/while"),
        ("  while n:", ret("  while n:", "None"), BODY, "branch after if/while"),
        ("  if g(n):", BODY, call("def g(n):", n="1"), "next line"),
        ("  for n in xs:", END, BODY, "for: loop over or not"),
        ("  for n in xs:", ret("  for n in xs:", "None"), BODY, "for: loop over or not"),
        ("  [n for n in xs]", line("  [n for n in xs]"), ret("  [n for n in xs]", "[1]"), "for: loop over or not"),
        ("  n += 1", BODY, END, "next line"),
        ("  )", BODY, END, "next line"),
        ("  for n in xs:", line("  a()", n="2"), line("  a()", n=".."), "loop variable"),
        ("  for i, n in xs:", line("  a()", n="2"), line("  a()", n="3"), "loop variable"),
        ("  [n for n in xs]", line("  [n]", n="2"), line("  [n]", n=".."), "loop variable"),
        ("  n += 1", line("  a()", n="3"), line("  a()", n="2"), "arithmetic value"),
        ("  n = n % 2", line("  a()", n="0"), line("  a()", n=".."), "arithmetic value"),
        ("  n = len(xs)", line("  a()", n="-3"), line("  a()", n="-2"), "number value"),
        ("  s += 'c'", line("  a()", s="'abd'"), line("  a()", s="'abc'"), "string value"),
        ("  s = s[0:]", line("  a()", s="'b'"), line("  a()", s=".."), "string value"),
        ("  xs.append(n + 1)", line("  a()", xs=".."), line("  a()", xs="[1, 2]"), "list value"),
        ("  d = {}", line("  a()", d="{}"), line("  a()", d="{1: 2}"), "dict value"),
        ("  d = n < 2", line("  a()", d="False"), line("  a()", d="True"), "comparison/bool value"),
        ("  d = None", line("  a()", d="1"), line("  a()", d="None"), "other"),
        ("  del n", line("  a()", n="1"), line("  a()"), "number value"),
        ("  g(n)", call("def g(m):", m="2"), call("def g(m):", m="1"), "call arguments"),
        ("  return n", ret("  return n", "2"), ret("  return n", "1"), "return value"),
        ("  n = 1", line("  a()", n="..", s=".."), line("  a()", s="..", n=".."), "order of locals"),
        ("  n / 0", raised("  n / 0", "A"), raised("  n / 0", "B"), "other"),
    ],
)
def test_failure_categories(statement, guess, frame, category):
    assert after(statement, guess, frame) == category


def test_a_value_after_a_call_belongs_to_the_calling_line():
    start = (
        call("def f(n):", n="1"),
        line("  n = n + g(n)", n=".."),
        call("def g(m):", m="1"),
        line("  return m", m=".."),
        ret("  return m", "1"),
    )
    actual, predicted = (trace(*start, line("  return n", n=value), ret("  return n", "2")) for value in "23")
    assert failure_category(predicted, actual) == "arithmetic value"


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="complete=False"):
        trace_metrics(ACTUAL, replace(ACTUAL, complete=False), len)
    with pytest.raises(ValueError, match="test set is empty"):
        macro_average([])
    with pytest.raises(ValueError, match="exact"):
        failure_category(ACTUAL, ACTUAL)
