"""Conversations as ids, and answers read piece by piece."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.text.answers import AnswerParser, Said
from cwm_jax.text.chat import ASSISTANT, REASONING, THOUGHT, Call, ChatFormat, Message, Tool
from cwm_jax.text.special_tokens import BEGIN_OF_TEXT, CWM_IDS, END_HEADER, END_OF_TURN, START_HEADER
from cwm_jax.text.streams import Speller, StopStrings
from cwm_jax.text.vocabulary import train_vocabulary

TEXTS = ["You are helpful. Count the letters in strawberry, please.", "<think>\nthe r's\n</think>\n3 <tool: add>"] * 3
VOCABULARY = train_vocabulary(TEXTS, 420, tuple(CWM_IDS))
CONTROL = {VOCABULARY.token_id(name) for name in VOCABULARY.control_tokens}
FORMAT = ChatFormat(VOCABULARY)
ADD = Tool("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
TOOLS = ("add", "add_all", "find-it")

pieces = st.lists(
    st.sampled_from(
        ["<think>\n", THOUGHT, "\n", " ", "\n</think>\n", "</", "think>", "<tool: ", "<tool: add>\n",
         "<tool: add_all>\n", "<tool: no>\n", "</tool>", "\n</tool>", "{}", "ab", "é", "<", "tool"]
    ),
    max_size=14,
)  # fmt: skip


def merged(parts):
    """Pieces of one kind that follow each other, joined."""
    out = []
    for part in parts:
        if out and isinstance(part, Said) and isinstance(out[-1], Said) and out[-1].kind == part.kind:
            out[-1] = Said(part.kind, out[-1].text + part.text)
        else:
            out.append(part)
    return out


def parsed(texts, thinking, opening=""):
    parser = AnswerParser(thinking, TOOLS, opening)
    return merged([*(part for text in texts for part in parser(text)), *parser.end()])


def cuts(draw, text):
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)])]


@given(st.data(), pieces, st.booleans())
def test_what_an_answer_holds_does_not_depend_on_its_pieces(data, made, thinking):
    text = "".join(made)
    assert parsed(cuts(data.draw, text), thinking) == parsed([text], thinking)
    assert parsed(cuts(data.draw, text), thinking) == parsed(text, thinking)


@given(pieces, st.booleans())
def test_nothing_but_space_and_markers_is_lost(made, thinking):
    text = "".join(made)
    told = "".join(str(part) if isinstance(part, Call) else part.text for part in parsed([text], thinking))
    expected = text.replace(THOUGHT, "", 1) if thinking else text
    assert "".join(told.split()) == "".join(expected.split())


words = st.text("abé {}\n", max_size=8).map(str.strip)
calls = st.lists(st.builds(Call, st.sampled_from(TOOLS), st.text("ab{}: \n", min_size=1, max_size=9)), max_size=3)


@given(words, words.filter(bool), calls, st.booleans())
def test_an_answer_is_read_as_it_was_written(text, reasoning, made, thinking):
    message = Message("assistant", text, reasoning if thinking else "", tuple(made))
    body = message.body(keep_reasoning=True).removeprefix("<think>\n")
    wanted = [Said("reasoning", reasoning)] * thinking + [Said("content", text)] * bool(text) + made
    assert parsed([body], thinking) == wanted


def test_a_call_of_nobody_s_tool_or_one_cut_short_is_text():
    assert parsed(["so <tool: no>\n{}\n</tool>"], False) == [Said("content", "so <tool: no>\n{}\n</tool>")]
    assert parsed(["so \n<tool: add>\n{}"], False) == [Said("content", "so \n<tool: add>\n{}")]
    assert parsed(["{}\n</tool>"], False, opening="<tool: add>\n") == [Call("add", "{}")]


@given(st.lists(st.text() | st.sampled_from(VOCABULARY.control_tokens), max_size=4), st.booleans())
def test_bodies_never_hold_control_tokens(texts, thinking):
    roles = ("user", "assistant", "tool")
    messages = [Message(roles[i % 3], text, text, tool="add") for i, text in enumerate(texts)]
    ids = FORMAT.prompt([Message("system", "".join(texts)), *messages], (ADD,), thinking)
    start, end, turn = map(VOCABULARY.token_id, (START_HEADER, END_HEADER, END_OF_TURN))
    turns = len(messages) + 1
    expected = [VOCABULARY.token_id(BEGIN_OF_TEXT), *[start, end, turn] * turns, start, end]
    assert [token for token in ids if token in CONTROL] == expected


def test_a_conversation_is_written_as_released():
    messages = [
        Message("user", " add 1 and 2\n"),
        Message("assistant", "Well", "easy", (Call("add", '{"a": 1}'),)),
        Message("tool", " 3\n", tool="add"),
    ]

    def text(**options):
        return VOCABULARY.decode(FORMAT.prompt(messages, **options))

    end = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    conversation = (
        f"<|start_header_id|>user<|end_header_id|>\n\nadd 1 and 2<|eot_id|>{end}<think>\neasy\n</think>\nWell\n\n"
        '<tool: add>\n{"a": 1}\n</tool><|eot_id|><|start_header_id|>tool: add<|end_header_id|>\n\n 3\n<|eot_id|>'
    )
    begin = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    assert text() == f"{begin}{REASONING}<|eot_id|>{conversation}{end}<think>\n"
    assert text(thinking=False) == f"{begin}{ASSISTANT}<|eot_id|>{conversation}{end}"
    without = conversation.replace("<think>\neasy\n</think>\n", "")
    assert text(keep_reasoning=False) == f"{begin}{REASONING}<|eot_id|>{without}{end}<think>\n"
    messages.insert(0, Message("system", "Be brief."))
    told = text(tools=(ADD,), thinking=False, opening="<tool: add>\n")
    assert told.startswith(f"{begin}Be brief.\n\nYou have access to the following tools:\n\n## add\nAdds.\n")
    assert told.endswith(f"{conversation}{end}<tool: add>\n") and json.dumps(ADD.parameters) in told
    assert text(thinking=True).startswith(f"{begin}{REASONING}\n\nBe brief.<|eot_id|>")


def test_a_tool_s_example_is_a_call_of_it():
    (call,) = [part for part in parsed([str(ADD)], False) if isinstance(part, Call)]
    assert call == Call("add", '{"a": 1}')


def test_a_vocabulary_without_turns_has_no_conversations():
    with pytest.raises(ValueError, match="eot_id"):
        ChatFormat(train_vocabulary(TEXTS, 300, ()))


@given(st.lists(st.integers(0, VOCABULARY.vocab_size - 1), max_size=30), st.booleans())
def test_ids_are_spelled_one_by_one_as_all_together(ids, hide):
    hidden = CONTROL if hide else set()
    speller = Speller(VOCABULARY, hidden)
    grown = "".join([*(speller([token]) for token in ids), speller.end()])
    assert grown == VOCABULARY.decode([token for token in ids if token not in hidden])


@given(st.text("aé☃𝄞"))
def test_no_piece_ends_within_a_character(text):
    speller = Speller(VOCABULARY)
    grown = [speller([token]) for token in VOCABULARY.encode(text)]
    assert all("�" not in piece for piece in grown) and "".join(grown) == text and speller.end() == ""


@given(st.data(), st.text("abc", max_size=20), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_text_stops_before_the_stop_string_that_is_whole_first(data, text, stops):
    stopper = StopStrings(stops)
    grown = "".join([*(stopper(piece) for piece in cuts(data.draw, text)), stopper.end()])
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    if not ends:
        assert (grown, stopper.found) == (text, None)
    else:
        assert stopper.found in stops and grown + stopper.found == text[: ends[0]]
