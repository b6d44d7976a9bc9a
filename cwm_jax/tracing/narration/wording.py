"""How a narration quotes what a trace holds, and the sentence that it closes with, so that both can be read back.

Values, names and source stand in backticks as they are. What would break the line, the backticks or the trace
language (`<|…`) is written as a JSON string after the word `text` instead: `text "a\\u000ab"`.
"""

import json
import re
from dataclasses import dataclass
from typing import Literal

from cwm_jax.tracing.trace import Trace

_SPELLED = 'text "'
QUOTED = r"`[^`]*`"


def quote(text: str) -> str:
    """`text` in backticks, on one line, free of control tokens; `unquote` is its inverse."""
    if text.isprintable() and "`" not in text and "<|" not in text and not text.startswith(_SPELLED):
        return f"`{text}`"
    spelled = json.dumps(text).replace("<|", "\\u003c|").replace("`", "\\u0060")
    return f"`text {spelled}`"


def unquote(quoted: str) -> str:
    """The text that `quote` put in backticks.

    Raises:
      ValueError: it did not.
    """
    text = quoted[1:-1]
    if len(quoted) < 2 or quoted != f"`{text}`" or "`" in text:
        raise ValueError(f"{quoted!r} is no quotation; write it as `quote` does")
    return json.loads(text.removeprefix("text ")) if text.startswith(_SPELLED) else text


def join(parts: list[str], word: str = "and") -> str:
    """`a, b and c`."""
    return f" {word} ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


@dataclass(frozen=True)
class Final:
    """How a run ended.

    Attributes:
      how: `returned` or `raised`; `stopped` if its end was not recorded.
      value: `repr` of the returned value or of the exception; empty if `stopped`.
    """

    how: Literal["returned", "raised", "stopped"]
    value: str = ""


_CLOSINGS = {
    "returned": "The final value is {}.",
    "raised": "The run ends with the exception {}.",
    "stopped": "The recording stops here, before the end of the run.",
}


def final_of(trace: Trace) -> Final:
    """How the run of `trace` ended.

    Where no verdict came with the trace, an exception right before the last return left the entry, but for the
    `StopIteration` that ends a loop (our choice: CPython's events do not tell them apart).
    """
    frames = trace.frames
    if not trace.complete or not frames or frames[-1].event != "return":
        return Final("stopped")
    before = frames[-2] if len(frames) > 1 and frames[-2].event == "exception" else None
    if trace.verdict == "raised" or (not trace.verdict and before and not before.value.startswith("Stop")):
        return Final("raised", next(frame.value for frame in reversed(frames) if frame.event == "exception"))
    return Final("returned", frames[-1].value)


def closing(final: Final) -> str:
    """The closing sentence of a narration."""
    return _CLOSINGS[final.how].format(quote(final.value))


def final_value(text: str) -> Final | None:
    """What the closing sentence of a narration says, exactly; None if its last line is no closing sentence."""
    last = text.rstrip().rpartition("\n")[2].strip()
    for how, sentence in _CLOSINGS.items():
        before, _, after = sentence.partition("{}")
        if found := re.fullmatch(f"{re.escape(before)}({QUOTED}|){re.escape(after)}", last):
            try:
                return Final(how, unquote(found[1]) if found[1] else "")
            except ValueError:
                return None
    return None
