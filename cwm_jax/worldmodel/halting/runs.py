"""Real runs in the sandbox, to see whether a program ends or comes back to a state that it was in."""

import ast
import json
import os
import re
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cwm_jax import sandbox
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.trace import START_MARKER_PATTERN
from cwm_jax.worldmodel.halting.fragment import Outside, check, own_functions, removes

_CHILD = Path(__file__).parent / "child"
_TRACING_CHILD = Path(__file__).parent.parent.parent / "tracing" / "child"
LIMITS = sandbox.Limits(wall_seconds=10.0, cpu_seconds=10)
_PLAIN_OUTCOMES = ("returned", "raised", "exhausted", "no entry")
_FAILED = 99  # exit status of a child that fails itself
_MOST_ANSWER = 1 << 20
_START_SECONDS = 2.0  # of a child that says itself when its time is over, to start and to say so


class Program:
    """A context, parsed, with what can be read off its text.

    Attributes:
      context: its source.
      tree: its syntax.
    """

    def __init__(self, context: str):
        """Raises ValueError: the context does not parse, or no top-level function without parameters is marked."""
        self.context = re.sub("\r\n?", "\n", context.removeprefix("\ufeff"))
        try:
            self.tree = ast.parse(self.context)
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError(f"the program does not parse: {error}") from None
        if START_MARKER_PATTERN.search(self.context) is None:
            raise ValueError("the program has no start marker; write `# << START_OF_TRACE` behind a `def` line")

    @cached_property
    def entry(self) -> str:
        """The name of the marked function, if it is one of the module's; else empty."""
        line = self.context.count("\n", 0, START_MARKER_PATTERN.search(self.context).start()) + 1
        names = [node.name for node in own_functions(self.tree).values() if node.lineno <= line < node.body[0].lineno]
        return names[0] if names else ""

    @cached_property
    def outside(self) -> str:
        """The first construct that no proof by a state that comes back allows (see `fragment.py`); empty if none."""
        try:
            check(self.tree)
        except Outside as error:
            return f"{error}"
        if not self.entry:
            return "the marked function is none of the module's"
        arguments = own_functions(self.tree)[self.entry].args
        required = len(arguments.posonlyargs + arguments.args) - len(arguments.defaults)
        return "the marked function has parameters" if required or None in arguments.kw_defaults else ""

    @cached_property
    def prefix(self) -> str:
        """A beginning of names that the program does not use."""
        return next(name for number in range(10**6) if (name := f"_w{number}_") not in self.context)


@dataclass(frozen=True)
class Run:
    """How a run ended.

    Attributes:
      outcome: `returned`, `raised` or `exited` by itself; `recurred`, came back to a complete state; `stopped`, after
        as many steps or seconds as it might take; `refused`, where the state does not tell what comes next;
        `exhausted`, out of stack or memory; `died`, of a signal; `no entry`, the marked function was never entered.
      detail: the exception, or what was refused.
      seconds: of the run, the interpreter's start included.
      steps: turns of loops; 0 where nobody counted.
      line: of the loop that it was in.
      period: steps from a state to the same.
      state: the variables there, as text.
      seen: numbers of loops, each with whole numbers and truth values seen at the beginning of one of its turns, all in
        the call that was stopped.
      incomparable: why some of its states cannot be compared; empty if all can.
    """

    outcome: str
    detail: str = ""
    seconds: float = 0.0
    steps: int = 0
    line: int | None = None
    period: int = 0
    state: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[int, dict[str, int | bool]]] = field(default_factory=list)
    incomparable: str = ""

    @property
    def ended(self) -> bool:
        """Whether the program ended by itself."""
        return self.outcome in ("returned", "raised", "exited")


def plain_run(program: Program, isolation: Isolation, limits: sandbox.Limits = LIMITS) -> Run:
    """Runs any program as it is; `stopped` at the limits.

    Raises:
      SandboxMissing, SandboxError: as `record`.
    """
    return _run(program, isolation, limits, {"mode": "plain"}, limits.wall_seconds)


def watched_run(program: Program, isolation: Isolation, steps: int = 10**9, limits: sandbox.Limits = LIMITS) -> Run:
    """Runs a program of the fragment until it ends, comes back to a complete state, or took that many steps.

    Raises:
      SandboxMissing, SandboxError: as `record`.
    """
    settings = {"mode": "watch", "entry": program.entry, "steps": steps, "seconds": limits.wall_seconds}
    settings |= {"prefix": program.prefix, "guarded": int(removes(program.tree))}
    return _run(program, isolation, limits, settings, limits.wall_seconds + _START_SECONDS)


def _run(program: Program, isolation: Isolation, limits: sandbox.Limits, settings: dict, seconds: float) -> Run:
    with ExitStack() as stack:
        files = {name: os.memfd_create(name) for name in ("program", "answer")}
        for file in files.values():
            stack.callback(os.close, file)
        os.pwrite(files["program"], program.context.encode(), 0)
        words = [f"{name}={value}" for name, value in (settings | files).items()]
        argv = [sys.executable, "-s", str(_CHILD / "run.py"), *words]
        readable = [*sandbox.python_paths(), str(_CHILD), str(_TRACING_CHILD)]
        began = time.monotonic()
        process = stack.enter_context(
            sandbox.Process(argv, limits, isolation, readable=readable, pass_fds=tuple(files.values()))
        )
        status = process.wait(seconds)
        took = time.monotonic() - began
        try:
            answer = json.loads(os.pread(files["answer"], _MOST_ANSWER, 0))
            answer = answer if isinstance(answer, dict) else {}
        except ValueError:
            answer = {}
        if status is None:
            return Run("stopped", seconds=took)
        if settings["mode"] == "plain":  # the program may have written it
            known = answer.get("outcome") in _PLAIN_OUTCOMES
            answer = {"outcome": answer["outcome"], "detail": f"{answer.get('detail', '')}"[:200]} if known else {}
        if answer:
            return Run(**answer, seconds=took)
        died = status < 0 or status > 128
        if not died and (settings["mode"] == "watch" or status == _FAILED):
            raise sandbox.SandboxError(f"the child interpreter fails with status {status}")
        return Run("died" if died else "exited", f"{status}", seconds=took)
