"""The context of a whole script: a program that reads its input, works and prints, all of it in one marked function.

A script whose last statement calls a function of its own that does all the work has that
function marked and nothing else changed. Of any other, what follows its leading imports and
definitions moves as it is, in its order, into a marked function behind them (our choice: CWM's
paper does not say how its contest programs are marked). Their variables become locals, which
is what a trace shows, and the functions among them closures. Where that would change what the
script does, a variable stays the module's, declared `global`: see `_shared`.
"""

import ast
import builtins
import re
import symtable
import warnings
from collections.abc import Iterator

from cwm_jax.text import special_tokens as st
from cwm_jax.tracing.source import first_line
from cwm_jax.tracing.trace import START_MARKER
from cwm_jax.tracing.wrap import start_name

_BY_TEXT = {"eval", "exec", "globals", "locals", "vars"}  # see variables by name, wherever those were moved to
_PROCESSES = {"threading", "_thread", "multiprocessing", "concurrent", "subprocess"}  # one thread is recorded
_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SETTERS = {"float", "setrecursionlimit"}  # calls that constants and settings are made with


class CannotTrace(ValueError):
    """The script has no context that does the same; the message is a few words, to count it by."""


def script_context(code: str, alone: bool = True) -> str:
    """The context that runs a whole script as its marked function.

    Args:
      code: a script that works when run by itself; its line ends become LF.
      alone: refuse scripts that start threads or processes, of which a plain trace shows one only.

    Raises:
      CannotTrace: it does not parse, does nothing, holds the trace language's own words, starts
        threads or processes, or reads variables by their names as text.
    """
    code = re.sub("\r\n?", "\n", code.removeprefix("\ufeff")).rstrip() + "\n"
    if START_MARKER.strip() in code or st.TASK_TOKEN_PATTERN.search(code):
        raise CannotTrace("holds words of the trace language")
    tree = _parse(code)
    names = set(_names(tree))
    if names & _BY_TEXT:
        raise CannotTrace("reads variables by name")
    if alone and names & _PROCESSES:
        raise CannotTrace("starts threads or processes")
    first = _first_at_work(tree.body)
    if first == len(tree.body):
        raise CannotTrace("does nothing")
    return _mark(code, tree, first) or _move(code, tree, first, start_name(names))


def _parse(code: str) -> ast.Module:
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CannotTrace("does not parse") from None


def _names(tree: ast.Module) -> Iterator[str]:
    """Everything that the script calls by a name, modules included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
            yield node.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def _first_at_work(body: list[ast.stmt]) -> int:
    """Index of the statement from which on the script works.

    Before it stand definitions, and the constants and settings between them.
    """
    leading = next((i for i, node in enumerate(body) if not _prepares(node)), len(body))
    first = max((i + 1 for i in range(leading) if isinstance(body[i], _DEFINITIONS)), default=0)
    while 0 < first < len(body) and body[first - 1].end_lineno >= first_line(body[first]):
        first -= 1  # both on one line
    return first


def _prepares(node: ast.stmt) -> bool:
    if isinstance(node, _DEFINITIONS):
        return True
    if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)):
        return False
    calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    return all(getattr(call, "id", getattr(call, "attr", "")) in _SETTERS for call in calls)


def _mark(code: str, tree: ast.Module, first: int) -> str | None:
    """The script with its own function marked; None if there is none that does all the work."""
    last = tree.body[first:]
    if isinstance(last[0], ast.If) and ast.unparse(last[0].test) == "__name__ == '__main__'" and not last[0].orelse:
        last = last[0].body + last[1:]
    match last:
        case [ast.Expr(ast.Call(ast.Name(name), [], []))]:
            bound = [node for node in ast.walk(tree) if name in _bound(node)]
        case _:
            return None
    match bound:
        case [ast.FunctionDef(decorator_list=[]) as function] if function in tree.body and not _yields(function):
            lines = code.split("\n")
            lines[function.lineno - 1] += START_MARKER
            marked = "\n".join(lines)
            return marked if _dump(marked) == ast.dump(tree) else None
    return None


def _bound(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return () if isinstance(node.ctx, ast.Load) else (node.id,)
    return getattr(node, "name", None), getattr(node, "asname", None)


def _yields(function: ast.FunctionDef) -> bool:
    return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in ast.walk(function))


def _dump(code: str) -> str:
    try:
        return ast.dump(_parse(code))
    except CannotTrace:
        return ""


def _move(code: str, tree: ast.Module, first: int, start: str) -> str:
    """The script with its statements from `first` on as the body of a new function `start`."""
    lines = code.split("\n")
    texts = [node for node in ast.walk(tree) if isinstance(node, (ast.Constant, ast.JoinedStr))]
    inside = {number for node in texts for number in range(node.lineno + 1, node.end_lineno + 1)}  # of a string
    begin = first_line(tree.body[first]) if first else 1
    before, body = lines[: begin - 1], lines[begin - 1 : -1]
    body = [line if not line or number in inside else "    " + line for number, line in enumerate(body, begin)]
    head = [*before, f"def {start}():{START_MARKER}"]
    shared = _shared("\n".join([*head, *body]), start)
    context = "\n".join([*head, *([f"    global {', '.join(sorted(shared))}"] if shared else []), *body, ""])
    moved = _parse(context).body[-1].body[bool(shared) :]
    if [ast.dump(node) for node in moved] != [ast.dump(node) for node in tree.body[first:]]:
        raise CannotTrace("cannot be indented")
    _symbols(context)
    return context


def _shared(context: str, start: str) -> set[str]:
    """The variables of the function `start` that must stay the module's for the script to do the same.

    Those that the code outside uses or a `global` statement names (`symtable` lists both as the
    module's); those called like a builtin, which the script may use before it binds its own
    (`max = max(a)`); and those that the body of a class binds too, which looks for them in the
    module, not in the function around it.
    """
    module = _symbols(context)
    main = module.lookup(start).get_namespace()
    own = {symbol.get_name() for symbol in main.get_symbols() if symbol.is_local()}
    shared = set(dir(builtins)) | {symbol.get_name() for symbol in module.get_symbols()}
    for table in module.get_children():
        if table.get_id() != main.get_id():
            shared |= {s.get_name() for part in _within(table) for s in part.get_symbols() if s.is_global()}
    for part in _within(main):
        if part.get_type() == "class":
            shared |= {symbol.get_name() for symbol in part.get_symbols() if symbol.is_local()}
    return own & shared


def _symbols(context: str) -> symtable.SymbolTable:
    try:
        return symtable.symtable(context, "<context>", "exec")
    except (SyntaxError, RecursionError):  # such as `from m import *`, which no function may contain
        raise CannotTrace("cannot be moved into a function") from None


def _within(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _within(child)
