"""Runs one program to see whether it ends: the script of the child interpreter, on the standard library alone.

Its arguments are `mode` (`watch`, for programs of the fragment, or `plain`), `program` and `answer` (open files), and
for a watch `entry`, `steps`, `seconds`, `prefix`, `guarded`. The answer is one JSON object. In `plain` mode nothing
in it can be relied on, as the program shares the interpreter: that the process ended is all that its parent goes by.
"""

import ast
import builtins
import json
import os
import sys
import types
from os.path import abspath, dirname, join

_HERE = dirname(abspath(__file__))
sys.path.append(join(dirname(dirname(dirname(_HERE))), "tracing", "child"))

from instrument import instrument  # noqa: E402
from main import MARKER, OURS, call, functions, header  # noqa: E402
from states import Recurred, Refused, Run, Stopped, Watch, guard  # noqa: E402

FAILED = 99  # exit status where this script itself fails
_MOST_BITS = 4096  # of a number that is told


def main() -> None:
    settings = dict(word.split("=", 1) for word in sys.argv[1:])
    sys.path[:] = sys.path[1:-1]
    for name in {*sys.modules} & (OURS | {"instrument", "main", "states"}):
        del sys.modules[name]
    with open(int(settings["program"]), "rb") as file:
        context = file.read().decode()
    answer = (_watched if settings["mode"] == "watch" else _plain)(context, settings)
    os.write(int(settings["answer"]), json.dumps(answer).encode())


def _module() -> types.ModuleType:
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.argv = [""]
    return module


def _plain(context: str, settings: dict) -> dict:
    module = _module()
    code = compile(context, "<context>", "exec", dont_inherit=True)
    lines = context.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    marked = {number for number, line in enumerate(lines, start=1) if line.rstrip().endswith(MARKER)}
    entry = next((one for one in functions(code) if not marked.isdisjoint(header(one))), None)
    if entry is None:
        return {"outcome": "no entry", "detail": "no function carries the start marker"}
    entered = []

    def on_call(frame, event, arg):
        if frame.f_code is entry:
            entered.append(True)
            sys.settrace(None)

    def work():
        sys.settrace(on_call)
        exec(code, module.__dict__)
        if not entered:
            call(module.__dict__.get(entry.co_name), entry.co_flags)

    answer = _ended(work)
    sys.settrace(None)
    return answer if entered else {"outcome": "no entry", "detail": f"{entry.co_name}() was never entered"}


def _watched(context: str, settings: dict) -> dict:
    prefix, module = settings["prefix"], _module().__dict__
    tree, lines = instrument(ast.parse(context), prefix, settings["guarded"] == "1")
    entry = settings["entry"]
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    hidden = own | {prefix + name for name in ("W", "Watch", "iter", "guard", "locals")}
    run = Run(module, hidden, prefix, int(settings["steps"]), float(settings["seconds"]))
    hooks = {"Watch": lambda name: Watch(run, name), "iter": iter, "guard": guard, "locals": locals}
    module.update({prefix + name: hook for name, hook in hooks.items()})
    code = compile(tree, "<context>", "exec", dont_inherit=True)

    def work():
        exec(code, module)
        if entry not in run.entered:
            module[entry]()

    try:
        answer = _ended(work)
    except Recurred as found:
        loop, period, variables = found.args
        answer = {"outcome": "recurred", "line": lines[loop], "period": period, "state": _shown(variables, prefix)}
    except Stopped as found:
        loop, early, last = found.args
        answer = {"outcome": "stopped", "line": lines[loop], "state": _shown(last[loop], prefix)}
        answer["seen"] = [[number, _numbers(seen)] for sight in (last, early) for number, seen in sight.items()]
    except Refused as found:
        answer = {"outcome": "refused", "detail": found.args[0]}
    return answer | {"steps": run.steps, "incomparable": run.incomparable}


def _ended(work) -> dict:
    """How the program ended by itself."""
    try:
        work()
    except (RecursionError, MemoryError) as error:
        return {"outcome": "exhausted", "detail": type(error).__name__}
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return {"outcome": "raised", "detail": type(error).__name__}
    return {"outcome": "returned"}


def _shown(variables: dict, prefix: str) -> dict[str, str]:
    shown = {}
    for name, value in variables.items():
        if not name.startswith(prefix):
            try:
                shown[name] = repr(value)[:200]
            except ValueError:  # a number of too many digits
                shown[name] = "..."
    return shown


def _numbers(variables: dict) -> dict[str, object]:
    small = {name: value for name, value in variables.items() if type(value) in (int, bool)}
    return {name: value for name, value in small.items() if value.bit_length() <= _MOST_BITS}


if __name__ == "__main__":
    os.dup2(1, 2)  # what the program complains about goes nowhere, and fills no pipe
    try:
        main()
    except BaseException:
        os._exit(FAILED)
