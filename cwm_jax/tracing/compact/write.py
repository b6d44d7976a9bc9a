"""Trace -> pieces: the writing half of the compact form."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.compact.source import Source
from cwm_jax.tracing.compact.symbols import AGAIN, ALL_LOCALS, EQUALS, NAME_END, PASSES, SET, VALUE_END, plain
from cwm_jax.tracing.flow import Step
from cwm_jax.tracing.language import EVENT_TOKENS
from cwm_jax.tracing.trace import UNCHANGED, Frame


def context_pieces(source: Source) -> Iterator[str]:
    """The pieces of a context."""
    yield st.BEGIN_OF_TEXT
    for number, code in source.code.items():
        yield source.labels[number]
        for called in source.flow.calls.get(number, ()):
            yield from (st.CALL_SEP, source.labels[called])
        for step in source.flow.steps.get(number, ()):
            yield from _step(step, source.labels)
        yield from plain(code)
        if number == source.start:
            yield st.TRACE_CONTEXT_START
    yield st.FRAME_SEP


def _step(step: Step, labels: dict[int, str]) -> tuple[str, ...]:
    """A way of control; nothing for a line without a label."""
    if not step.line:
        return (st.RETURN_SEP,)
    label = (labels[step.line],) if step.line in labels else ()
    return (AGAIN, *label) if step.again else label


@dataclass
class _Call:
    """A call that has not returned: its last line, its locals, and the pass that each of its loops is in."""

    line: int
    state: dict[str, str]
    passes: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Working:
    """How what a line does comes about, and which pass of a loop it begins."""

    steps: list[str] = field(default_factory=list)
    number: list[str] = field(default_factory=list)


def frame_pieces(source: Source, frames: Sequence[Frame]) -> Iterator[str]:
    """The pieces of frames; each needs its line number."""
    for head, rest in _told(source, frames):
        yield from head
        yield from rest


def prefix_pieces(source: Source, frames: Sequence[Frame]) -> Iterator[str]:
    """The pieces of frames that others follow, as far as they are the same whatever follows.

    What a line does to the locals stands behind its label, yet shows in the next frame, so the last frame gives its
    event, its label and what it says itself (arguments, or a value and the label of the line that goes on).
    """
    before: tuple[str, ...] = ()
    for head, rest in _told(source, frames):
        yield from (*before, *head)
        before = rest


def _told(source: Source, frames: Sequence[Frame]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The pieces of each frame: those that it decides, and those that the next one decides with it."""
    calls: list[_Call] = []
    for frame, after in zip_longest(frames, frames[1:]):
        if frame.event == "call" or not calls:
            calls.append(_Call(frame.line, dict(frame.locals or ())))
        working = _Working()
        event = EVENT_TOKENS[frame.event]
        if frame.locals is None:
            head = (event, source.labels[frame.line], *plain(frame.value))
            if frame.event == "return":
                calls.pop()
            if not calls:
                yield head, ()
                continue
            call = calls[-1]
            head = (*head, source.labels[call.line])
        else:
            call = calls[-1]
            again = frame.event == "line" and source.flow.again(call.line, frame.line)
            head = (AGAIN if again else event, source.labels[frame.line])
            call.line = frame.line
            if frame.event == "call":
                head, rest = (*head, *_listed(call.state)), ()
                if after is not None and after.event == "line" and list(after.locals) != _unchanged(call.state):
                    call.state = _full(after, call.state)
                    rest = (ALL_LOCALS, *_listed(call.state))
                yield head, rest
                continue
            working = _working(source, call, frame.line, again)
        if after is not None and after.event == "line":
            before, call.state = call.state, _full(after, call.state)
            written = source.writes.between(call.line, after.line)
            yield head, tuple(_changes(before, call.state, written, working))
        else:
            yield head, (*working.steps, *working.number)


def _working(source: Source, call: _Call, line: int, again: bool) -> _Working:
    loop = source.flow.loops.get(line)
    if not isinstance(loop, ast.For):
        return _Working(steps=source.workings.of(line, call.state))
    if again:
        call.passes[line] = call.passes.get(line, len(PASSES)) + 1
        return _Working(number=list(PASSES[call.passes[line] : call.passes[line] + 1]))
    call.passes.pop(line, None)
    if not (counted := source.workings.loop(loop.iter, call.state)):
        return _Working()
    call.passes[line] = 0
    return _Working(counted, [PASSES[0]])


def _unchanged(state: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, UNCHANGED) for name in state]


def _full(frame: Frame, state: dict[str, str]) -> dict[str, str]:
    return {name: state.get(name, value) if value == UNCHANGED else value for name, value in frame.locals}


def _changes(before: dict[str, str], after: dict[str, str], written: Iterable[str], working: _Working) -> Iterator[str]:
    """What a line does to the locals: those it writes, after its working; or all, where some vanish."""
    listed = {name: value for name, value in after.items() if before.get(name) != value or name in written}
    if list({**before, **listed}) != list(after):  # a local was deleted, or a new one is not the last
        yield from (*working.steps, *working.number, ALL_LOCALS, *_listed(after))
        return
    if not listed:
        yield from (*working.steps, *working.number)
        return
    known = [EQUALS, next(iter(listed.values()))]  # a last step that says the value itself
    steps = working.steps[:-2] if working.steps[-2:] == known else working.steps
    yield from (*steps, SET, *working.number, *_listed(listed))


def _listed(locals_: dict[str, str]) -> Iterator[str]:
    """Names and values."""
    for index, (name, value) in enumerate(locals_.items()):
        if index:
            yield VALUE_END
        yield from (*plain(name), NAME_END, *plain(value))
