"""Conversations with tools: the rules of what the agent may say, and tokens that are one stretch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.envs.dialog import Dialog, FormatError, Left, Said, parse
from cwm_jax.text import special_tokens
from cwm_jax.text.chat import REASONING, Call, ChatFormat, Message
from cwm_jax.text.vocabulary import train_vocabulary

CONTROL = [*special_tokens.CWM_IDS]
LEFT = Left(turns=3, tokens=100)
BUDGET = "<budget>\n* Remaining turns: 3\n* Remaining tokens: 100\n</budget>"


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary([REASONING, "<output>\n</output>\n\n" + BUDGET] * 3, 500, CONTROL)


@pytest.mark.parametrize("text, said", [
    ("Hm.\n</think>\n4", Said("Hm.", "\n4")),
    ("</think>", Said("", "")),
    ("a</think>I look.\n<tool: bash>\nls\npwd\n</tool>", Said("a", "I look.\n<tool: bash>\nls\npwd\n</tool>",
                                                             Call("bash", "ls\npwd"))),
    ("<tool: bash>\n</tool> in thought </think>b", Said("<tool: bash>\n</tool> in thought", "b")),
])  # fmt: skip
def test_what_keeps_the_rules(text, said):
    assert parse(text, ("bash",)) == said


@pytest.mark.parametrize("text, reason", [
    ("4", "exactly once"),
    ("</think>a</think>", "exactly once"),
    ("</think><tool: bash>\nls", "not whole"),
    ("</think>ls\n</tool>", "not whole"),
    ("</think><tool: bash>ls</tool>", "not whole"),
    ("</think><tool:bash>\nls\n</tool>", "not whole"),
    ("</think><tool: ba-sh>\nls\n</tool>", "not whole"),
    ("</think><tool: bash>\necho '<tool: x>'\n</tool>", "not whole"),
    ("</think><tool: bash>\nls\n</tool><tool: bash>\nls\n</tool>", "2 calls"),
    ("</think><tool: submit>\nx\n</tool>", "no tool submit; you have bash, edit"),
    ("</think><tool: bash>\n \n</tool>", "nothing in it"),
])  # fmt: skip
def test_what_breaks_them(text, reason):
    with pytest.raises(FormatError, match=reason):
        parse(text, ("bash", "edit"))


PARTS = st.sampled_from(["</think>", "<tool: bash>\n", "\n</tool>", "<tool:", "</tool>", "x", "\n", " "])


@given(st.lists(PARTS).map("".join) | st.text())
def test_every_text_keeps_the_rules_or_breaks_them(text):
    try:
        said = parse(text, ("bash",))
    except FormatError:
        return
    assert text.count("</think>") == 1 and text.endswith(said.text)
    assert (said.call is not None) == ("<tool:" in said.text) and (said.call is None or str(said.call) in said.text)


def test_turns_are_the_tokens_of_the_whole_conversation(vocabulary):
    """T14: prompt, action and observation, one after the other, are what the engine would be given for all of it."""
    dialog, end = Dialog(vocabulary), vocabulary.token_id("<|eot_id|>")
    first = dialog.opening("A box.", "Go on.")
    call = Call("bash", "echo ü")
    action = [*vocabulary.encode(f"Hm.\n</think>\n{call}"), end]
    said = dialog.said(action, ("bash",))
    assert said.call == call and said.thought == "Hm."
    second = dialog.result(action, "bash", "  ü\n", LEFT)
    messages = [
        Message("system", "# Environment\n\nA box."), Message("user", "Go on."),
        Message("assistant", "", reasoning="Hm.", calls=(call,)),
        Message("tool", f"<output>\n  ü\n\n</output>\n\n{BUDGET}", tool="bash"),
    ]  # fmt: skip
    whole = ChatFormat(vocabulary).prompt(messages)
    given = len(first) - len(vocabulary.encode("<think>\n"))
    assert vocabulary.decode([*first, *action, *second]) == vocabulary.decode(whole)
    assert whole[:given] == [*first[:given]] and whole[-len(second) :] == [*second]


def test_an_action_that_was_cut_is_ended_by_the_environment(vocabulary):
    dialog, end = Dialog(vocabulary), vocabulary.token_id("<|eot_id|>")
    action = vocabulary.encode("</think>\n<tool: bash>\nls\n</tool>")
    whole = dialog.result([*action, end], "bash", "a", LEFT)
    for cut in (action, [], [*action, vocabulary.eos_id]):
        assert dialog.result(cut, "bash", "a", LEFT) == (end, *whole)
    assert dialog.said(action, ("bash",)) == dialog.said([*action, vocabulary.eos_id], ("bash",))


@pytest.mark.parametrize("output", ["a" * 500, "ü" * 300, "\n" * 400, "<|eot_id|>" * 100])
def test_what_a_tool_says_is_cut_at_the_right(vocabulary, output):
    end = vocabulary.token_id("<|eot_id|>")
    around = len(Dialog(vocabulary).result([end], "bash", "", LEFT)) - len(
        vocabulary.encode(f"<output>\n\n</output>\n\n{BUDGET}")
    )
    said = Dialog(vocabulary, 150).result([end], "bash", output, LEFT)
    text = vocabulary.decode(said)
    assert len(said) == 150 + around
    assert f"<output>\n{output[:5]}" in text and f"\n[...]\n</output>\n\n{BUDGET}" in text
    assert said.count(end) == 1
    assert "[...]" not in vocabulary.decode(Dialog(vocabulary).result([end], "bash", output, LEFT))
