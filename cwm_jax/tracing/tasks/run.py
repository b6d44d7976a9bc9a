"""`TaskRun`: what the tasks of one program did, and what they told each other, in one order that respects causality."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from cwm_jax.tracing.trace import Frame, Trace, frame_as_json

TaskKind = Literal["main", "thread", "asyncio", "process", "subprocess"]
MessageKind = Literal["spawn", "send", "receive", "join"]
MESSAGES: tuple[MessageKind, ...] = ("spawn", "send", "receive", "join")


@dataclass(frozen=True)
class Message:
    """What one task has to do with another.

    Attributes:
      kind: `spawn` (it starts a task), `send` (it puts, releases, sets, notifies, resolves), `receive` (it has got
        what a send gave), `join` (it has seen a task end).
      about: `(name, text)` pairs. Of a spawn `task`, `kind`, `name`, and `code` if the task runs other code than the
        context; of a send its number as `message`, the `channel`, and the `value` if it carries one; of a receive
        `message` and `channel`; of a join `task`, and `status` if that was a process.
    """

    kind: MessageKind
    about: tuple[tuple[str, str], ...]

    def __getitem__(self, name: str) -> str:
        return dict(self.about)[name]

    def values(self) -> Iterator[str]:
        """The texts that it is about."""
        return (text for _, text in self.about)


@dataclass(frozen=True)
class Step:
    """One frame or message of one task."""

    task: int
    what: Frame | Message


@dataclass(frozen=True)
class Task:
    """A thread, an asyncio task or a process of a run.

    Attributes:
      number: by which steps name it; the main task, in which the marked entry runs, is 0.
      kind: what it is; a `subprocess` that is no Python of ours has no frames.
      parent: number of the task that started it; None for the main task.
      name: as the program named it, or its command line.
      code: what it runs; None for the context.
    """

    number: int
    kind: TaskKind
    parent: int | None
    name: str
    code: str | None = None


@dataclass(frozen=True)
class TaskRun:
    """A run of the marked entry of `context`, and of every task that it started.

    Attributes:
      context: the program.
      steps: what the tasks did, in the order in which it happened: a receive stands behind its send, a join
        behind the last step of the task that ended, a task's first step behind its spawn.
      complete: whether the entry was left and then the main process came to its end.
      verdict, reason, python, stdout: as in `Trace`.
      unfinished: numbers of the tasks that were stopped because the main process had ended.
    """

    context: str
    steps: tuple[Step, ...]
    complete: bool = True
    verdict: str = field(default="", compare=False)
    reason: str = field(default="", compare=False)
    python: str = field(default="", compare=False)
    stdout: str = field(default="", compare=False)
    unfinished: tuple[int, ...] = field(default=(), compare=False)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames of all tasks, in their one order."""
        return tuple(step.what for step in self.steps if isinstance(step.what, Frame))

    def values(self) -> Iterator[str]:
        """The texts of all values, and of all that the tasks tell each other."""
        for step in self.steps:
            yield from step.what.values()

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Main first, the others in the order of their numbers."""
        spawned = [Task(0, "main", None, "main")]
        for step in self.messages("spawn"):
            about = dict(step.what.about)
            spawned.append(Task(int(about["task"]), about["kind"], step.task, about["name"], about.get("code")))
        return tuple(sorted(spawned, key=lambda task: task.number))

    def messages(self, kind: MessageKind) -> Iterator[Step]:
        """The steps that are messages of this kind."""
        return (step for step in self.steps if isinstance(step.what, Message) and step.what.kind == kind)

    def trace(self, task: int) -> Trace:
        """The frames of one task alone, as a plain trace."""
        code = self.tasks[task].code
        frames = tuple(step.what for step in self.steps if step.task == task and isinstance(step.what, Frame))
        return Trace(self.context if code is None else code, frames, self.complete and task not in self.unfinished)

    def causes(self) -> Iterator[tuple[int, int]]:
        """Pairs of indices of steps: the first led to the second, in another task.

        From a spawn to the first step of its task, from a send to a receive, from the last step of a task to a join.
        """
        spawns: dict[int, int] = {}
        sends: dict[str, int] = {}
        last: dict[int, int] = {}
        for index, step in enumerate(self.steps):
            if step.task not in last and step.task in spawns:
                yield spawns[step.task], index
            last[step.task] = index
            match step.what:
                case Message("spawn"):
                    spawns[int(step.what["task"])] = index
                case Message("send"):
                    sends[step.what["message"]] = index
                case Message("receive"):
                    yield sends[step.what["message"]], index
                case Message("join") if int(step.what["task"]) in last:
                    yield last[int(step.what["task"])], index

    @cached_property
    def clocks(self) -> tuple[dict[int, int], ...]:
        """The vector clock of every step: how many steps of each task it can know of, itself included."""
        led: dict[int, list[int]] = {}
        for cause, index in self.causes():
            led.setdefault(index, []).append(cause)
        latest: dict[int, dict[int, int]] = {}
        clocks: list[dict[int, int]] = []
        for index, step in enumerate(self.steps):
            clock = dict(latest.get(step.task, {}))
            for cause in led.get(index, ()):
                for task, count in clocks[cause].items():
                    clock[task] = max(count, clock.get(task, 0))
            clock[step.task] = clock.get(step.task, 0) + 1
            latest[step.task] = clock
            clocks.append(clock)
        return tuple(clocks)

    def happened_before(self, first: int, second: int) -> bool:
        """Whether step `first` can have had an effect on step `second`; if neither holds, they are concurrent."""
        task = self.steps[first].task
        return first != second and self.clocks[first][task] <= self.clocks[second].get(task, 0)


def run_as_json(run: TaskRun) -> dict[str, object]:
    """A run as the JSON form holds it, all but its text."""
    return {
        "verdict": run.verdict,
        "reason": run.reason,
        "python": run.python,
        "context": run.context,
        "tasks": [vars(task) for task in run.tasks],
        "steps": [{"by": step.task, **_as_json(step.what)} for step in run.steps],
        "causes": [list(pair) for pair in run.causes()],
        "unfinished": list(run.unfinished),
    }


def _as_json(what: Frame | Message) -> dict[str, object]:
    return frame_as_json(what) if isinstance(what, Frame) else {"event": what.kind, **dict(what.about)}
