"""The `debug` verb: step through a program as a model predicts it, or as it really runs."""

import argparse
import sys
import threading
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from cwm_jax.sandbox import Isolation, SandboxError, SandboxMissing
from cwm_jax.worldmodel.debugger.dap import Adapter, serve
from cwm_jax.worldmodel.debugger.program import Program
from cwm_jax.worldmodel.debugger.session import Session
from cwm_jax.worldmodel.debugger.terminal import Terminal
from cwm_jax.worldmodel.models.choice import Choice, add_flags
from cwm_jax.worldmodel.predict import WorldModel
from cwm_jax.worldmodel.predictors import Predictor
from cwm_jax.worldmodel.real import RealRun


def main(argv: list[str]) -> int:
    """Runs `debug` with these arguments; returns the exit status."""
    arguments = _parser().parse_args(argv)
    real = RealRun(Isolation.LIMITS_ONLY if arguments.unsafe else Isolation.BUBBLEWRAP)
    try:
        if arguments.target is None and arguments.dap is None:
            raise ValueError("name a program: FILE with a start marker, or FILE:FUNC")
        choice = Choice.of(arguments)
        program = None if arguments.target is None else Program.of(arguments.target, arguments.args)

        def predictor(launch: dict) -> Predictor:
            if launch.get("real", arguments.real):
                return real
            return _model(_launched(launch, choice))

        if arguments.dap is not None:
            return serve(arguments.dap, lambda: Adapter(predictor, real, program))
        session = Session(program, predictor({}), real)
    except (ValueError, OSError, SandboxMissing, SandboxError) as error:
        print(f"debug: {error}", file=sys.stderr)
        return 2
    terminal = Terminal(session)
    while True:
        try:
            terminal.cmdloop()
            return 0
        except KeyboardInterrupt:
            print("\n(q leaves)")


_opened = lru_cache(maxsize=1)(lambda choice: WorldModel(choice.open()))
_opening = threading.Lock()


def _model(choice: Choice) -> WorldModel:
    """The model of a choice; several clients have one."""
    with _opening:
        return _opened(choice)


def _launched(launch: dict, choice: Choice) -> Choice:
    """The model of a launch: what it does not name is that of the command line."""
    told = {name: Path(launch[name]) for name in ("checkpoint", "vocabulary") if launch.get(name)}
    told |= {name: str(launch[name]) for name in ("endpoint", "model") if launch.get(name)}
    return Choice(**told) if "checkpoint" in told or "endpoint" in told else replace(choice, **told)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax debug",
        description="Debug a program by prediction: it does not run. With pdb's commands; h lists them.",
        epilog="exit status: 0; 2 the call makes no sense, or there is no sandbox for it",
    )
    parser.add_argument(
        "target", metavar="FILE[:FUNC]", nargs="?", help="a file with a start marker, or a function in a file"
    )
    parser.add_argument("--args", metavar="ARGS", help="argument list for FUNC, such as \"1, 'a'\"")
    add_flags(parser)
    parser.add_argument("--real", action="store_true", help="debug the recorded real run in place of a prediction")
    parser.add_argument("--unsafe", action="store_true", help="run programs without bubblewrap: those that you trust")
    parser.add_argument(
        "--dap",
        metavar="PORT",
        help="serve the Debug Adapter Protocol on this port of localhost; - for standard input and output",
    )
    return parser
