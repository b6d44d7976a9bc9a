"""The trace language for programs whose tasks talk: an extension of CWM's, of our own making.

    <|begin_of_text|><|trace_context_start|>SOURCE<|frame_sep|>
    <|task_sep|>0<|line_sep|>{"q": "<queue.Queue object>"}<|action_sep|>    Thread(target=work).start()⏎<|frame_sep|>
    <|spawn_sep|>{"task": "1", "kind": "thread", "name": "Thread-1 (work)"}<|frame_sep|>
    <|task_sep|>1<|call_sep|>{…}<|action_sep|>def work():⏎<|frame_sep|> … <|end_of_text|>

(without the line breaks between the frames). Frames are those of plain traces; `".."` refers to the preceding frame of
the same task, as if it ran alone. `<|task_sep|>` and a number stand before a frame of another task than the one before,
and before the very first. A message between tasks is `<|spawn_sep|>`, `<|send_sep|>`, `<|receive_sep|>` or
`<|join_sep|>`, a JSON object of strings, and `<|frame_sep|>`: see `Message`. It stands where the operation has been
done, before the next line; a spawn, where it begins. `<|end_of_text|>` says that the entry was left and the main
process came to its end.

No text is both a plain trace and one of these: here `<|task_sep|>` stands behind the context, there it never does.
"""

import re
from collections.abc import Iterator

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.language import (
    EVENT_OF,
    Reader,
    TraceSyntaxError,
    frame_segments,
    parse_frame,
    plain_text,
    to_json,
)
from cwm_jax.tracing.tasks.run import Message, MessageKind, Step, TaskRun
from cwm_jax.tracing.trace import Frame

MESSAGE_TOKENS: dict[MessageKind, str] = {
    "spawn": st.SPAWN_SEP,
    "send": st.SEND_SEP,
    "receive": st.RECEIVE_SEP,
    "join": st.JOIN_SEP,
}
_KIND_OF = {token: kind for kind, token in MESSAGE_TOKENS.items()}
_NUMBER = re.compile("0|[1-9][0-9]*")


def render_tasks(run: TaskRun) -> str:
    """The exact text of a run.

    Raises:
      ValueError: a control token stands in the source.
    """
    return "".join(task_segments(run))


def task_segments(run: TaskRun) -> Iterator[str]:
    """The text of a run cut so that each piece is one control token or plain text."""
    yield from (st.BEGIN_OF_TEXT, st.TRACE_CONTEXT_START)
    yield plain_text(run.context, "the context", st.TASK_TOKEN_PATTERN)
    yield st.FRAME_SEP
    before = None
    for step in run.steps:
        if step.task != before:
            yield from (st.TASK_SEP, str(step.task))
            before = step.task
        if isinstance(step.what, Frame):
            plain_text(step.what.source, "a source line", st.TASK_TOKEN_PATTERN)
            yield from frame_segments(step.what)
        else:
            yield from (MESSAGE_TOKENS[step.what.kind], to_json(dict(step.what.about)), st.FRAME_SEP)
    if before is None:
        yield from (st.TASK_SEP, "0")
    if run.complete:
        yield st.END_OF_TEXT


def parse_tasks(text: str) -> TaskRun:
    """The run that `text` spells; the inverse of `render_tasks`.

    Raises:
      TraceSyntaxError: with the position of the first piece that does not fit.
    """
    reader = Reader(text, st.TASK_TOKEN_PATTERN)
    reader.expect(st.BEGIN_OF_TEXT)
    reader.expect(st.TRACE_CONTEXT_START)
    context = reader.plain()
    reader.expect(st.FRAME_SEP)
    steps: list[Step] = []
    task = _parse_task(reader)
    while reader.peek() not in (None, st.END_OF_TEXT):
        if steps and reader.peek() == st.TASK_SEP:
            task = _parse_task(reader)
        steps.append(Step(task, _parse_step(reader)))
    complete = reader.peek() == st.END_OF_TEXT
    if complete:
        reader.expect(st.END_OF_TEXT)
    if reader.peek() is not None:
        raise TraceSyntaxError(f"expected the end at character {reader.offset}, found {reader.peek()!r}")
    return TaskRun(context, tuple(steps), complete)


def _parse_task(reader: Reader) -> int:
    reader.expect(st.TASK_SEP)
    at, number = reader.offset, reader.plain()
    if not _NUMBER.fullmatch(number):
        raise TraceSyntaxError(f"expected the number of a task at character {at}, found {number[:40]!r}")
    return int(number)


def _parse_step(reader: Reader) -> Frame | Message:
    if reader.peek() in EVENT_OF:
        return parse_frame(reader)
    if reader.peek() not in _KIND_OF:
        raise TraceSyntaxError(f"expected a frame or a message at character {reader.offset}, found {reader.peek()!r}")
    kind = _KIND_OF[reader.take()]
    about = reader.json(dict)
    reader.expect(st.FRAME_SEP)
    return Message(kind, tuple(about.items()))
