"""The trace language: text and back, whatever the values are."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.text.special_tokens import TRACE_TOKENS
from cwm_jax.tracing import Frame, Trace, parse, render, resolve
from cwm_jax.tracing.language import TraceSyntaxError, compress, frame_segments, segments, source_lines

VECTORS = [
    json.loads(line) for line in (Path(__file__).parents[1] / "data/trace_vectors.jsonl").read_text().splitlines()
]

# Text that looks like the language itself, and everything else that Unicode has (but halves of surrogate pairs).
nasty = st.sampled_from([*TRACE_TOKENS, "..", '"', "\\", "\\u003c|", "<|", "|>", "\n", "\r\n", "\u2028", "\0", "", "<"])
values = st.lists(nasty | st.text(max_size=5), max_size=6).map("".join)
plain = values.filter(lambda text: not re.search("|".join(map(re.escape, TRACE_TOKENS)), text))
names = st.text(min_size=1, max_size=4)
call_or_line = st.builds(
    Frame,
    st.sampled_from(["call", "line"]),
    plain,
    st.dictionaries(names, values, max_size=4).map(lambda d: tuple(d.items())),
)
end = st.builds(
    lambda event, source, value: Frame(event, source, value=value),
    st.sampled_from(["return", "exception"]),
    plain,
    values,
)
traces = st.builds(Trace, plain, st.lists(call_or_line | end, max_size=8).map(tuple), st.booleans())


@given(traces)
def test_parse_undoes_render(trace):
    text = render(trace)
    assert parse(text) == trace
    assert render(parse(text)) == text


@given(traces)
def test_control_tokens_in_the_text_are_separators_and_nothing_else(trace):
    pieces = list(segments(trace))
    assert "".join(pieces) == render(trace)
    controls = [piece for piece in pieces if piece in TRACE_TOKENS]
    assert re.findall("|".join(map(re.escape, TRACE_TOKENS)), render(trace)) == controls
    assert [piece for frame in trace.frames for piece in frame_segments(frame)] == pieces[
        4 : len(pieces) - trace.complete
    ]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_reference_texts_parse_and_render_to_themselves(vector):
    text = f"<|begin_of_text|><|trace_context_start|>{vector['context']}<|frame_sep|>{vector['trace']}"
    assert render(parse(text)) == text


@given(traces.filter(lambda trace: trace.frames), st.data())
def test_a_text_that_is_cut_short_is_an_error_or_a_shorter_trace(trace, data):
    text = render(trace)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    try:
        shorter = parse(cut)
    except TraceSyntaxError:
        return
    assert shorter.frames == trace.frames[: len(shorter.frames)] and not shorter.complete


@given(st.text(max_size=40) | st.lists(nasty, max_size=12).map("".join))
def test_any_other_text_is_a_syntax_error_of_the_language(text):
    try:
        assert render(parse(text)) is not None
    except TraceSyntaxError as error:
        assert str(error)


START = "<|begin_of_text|><|trace_context_start|>c<|frame_sep|>"


@pytest.mark.parametrize(("text", "words"), [
    ("", "ends too early"),
    ("x", "expected <|begin_of_text|> at character 0"),
    (START + "junk", "expected a frame or the end"),
    (START + "<|line_sep|>{<|action_sep|>x<|frame_sep|>", "not JSON at character 66"),
    (START + '<|line_sep|>{"a": 1}<|action_sep|>x<|frame_sep|>', "JSON strings"),
])  # fmt: skip
def test_a_syntax_error_says_where(text, words):
    with pytest.raises(TraceSyntaxError, match=re.escape(words)):
        parse(text)


@pytest.mark.parametrize("token", TRACE_TOKENS)
def test_control_tokens_in_a_source_are_refused(token):
    with pytest.raises(ValueError, match="the context"):
        render(Trace(f"x = '{token}'", ()))
    with pytest.raises(ValueError, match="a source line"):
        render(Trace("", (Frame("line", f"x = '{token}'\n", ()),)))


kinds = st.sampled_from(["call", "line", "line", "line", "return"])
states = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", "'x'"]), max_size=3)


@given(st.lists(st.tuples(kinds, states)))
def test_resolve_undoes_compress(steps):
    frames, expected, before = [], [], None
    for event, state in steps:
        if event == "return":
            frames.append(Frame("return", "\n", value="None"))
            expected.append({})
            before = None
        else:
            frames.append(Frame(event, "\n", compress(state, before if event == "line" else None)))
            expected.append(state)
            before = state
    assert resolve(Trace("", tuple(frames))) == expected


@given(st.text(alphabet="ab \t\r\n#\f\x0b\u2028", max_size=30))
def test_source_lines_are_the_lines_that_the_compiler_counts(text):
    lines = source_lines(text)
    assert len(lines) == text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)


def test_the_start_marker_is_not_part_of_a_source_line():
    assert source_lines("def f():  # << START_OF_TRACE\r\n    x = 1  # << start\n") == [
        "def f():\n",
        "    x = 1  # << start\n",
        "\n",
    ]


def test_two_dots_with_nothing_before_them_stand_for_themselves():
    frames = (
        Frame("line", "\n", (("a", "1"),)),
        Frame("call", "\n", (("a", ".."),)),
        Frame("line", "\n", (("b", ".."),)),
    )
    assert resolve(Trace("", frames)) == [{"a": "1"}, {"a": ".."}, {"b": ".."}]
