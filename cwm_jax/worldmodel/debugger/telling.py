"""Frames, places and futures in one line each, the same in every face."""

from cwm_jax.tracing import Frame
from cwm_jax.tracing.trace import UNCHANGED
from cwm_jax.worldmodel.debugger.breakpoints import Breakpoint
from cwm_jax.worldmodel.debugger.program import Program
from cwm_jax.worldmodel.debugger.session import Session
from cwm_jax.worldmodel.predictors import Future


def function(session: Session, level: int) -> str:
    """The name of the function of an open call."""
    scope = session.scopes[level]
    code = session.program.function(session.frames[scope.call].frame.line, tuple(scope.locals))
    return code.co_name if code else "?"


def place(session: Session, level: int) -> str:
    """Where an open call is, as pdb says it: `file.py(12)function()`."""
    name = session.program.path.rpartition("/")[2] or "program"
    return f"{name}({session.program.place(session.scopes[level].line)}){function(session, level)}()"


def frame(program: Program, shown: Frame) -> str:
    """A frame, with those locals that the trace spells."""
    told = [f"{name} = {value}" for name, value in shown.locals or () if value != UNCHANGED]
    told = told if shown.value is None else [f"→ {shown.value}"]
    return f"{shown.event:<9} {program.place(shown.line):>5}  {shown.source.strip()}   {'  '.join(told)}".rstrip()


def future(shown: Future) -> str:
    """What a future comes to."""
    count = f"{len(shown.frames)} frames"
    if shown.reason or not shown.frames:
        return f"breaks off after {count}: {shown.reason or 'the trace ends there'}"
    return f"returns {shown.frames[-1].frame.value} after {count}"


def breakpoint_(program: Program, shown: Breakpoint) -> str:
    """A breakpoint: number, place, condition."""
    where = "anywhere" if shown.line is None else f"at line {program.place(shown.line)}"
    condition = f", if {shown.condition}" if shown.condition else ""
    state = f"{' (once)' if shown.temporary else ''}{'' if shown.enabled else ' (disabled)'}"
    return f"{shown.number} {where}{condition}{state}"
