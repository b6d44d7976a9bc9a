"""Reading answers: exactly one of a kind, and never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.envs.answers import after_thought, only_block, only_box

# Texts that are nearly answers.
PARTS = st.sampled_from(
    ["</think>", "```", "```python", "```\n", "\n", "    ```", "\\boxed{", "{", "}", "\\{", "\\", "x", " "]
)
TEXTS = st.lists(PARTS | st.text(max_size=3)).map("".join)
PLAIN = st.text(st.characters(exclude_characters="`{}\\<", exclude_categories=["Cs"]))


@given(PLAIN, PLAIN)
def test_what_stands_after_the_only_end_of_thought_is_told(thought, said):
    assert after_thought(f"{thought}</think>{said}") == said
    assert after_thought(thought) is None
    assert after_thought(f"</think>{thought}</think>{said}") is None


@given(PLAIN, PLAIN, PLAIN)
def test_the_code_of_the_only_block_is_told_to_the_letter(before, code, after):
    assert only_block(f"{before}\n```python\n{code}\n```\n{after}") == ("python", code + "\n")
    assert only_block(f"{before}\n{code}\n{after}") is None
    assert only_block(f"{before}\n```python\n{code}\n{after}") is None
    assert only_block(f"```\n{before}\n```\n{code}\n```\n{after}\n```") is None


@pytest.mark.parametrize(("text", "block"), [
    ("```\n```", ("", "")),
    ("```cpp  \r\nint x;\r\n```\r\n", ("cpp", "int x;\r\n")),
    ("```python title=x\n1\n```", ("python", "1\n")),
    ("say ```x``` and\n```py\n1\n```", ("py", "1\n")),  # code within a line is no block
    ("```x = 1```", None),
    ("```py\n1\n```py\n", None),  # the second fence opens, and closes nothing
])  # fmt: skip
def test_fences_are_those_of_markdown(text, block):
    assert only_block(text) == block


@st.composite
def balanced(draw) -> str:
    inner = st.deferred(
        lambda: st.lists(PLAIN | st.sampled_from(["\\{", "\\}", "\\frac"]) | nested, max_size=3).map("".join)
    )
    nested = inner.map(lambda text: "{" + text + "}")
    return draw(inner)


@given(PLAIN, balanced(), PLAIN)
def test_the_only_box_is_told_with_the_braces_in_it(before, inside, after):
    box = f"\\boxed{{{inside}}}"
    assert only_box(f"{before}${box}${after}") == inside
    assert only_box(before + after) is None
    assert only_box(f"{before}{box}{after}{box}") is None
    assert only_box(f"{before}\\boxed{{{inside}") is None
    assert only_box(f"\\boxed{{{box}}}") is None


@given(TEXTS)
def test_any_text_can_be_read(text):
    after_thought(text), only_block(text), only_box(text)
