"""Episodes: traces cut from a recorded one. Step-over teaches `next` and run-to-return.

In a step-over episode a call is answered at once by its return: the callee's own frames are
left out, as CWM's single-step prompts and the debugger's forced return events need it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from cwm_jax.tracing.tasks import Message, TaskRun
from cwm_jax.tracing.trace import Frame, Trace


def step_over(trace: Trace, rng: Random, enter: float = 0.5) -> Trace:
    """The trace with some calls stepped over, the entry's own included.

    Each call that returns is entered with probability `enter`; one that is not keeps its call and
    return frames and nothing between. Calls that raise are always entered.

    Args:
      trace: a complete trace; its frames nest (every call has its return).
      enter: step-in probability (CWM paper §2.2 has one; its value is not given, ours is 0.5).
    """
    frames: list[Frame] = []
    index = 0
    while index < len(trace.frames):
        frame = trace.frames[index]
        frames.append(frame)
        if frame.event == "call" and rng.random() >= enter:
            end = _return_of(trace.frames, index)
            if end is not None and trace.frames[end - 1].event != "exception":
                frames.append(trace.frames[end])
                index = end
        index += 1
    return Trace(trace.context, tuple(frames), trace.complete, trace.verdict, trace.reason, trace.python)


def step_over_tasks(run: TaskRun, rng: Random, enter: float = 0.5) -> TaskRun:
    """The run with some calls stepped over, as `step_over`, each within its task; one that talks is always entered."""
    places: dict[int, list[int]] = defaultdict(list)
    for index, step in enumerate(run.steps):
        places[step.task].append(index)
    left_out: set[int] = set()
    for indices in places.values():
        within = 0  # of the call that is stepped over, its return
        for at, index in enumerate(indices):
            frame = run.steps[index].what
            if at < within or not isinstance(frame, Frame) or frame.event != "call" or rng.random() < enter:
                continue
            end = _return_of([run.steps[other].what for other in indices], at)
            inner = indices[at + 1 : end] if end is not None else ()
            frames = [run.steps[other].what for other in inner]
            if frames and all(isinstance(what, Frame) for what in frames) and frames[-1].event != "exception":
                left_out.update(inner)
                within = end
    return replace(run, steps=tuple(step for index, step in enumerate(run.steps) if index not in left_out))


def _return_of(frames: Sequence[Frame | Message], call: int) -> int | None:
    """Index of the return frame that closes the call frame at `call`."""
    depth = 0
    for index in range(call, len(frames)):
        event = frames[index].event if isinstance(frames[index], Frame) else ""
        depth += {"call": 1, "return": -1}.get(event, 0)
        if depth == 0:
            return index
    return None
