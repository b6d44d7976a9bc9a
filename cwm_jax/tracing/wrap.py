"""Contexts: source text in which the function to trace carries the start marker."""

import ast
from pathlib import Path

from cwm_jax.tracing.source import bound_names
from cwm_jax.tracing.trace import START_MARKER, START_MARKER_PATTERN


class BadCall(ValueError):
    """What the user named cannot be traced; the message says what is wrong and what to write instead."""


def wrap(code: str, function: str, arguments: str = "", *, start: str = "main", awaited: bool = False) -> str:
    """The context that traces one call, `function(arguments)`, as CWM's CRUXEval prompts do it.

    Args:
      code: defines the function.
      function: its name.
      arguments: the argument list as Python text, such as `"1, 'a'"`.
      start: name of the marked function that makes the call.
      awaited: for an `async` function (our choice: the marked function is `async` too).
    """
    return wrap_call(code, f"{function}({arguments})", start=start, awaited=awaited)


def wrap_call(code: str, call: str, *, start: str = "main", awaited: bool = False) -> str:
    """As `wrap`, for any expression, such as `"Stack([1]).pop()"`."""
    define, call = ("async def", f"await {call}") if awaited else ("def", call)
    return "\n" + code.rstrip("\n") + f"\n{define} {start}():{START_MARKER}\n    return {call}\n"


def context_of(target: str, arguments: str | None = None) -> str:
    """The context for `FILE` (marked by hand) or `FILE:FUNC` (called with `arguments`).

    Raises:
      BadCall: no such file or function, no marker, arguments that are none.
    """
    path, function = target, ""
    if not Path(path).exists() and ":" in target:
        path, _, function = target.rpartition(":")
    code = _read(path)
    marked = START_MARKER_PATTERN.search(code.replace("\r\n", "\n"))
    if not function:
        if not marked:
            raise BadCall(
                f"{path} has no start marker; write {START_MARKER.strip()!r} after a def line, or name a function: "
                f'{path}:FUNC --args "1, 2"'
            )
        if arguments is not None:
            raise BadCall(f"--args goes with {path}:FUNC; {path} alone is run as its start marker says")
        return code
    if marked:
        raise BadCall(f"{path} carries a start marker already; leave out :{function}, or remove the marker")
    return _call(path, code, function, arguments or "")


def _read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise BadCall(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise BadCall(f"cannot read {path}: {error.strerror}") from None


def _call(path: str, code: str, function: str, arguments: str) -> str:
    try:
        call = ast.parse(f"_({arguments}\n)", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise SyntaxError("more than an argument list")
    except (SyntaxError, ValueError) as error:
        raise BadCall(f"--args {arguments!r} is no argument list: {error}; write it as in a call, \"1, 'a'\"") from None
    code = code.removeprefix("\ufeff")
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return wrap(code, function, arguments)  # the recorder says what is wrong with it
    names = bound_names(tree.body)
    if function not in names:
        listed = ", ".join(sorted(names)) or "none"
        raise BadCall(f"{path} has no function {function!r} at its top level; the names there: {listed}")
    awaited = any(isinstance(node, ast.AsyncFunctionDef) and node.name == function for node in tree.body)
    return wrap(code, function, arguments, start=start_name(names), awaited=awaited)


def start_name(taken: set[str]) -> str:
    """A name for the marked function that the program does not use."""
    return next(name for name in ("main", "start", "_start", "__start") if name not in taken)
