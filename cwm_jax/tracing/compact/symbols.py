"""The control symbols of the compact form. Those of CWM's text that it does not need for themselves get new work."""

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.language import EVENT_TOKENS

MAX_LINES = 64
LINE_LABELS = tuple(f"<|L{number}|>" for number in range(1, MAX_LINES + 1))
PASSES = tuple(f"<|{number}|>" for number in range(32))  # the number of a pass of a loop, and of an element
AGAIN = "<|again|>"  # the event of a line that begins another pass of its loop
EQUALS = "<|equals|>"  # between one step of a working and the next
SET = "<|set|>"  # between a working and the locals that a line writes
NAME_END = st.ARG_SEP  # between a name and its value
VALUE_END = st.FRAME_SEP  # between one local and the next
ALL_LOCALS = st.ACTION_SEP  # the locals that follow are all there are, in this order

CONTROL_SYMBOLS = (*st.TRACE_TOKENS, AGAIN, EQUALS, SET, *LINE_LABELS, *PASSES)
EVENT_OF = {token: event for event, token in EVENT_TOKENS.items()} | {AGAIN: "line"}
IS_CONTROL = frozenset(CONTROL_SYMBOLS)


def plain(text: str) -> tuple[str, ...]:
    """A text as pieces none of which is a control symbol, even where some `__repr__` spells one."""
    return (text[:1], text[1:]) if text in IS_CONTROL else (text,)
