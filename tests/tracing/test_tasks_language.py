"""The text form of runs of several tasks: there and back, and never mistaken for a plain trace."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.text.special_tokens import CWM_IDS, TASK_IDS, TRACE_TOKENS
from cwm_jax.tracing import Frame, Trace, parse, render
from cwm_jax.tracing.language import TraceSyntaxError
from cwm_jax.tracing.tasks import Message, Step, TaskRun, parse_tasks, render_tasks, run_as_json

CONTROL = [*TRACE_TOKENS, *TASK_IDS]
texts = st.text() | st.sampled_from([*CONTROL, "..", '"', "\\u003c|", "<|", "|>", "\r\n", "\u2028", "\0", ""])
plain = texts.filter(lambda text: not any(token in text for token in CONTROL))
pairs = st.dictionaries(texts, texts, max_size=3).map(lambda about: tuple(about.items()))
frames = st.builds(Frame, st.sampled_from(["call", "line"]), plain, pairs) | st.builds(
    Frame, st.sampled_from(["return", "exception"]), plain, st.none(), texts
)
messages = st.builds(Message, st.sampled_from(["spawn", "send", "receive", "join"]), pairs)
steps = st.builds(Step, st.integers(0, 12), frames | messages)
runs = st.builds(TaskRun, plain, st.lists(steps, max_size=8).map(tuple), st.booleans())
traces = st.builds(Trace, plain, st.lists(frames, max_size=4).map(tuple), st.booleans())


@given(runs)
def test_parse_inverts_render(run):
    assert parse_tasks(render_tasks(run)) == run


@given(runs, traces)
def test_no_text_is_both_a_run_and_a_plain_trace(run, trace):
    with pytest.raises(TraceSyntaxError):
        parse(render_tasks(run))
    with pytest.raises(TraceSyntaxError):
        parse_tasks(render(trace))


@pytest.mark.parametrize("token", CONTROL)
def test_a_control_token_in_the_context_or_a_source_line_is_refused(token):
    with pytest.raises(ValueError, match="control token"):
        render_tasks(TaskRun(f"x = '{token}'", ()))
    with pytest.raises(ValueError, match="control token"):
        render_tasks(TaskRun("", (Step(0, Frame("line", token, ())),)))


def test_the_text_is_as_documented():
    spawn = Message("spawn", (("task", "1"), ("kind", "thread"), ("name", "T")))
    run = TaskRun(
        "SOURCE", (Step(0, Frame("line", "a\n", ())), Step(0, spawn), Step(1, Frame("return", "b\n", None, "1")))
    )
    assert render_tasks(run) == (
        "<|begin_of_text|><|trace_context_start|>SOURCE<|frame_sep|>"
        "<|task_sep|>0<|line_sep|>{}<|action_sep|>a\n<|frame_sep|>"
        '<|spawn_sep|>{"task": "1", "kind": "thread", "name": "T"}<|frame_sep|>'
        '<|task_sep|>1<|return_sep|><|action_sep|>b\n<|arg_sep|>"1"<|frame_sep|><|end_of_text|>'
    )
    assert [task["parent"] for task in json.loads(json.dumps(run_as_json(run)))["tasks"]] == [None, 0]


def test_the_numbers_of_new_tokens_are_reserved_and_free():
    places = list(TASK_IDS.values())
    assert len(set(places)) == len(places) and not set(places) & set(CWM_IDS.values())
    assert all(128_000 <= place < 128_256 for place in places) and not set(TASK_IDS) & set(CWM_IDS)


def test_causes_and_clocks_of_a_run_by_hand():
    def message(kind, /, **about):
        return Message(kind, tuple(about.items()))

    line = Frame("line", "x\n", ())
    run = TaskRun(
        "",
        (
            Step(0, message("spawn", task="1", kind="thread", name="a")),
            Step(0, message("spawn", task="2", kind="thread", name="b")),
            Step(1, line),
            Step(1, message("send", message="1", channel="Queue 1")),
            Step(2, line),
            Step(1, line),
            Step(2, message("receive", message="1", channel="Queue 1")),
            Step(0, message("join", task="2")),
        ),
    )
    assert list(run.causes()) == [(0, 2), (1, 4), (3, 6), (6, 7)]
    before = {(i, j) for i in range(8) for j in range(8) if run.happened_before(i, j)}
    assert {(0, 2), (1, 4), (3, 6), (2, 7), (0, 7)} <= before
    assert not {(1, 2), (2, 4), (4, 2), (5, 6), (5, 7), (6, 5)} & before
    assert run.clocks[7] == {0: 3, 1: 2, 2: 2}
