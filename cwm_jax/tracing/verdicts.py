"""How runs end: a verdict, one word for programs, and a reason, one sentence for people."""

import signal
from collections.abc import Iterable

from cwm_jax.sandbox import Limits

COMPLETE = ("returned", "raised")

# verdict -> the limit that was hit, and what hit it
_CAPS = {
    "frame_limit": ("max_frames", "the run has more than {limit} frames"),
    "trace_limit": ("max_trace_chars", "the trace has more than {limit} characters"),
    "value_limit": ("max_value_chars", "{detail} prints more than {limit} characters"),
    "depth_limit": ("max_depth", "more than {limit} calls were open at once"),
    "timeout": ("wall_seconds", "the run took more than {limit} seconds"),
    "cpu_limit": ("cpu_seconds", "the run took more than {limit} seconds of processor time"),
    "task_limit": ("processes", "more than {limit} threads and processes were open at once"),
    "memory_limit": ("memory_mb", "the program asked for more than {limit} MiB of memory"),
}
_FAULTS = {
    "syntax_error": "the program does not parse: {detail}",
    "entry_missing": "there is no run to record: {detail}; mark one top-level function that needs no arguments, "
    "or name a function and its arguments",
    "module_raised": "the program's top-level code failed before the marked function was entered: {detail}",
    "unfinished": "{detail} was entered, but its end was never seen: it was left suspended, or stopped being traced",
    "trace_replaced": "tracing was switched off, by a call of sys.settrace, or because a recursion limit or a signal "
    "handler of the program struck while a frame was recorded",
    "interrupted": "a signal handler of the program raised {detail} while a frame was recorded",
    "deadlock": "every task waits for another, and nothing can wake them: {detail}",
    "exited": "the program ended the interpreter itself, with status {detail}",
    "crashed": "the interpreter died of signal {detail}",
    "killed": "the interpreter was killed from outside, perhaps because the machine ran out of memory",
    "corrupted": "the program overwrote its own recording",
}
VERDICTS = (*COMPLETE, *_CAPS, *_FAULTS)


def explain(verdict: str, detail: str, limits: Limits, rendering: str = "", exceptions: Iterable[str] = ()) -> str:
    """The reason for a verdict: one sentence, empty for `returned`.

    Args:
      verdict: one of `VERDICTS`.
      detail: what the child or the system had to say about it.
      limits: the caps of the run.
      rendering: whose `__repr__` was running at the end, if one was.
      exceptions: those that the program raised, the last one last.

    Raises:
      ValueError: there is no such verdict.
    """
    if verdict == "returned":
        return ""
    if verdict == "raised":
        return f"the program raised {list(exceptions)[-1]}"
    if verdict not in VERDICTS:
        raise ValueError(f"verdict {verdict!r} is none of {', '.join(VERDICTS)}")
    where = f", inside the __repr__ of {rendering}" if rendering else ""
    if verdict in _CAPS:
        field, text = _CAPS[verdict]
        text = text.format(limit=getattr(limits, field), detail=detail)
        return f"{text}{where} ({field}; to raise it: Limits({field}=…), or --limit {field}=…)"
    return _FAULTS[verdict].replace("{detail}", detail) + where


def death(status: int) -> tuple[str, str]:
    """Verdict and detail for an interpreter that died without a word, from its exit status.

    Bubblewrap reports a death by signal N as 128 + N; nothing tells it from `os._exit(128 + N)`.
    """
    number = -status if status < 0 else status - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return "exited", str(status)
    known = {"SIGXCPU": ("cpu_limit", ""), "SIGKILL": ("killed", "")}
    return known.get(name, ("crashed", f"{number} ({name})"))
