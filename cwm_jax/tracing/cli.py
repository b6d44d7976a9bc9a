"""The `trace` verb: record one program and print its trace."""

import argparse
import json
import sys
from dataclasses import asdict, fields

from cwm_jax.report.traces import trace_page
from cwm_jax.sandbox import SandboxError, SandboxMissing
from cwm_jax.tracing.hidden import Hidden, render_hidden
from cwm_jax.tracing.language import render
from cwm_jax.tracing.narration import narrate
from cwm_jax.tracing.recorder import Isolation, Limits, record
from cwm_jax.tracing.tasks import TaskRun, record_tasks, render_tasks, run_as_json
from cwm_jax.tracing.trace import Trace, frame_as_json
from cwm_jax.tracing.wrap import context_of

_EXITS = """\
exit status: 0 the program returned or raised; 3 it was cut short (what was recorded until then is
printed, the reason goes to standard error); 2 the call makes no sense, or there is no sandbox for it"""


def main(argv: list[str]) -> int:
    """Runs `trace` with these arguments; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        context = context_of(arguments.target, arguments.args)
        limits = Limits(**dict(map(_limit, arguments.limit)))
        record_it, show = _FORMATS[arguments.format]
        hidden = {"hidden": Hidden()} if arguments.hidden else {}
        if hidden and arguments.format not in _WITH_HIDDEN:
            raise ValueError(f"--hidden does nothing for --format {arguments.format}; leave it out")
        isolation = Isolation.LIMITS_ONLY if arguments.unsafe else Isolation.BUBBLEWRAP
        trace = record_it(context, limits, isolation, **hidden)
    except (ValueError, SandboxMissing, SandboxError) as error:
        print(f"trace: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # as a shell reports an interrupt
    sys.stdout.buffer.write(show(arguments.target, trace).encode())
    sys.stdout.buffer.flush()
    if trace.complete:
        return 0
    print(f"trace: {trace.verdict}: {trace.reason}", file=sys.stderr)
    return 3


def _parser() -> argparse.ArgumentParser:
    limits = "\n".join(f"  {name:16} {value:>9}" for name, value in asdict(Limits()).items())
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax trace",
        description="Run a program and print what it does, line by line, in the trace format of CWM.",
        epilog=f"limits and their defaults:\n{limits}\n\n{_EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="FILE[:FUNC]", help="a file with a start marker, or a function in a file")
    parser.add_argument("--args", metavar="ARGS", help="argument list for FUNC, such as \"1, 'a'\"")
    parser.add_argument(
        "--format", choices=sorted(_FORMATS), default="text", help="default: text; tasks: of all threads and processes"
    )
    parser.add_argument(
        "--hidden",
        action="store_true",
        help="with what locals do not show: shared objects, what loops still have to yield (text and json)",
    )
    parser.add_argument("--unsafe", action="store_true", help="run without bubblewrap: for programs that you trust")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE", help="change a limit; repeatable")
    return parser


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    kinds = {field.name: field.type for field in fields(Limits)}
    if name not in kinds:
        raise ValueError(f"--limit {text!r}: there is no limit {name!r}; there are {', '.join(kinds)}")
    try:
        return name, kinds[name](value)
    except ValueError:
        raise ValueError(f"--limit {text!r}: {value!r} is no {kinds[name].__name__}") from None


def as_json(trace: Trace) -> dict[str, object]:
    """A trace as the JSON form holds it: verdict, reason, python, context, frames and text."""
    return {
        "verdict": trace.verdict,
        "reason": trace.reason,
        "python": trace.python,
        "context": trace.context,
        "frames": [frame_as_json(frame) for frame in trace.frames],
        "text": render(trace),
    }


def _page(title: str, trace: Trace) -> str:
    frames = [frame_as_json(frame) for frame in trace.frames]
    return trace_page(title, trace.context, frames, trace.verdict, trace.reason)


def _tasks_json(title: str, run: TaskRun) -> str:
    return json.dumps(run_as_json(run) | {"text": render_tasks(run)}, indent=1) + "\n"


# What records, and what shows it.
_FORMATS = {
    "text": (record, lambda title, trace: render_hidden(trace)),
    "json": (record, lambda title, trace: json.dumps(as_json(trace), indent=1) + "\n"),
    "html": (record, _page),
    "narration": (record, lambda title, trace: narrate(trace)),
    "tasks": (record_tasks, lambda title, run: render_tasks(run)),
    "tasks-json": (record_tasks, _tasks_json),
}
_WITH_HIDDEN = ("text", "json")
