"""Hidden state: what the locals of a frame do not show, recorded beside them where asked for, and its text.

Call and line frames get it as `(name, text)` pairs of three kinds:

- `for x in xs`: what a running loop or comprehension still has to yield, outer loops first: `[2, 3]`,
  `[2, 3, ... 5 more]`, `[2, 3, ...]` for no end, `map(<function f>, [2, 3])` for what only the program's code can
  tell, and else the kind of iterator, such as `<generator object g>`. The name is the loop's source, with a `'` behind
  it inside a loop of the same source;
- `it`: the same for a variable that holds such an iterator, `.0` being the argument of a comprehension's frame;
- `is`: names, and places in what they hold, that are one mutable object: `a is b; xs is grid[0]`.

A text that is the same as in the preceding frame of the scope is `..`, by the rule for locals. Values are shown without
the program's own `__repr__`, long ones by their start.

In the extended text the pairs stand behind the locals: `<|arg_sep|>`, a JSON object, as `<|line_sep|>{"x": "1", "xs":
".."}<|arg_sep|>{"for x in xs": "[2, 3]"}<|action_sep|>`. No plain trace has that token there. This is an extension of
ours: CWM's paper (§2.2) names no such fields.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.language import TraceSyntaxError, parse, resolve, segments, to_json
from cwm_jax.tracing.trace import Frame, Trace

_PYTHONS = ((3, 11), (3, 12))  # whose frames `child/stack.py` can read
_BETWEEN = re.compile(f"{re.escape(st.ARG_SEP)}((?:(?!<\\|).)*){re.escape(st.ACTION_SEP)}", re.DOTALL)


@dataclass(frozen=True)
class Hidden:
    """Bounds on the hidden state of one frame; the values are our choice.

    Attributes:
      items: values shown of what an iterator still has to yield.
      depth: containers deep that shared objects are looked for.
      places: names, items and attributes that are looked at for them.
    """

    items: int = 8
    depth: int = 2
    places: int = 200

    def __post_init__(self):
        for name, least in {"items": 1, "depth": 0, "places": 1}.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name}={value} of hidden state is too small; give at least {least}")
        if sys.version_info[:2] not in _PYTHONS or sys.implementation.name != "cpython":
            known = " and ".join(f"{major}.{minor}" for major, minor in _PYTHONS)
            raise ValueError(f"hidden state is read from frames of CPython {known}; leave it out or use one of these")


def render_hidden(trace: Trace) -> str:
    """The extended text of a trace; that of `render` where no frame has hidden state.

    Raises:
      ValueError: as `render`.
    """
    return "".join(hidden_segments(trace))


def hidden_segments(trace: Trace) -> Iterator[str]:
    """The extended text of a trace cut so that each piece is one control token or plain text."""
    frames = iter(trace.frames)
    for piece in segments(trace):
        if piece == st.ACTION_SEP and (hidden := next(frames).hidden) is not None:
            yield from (st.ARG_SEP, to_json(dict(hidden)))
        yield piece


def parse_hidden(text: str) -> Trace:
    """The trace that an extended text spells; the inverse of `render_hidden`, hidden state included.

    Raises:
      TraceSyntaxError: the text is no trace, or what stands for hidden state is none.
    """
    trace = parse(_BETWEEN.sub(st.ACTION_SEP, text))
    texts = text.split(st.FRAME_SEP)[1:]
    return replace(trace, frames=tuple(map(_with_hidden, trace.frames, texts)))


def _with_hidden(frame: Frame, text: str) -> Frame:
    match = _BETWEEN.search(text)
    if match is None:
        return frame
    if frame.locals is None:
        raise TraceSyntaxError(f"hidden state at the event {frame.event}, which has none: {match[1][:60]!r}")
    try:
        pairs = json.loads(match[1])
    except ValueError as error:
        raise TraceSyntaxError(f"hidden state is not JSON: {match[1][:60]!r} ({error})") from None
    if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
        raise TraceSyntaxError(f"hidden state is no JSON object of strings: {match[1][:60]!r}")
    return replace(frame, hidden=tuple(pairs.items()))


def resolve_hidden(trace: Trace) -> list[dict[str, str]]:
    """The full hidden state at every frame: each `".."` replaced by the text that it stands for."""
    return resolve(replace(trace, frames=tuple(replace(frame, locals=frame.hidden) for frame in trace.frames)))
