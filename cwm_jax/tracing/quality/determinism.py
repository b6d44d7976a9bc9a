"""Whether two recordings of one program are the same, and if not, in which way: words that can be counted.

Recordings run with fixed hash seed, clock and random seed; what still differs came from somewhere else, and a model
can only guess it. The reason is a guess from the two texts; the difference itself is certain.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from cwm_jax.tracing.language import resolve
from cwm_jax.tracing.quality.privacy import ADDRESS, ADDRESS_VALUE
from cwm_jax.tracing.trace import Frame, Trace

_TOKEN = re.compile(r"\w+(?:\.\d+)?|\S")
_TIME = re.compile(
    r"datetime\.(?:date|time|datetime|timedelta)\([^()]*\)|time\.struct_time\([^()]*\)"
    r"|\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?|\b\d\d:\d\d:\d\d(?:\.\d+)?"
    r"|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\w{0,6},? [\w :]{0,24}\d{4}"
    r"|(?<![\w.])1[6-9]\d{8}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?(?![\w.])"  # seconds to nanoseconds since 1970, until 2033
)
_RANDOM = re.compile(
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # a UUID
    r"|\b[0-9a-fA-F]{16,}\b|\b0\.\d{4,}(?:e-\d+)?\b"  # a token or a large number; a draw from [0, 1)
)
_TEMPORARY = re.compile(r"tmp[a-z0-9_]{8}\b")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Difference:
    """Where two recordings part.

    Attributes:
      reason: one of `REASONS`.
      frame: index of the first frame that differs; None where they part only after their frames.
    """

    reason: str
    frame: int | None = None


def difference(first: Trace, second: Trace) -> Difference | None:
    """The first difference of two recordings of one program; None if they are the same, verdict included.

    The first frame that differs says more of the cause than what follows from it, so it comes before the verdict.

    Raises:
      ValueError: the recordings are of two programs or of two Pythons.
    """
    for field in ("context", "python"):
        if getattr(first, field) != getattr(second, field):
            raise ValueError(f"the recordings differ in {field}; give two of one program under one Python")
    for index, (one, other) in enumerate(zip(first.frames, second.frames)):
        if (one, one.line, one.hidden) != (other, other.line, other.hidden):
            return Difference(_of_frames(first, second, index), index)
    if first.verdict != second.verdict:
        return Difference("verdict")
    if len(first.frames) != len(second.frames) or first.complete != second.complete:
        return Difference("number of frames", min(len(first.frames), len(second.frames)))
    return None


def _of_frames(first: Trace, second: Trace, index: int) -> str:
    one, other = first.frames[index], second.frames[index]
    if one.event != other.event:
        return "event"
    if (one, one.line) == (other, other.line):
        return "hidden state"
    if (one.line, one.source) != (other.line, other.source):
        return "line"
    return _of_states(one, other, resolve(first)[index], resolve(second)[index])


def _of_states(one: Frame, other: Frame, before: dict[str, str], after: dict[str, str]) -> str:
    if list(before) != list(after):
        return "names of locals"
    pairs = [(one.value, other.value), *zip(before.values(), after.values())]
    return next((_of_values(*pair) for pair in pairs if pair[0] != pair[1]), "value: other")


def _of_values(one: str, other: str) -> str:
    return next((reason for reason, explains in _VALUES.items() if explains(one, other)), "value: other")


def _permuted(one: str, other: str) -> bool:
    return sorted(_TOKEN.findall(one)) == sorted(_TOKEN.findall(other))


def _apart_from(*patterns: re.Pattern) -> Callable[[str, str], bool]:
    """A test whether two texts are one, apart from what the patterns find in them."""

    def explains(one: str, other: str) -> bool:
        for pattern in patterns:
            one, other = pattern.sub("\0", one), pattern.sub("\0", other)
        return one == other

    return explains


# What explains that two values differ; the first that does is the reason.
_VALUES: dict[str, Callable[[str, str], bool]] = {
    "value: order of a set": lambda one, other: "{" in one and _permuted(one, other),
    "value: order": _permuted,
    "value: address": _apart_from(ADDRESS, ADDRESS_VALUE),
    "value: temporary name": _apart_from(_TEMPORARY),
    "value: time": _apart_from(_TIME),
    "value: random": _apart_from(_RANDOM),
    "value: number": _apart_from(_NUMBER),
}
REASONS = ("event", "hidden state", "line", "names of locals", *_VALUES, "value: other", "verdict", "number of frames")
