"""Puts a `TaskRun` together from the records of its tasks, in the order in which they come."""

from collections import Counter, deque

from cwm_jax.tracing.language import source_lines
from cwm_jax.tracing.recorder import Limits, to_frame
from cwm_jax.tracing.tasks.conductor import Over
from cwm_jax.tracing.tasks.run import Message, MessageKind, Step, TaskRun
from cwm_jax.tracing.trace import EVENTS, Frame
from cwm_jax.tracing.verdicts import COMPLETE, explain

_FRAME_CHARS = 56  # as in the plain recorder: no frame has more beside its line and its values


class Log:
    """The steps so far, and the messages that nobody has received yet."""

    def __init__(self, context: str, limits: Limits):
        self._context, self._limits = context, limits
        self._lines = {0: _numbered(context)}  # of the code that a task runs
        self._steps: list[Step] = []
        self._room, self._frames = limits.max_trace_chars - len(context) - _FRAME_CHARS, limits.max_frames
        self._rendering = self._python = self._stdout = ""
        self._end: tuple[str, str] | None = None
        self._open = {0}
        self._names: dict[str, str] = {}  # of channels
        self._kinds = Counter()
        self._peers: dict[str, str] = {}  # the other end, of pipes that go both ways
        self._sent: dict[tuple[str, int], deque[tuple[int, int]]] = {}  # (number, sender) of what a receive can get
        self._messages = 0
        self._sizes: dict[int, int] = {}  # bytes of a message that nobody has read yet
        self._known: set[tuple] = set()

    def add(self, record: list) -> None:
        """Takes the next record.

        Raises:
          Over: a limit is reached, or a record is none.
        """
        try:
            match record:
                case ["frame", int(task), int(event), int(line), content]:
                    self._add_frame(task, event, line, content)
                case ["spawn", int(parent), int(task), str(kind), str(name), code]:
                    self._spawn(parent, task, kind, name, code)
                case ["send", int(task), str(channel), str(kind), int(key), *value]:
                    self._send(task, self._peers.get(channel, channel), kind, key, value)
                case ["receive", int(task), str(channel), int(key), bool(latest)]:
                    self._receive(task, channel, key, latest)
                case ["write", int(task), str(pipe), int(size), str(value)]:
                    self._send(task, pipe, "Pipe", 0, [value])
                    self._sizes[self._messages] = size
                case ["read", int(task), str(pipe), int(size)]:
                    self._read(task, pipe, size)
                case ["join", int(task), int(other), status]:
                    self._open.discard(other)
                    self._add_new(task, "join", task=other, **({} if status is None else {"status": status}))
                case ["over", int(task)]:
                    self._open.discard(task)
                case ["pair", str(one), str(other)]:
                    self._peers |= {one: other, other: one}
                case ["render", str(what), ""]:
                    self._rendering = what
                case ["start", str(python), ""]:
                    self._python = python
                case ["print", str(text), ""]:
                    self._stdout = text
                case ["end", str(verdict), str(detail)]:
                    self._end = verdict, detail
                case ["finish", str(verdict), str(detail)]:
                    raise Over(verdict, detail)
                case _:
                    raise ValueError(f"no record: {record[:1]}")
        except (ValueError, TypeError, LookupError, AttributeError):
            raise Over("corrupted", "") from None

    def run(self, ending: tuple[str, str]) -> TaskRun:
        """The run. It ended as `ending` says, unless the program came to its end."""
        ended = ending == ("exited", "0") and self._end is not None
        verdict, detail = self._end if ended else ending
        values = [step.what.value for step in self._steps if _is_exception(step.what)]
        try:
            reason = explain(verdict, detail, self._limits, self._rendering, values)
        except (ValueError, LookupError):  # the program forged it
            verdict = "corrupted"
            reason = explain(verdict, "", self._limits)
        complete = verdict in COMPLETE
        unfinished = tuple(sorted(task for task in self._open if task >= 0)) if complete else ()
        return TaskRun(
            self._context, tuple(self._steps), complete, verdict, reason, self._python, self._stdout, unfinished
        )

    def _add_frame(self, task: int, event: int, line: int, content: dict[str, str] | str) -> None:
        frame = to_frame(EVENTS[event], line, content, self._lines.get(task, self._lines[0]))
        size = len(frame.value or "") + sum(len(name) + len(value) for name, value in frame.locals or ())
        self._frames -= 1
        if self._frames < 0:
            raise Over("frame_limit", "")
        self._take_room(size + len(frame.source))
        self._steps.append(Step(task, frame))

    def _spawn(self, parent: int, task: int, kind: str, name: str, code: str | None) -> None:
        if task < 0:
            return
        self._open.add(task)
        if code is None:
            self._lines[task] = self._lines.get(parent, self._lines[0]) if kind != "subprocess" else {}
        else:
            self._lines[task] = _numbered(code)
        self._add(parent, "spawn", task=task, kind=kind, name=name, **({} if code is None else {"code": code}))

    def _send(self, task: int, channel: str, kind: str, key: int, value: list[str]) -> None:
        self._messages += 1
        waiting = self._sent.setdefault((channel, key), deque())
        waiting.append((self._messages, task))
        if channel not in self._names:
            self._kinds[kind] += 1
            self._names[channel] = f"{kind} {self._kinds[kind]}"
        carried = {"value": value[0]} if value else {}
        self._add(task, "send", message=self._messages, channel=self._names[channel], **carried)

    def _receive(self, task: int, channel: str, key: int, latest: bool) -> None:
        waiting = self._sent.get((channel, key))
        if not waiting:  # free from the start, or sent by somebody whom we do not watch
            return
        number, sender = waiting[-1] if latest else waiting.popleft()
        if sender != task or not latest:
            self._add_new(task, "receive", message=number, channel=self._names[channel])

    def _read(self, task: int, pipe: str, size: int) -> None:
        """Bytes keep no messages apart: what is read may be a part of one, or several."""
        waiting = self._sent.get((pipe, 0))
        while waiting and size > 0:
            number = waiting[0][0]
            self._add_new(task, "receive", message=number, channel=self._names[pipe])
            taken = min(size, self._sizes[number])
            size -= taken
            self._sizes[number] -= taken
            if not self._sizes[number]:
                waiting.popleft()

    def _add_new(self, task: int, kind: MessageKind, /, **about: object) -> None:
        """Adds a message unless the task knows of it already, as one that looks at an event twice."""
        known = task, kind, *about.values()
        if known not in self._known:
            self._known.add(known)
            self._add(task, kind, **about)

    def _add(self, task: int, kind: MessageKind, /, **about: object) -> None:
        pairs = tuple((name, str(value)) for name, value in about.items())
        self._take_room(sum(len(name) + len(value) for name, value in pairs))
        self._steps.append(Step(task, Message(kind, pairs)))

    def _take_room(self, chars: int) -> None:
        self._room -= chars + _FRAME_CHARS
        if self._room < 0:
            raise Over("trace_limit", "")


def _is_exception(what: Frame | Message) -> bool:
    return isinstance(what, Frame) and what.event == "exception"


def _numbered(code: str) -> dict[int, str]:
    return dict(enumerate(source_lines(code), start=1))
