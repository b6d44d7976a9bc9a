"""What an answer holds, read strictly: one end of the reasoning, one block of code, one box. Two of a kind are none."""

import re

from cwm_jax.text.chat import THOUGHT

_FENCE = re.compile(r"^ {0,3}```([^`\n]*)$", re.MULTILINE)
_BOX = r"\boxed{"
_BRACE = re.compile(r"\\.|([{}])", re.DOTALL)  # an escaped one is a sign like any other


def after_thought(text: str) -> str | None:
    """What stands after the reasoning; None unless `</think>` is said exactly once."""
    parts = text.split(THOUGHT)
    return parts[1] if len(parts) == 2 else None


def only_block(text: str) -> tuple[str, str] | None:
    """Language word and code of the only fenced block; None unless there is exactly one, which is closed."""
    fences = list(_FENCE.finditer(text))
    if len(fences) != 2 or fences[1][1].strip():
        return None
    language = (fences[0][1].split() or [""])[0]
    return language, text[fences[0].end() + 1 : fences[1].start()]


def only_box(text: str) -> str | None:
    """What stands in the only `\\boxed{…}`; None unless there is exactly one, whose braces are balanced."""
    parts = text.split(_BOX)
    if len(parts) != 2:
        return None
    depth = 1
    for brace in _BRACE.finditer(parts[1]):
        depth += {"{": 1, "}": -1}.get(brace[1], 0)
        if depth == 0:
            return parts[1][: brace.start()]
    return None
