"""Programs under other names: who learns from these learns to copy a name, not a generator's short lists of them."""

import ast
import builtins
import io
import keyword
import re
import tokenize
from dataclasses import replace
from random import Random

from cwm_jax.tracing.sources.normal import own_names
from cwm_jax.tracing.sources.program import Program

# fmt: off
_WORDS = (
    "account", "age", "amount", "angle", "area", "arg", "array", "average", "balance", "bar", "base", "begin", "best",
    "block", "board", "body", "bound", "box", "branch", "buffer", "cache", "carry", "case", "cell", "center", "chain",
    "change", "chunk", "city", "clean", "clock", "code", "color", "column", "common", "copy", "cost", "current",
    "cut", "cycle", "date", "day", "deep", "default", "degree", "delta", "depth", "digit", "distance", "done", "down",
    "draft", "edge", "element", "empty", "end", "entry", "error", "even", "event", "extra", "factor", "field", "file",
    "filled", "final", "first", "flag", "flat", "floor", "foo", "form", "front", "full", "gap", "goal", "graph",
    "grid", "group", "guess", "half", "head", "height", "hidden", "high", "history", "hour", "idx", "index", "info",
    "initial", "inner", "job", "join", "jump", "key", "kind", "label", "last", "layer", "leaf", "left", "length",
    "level", "limit_to", "link", "list_of", "local", "lookup", "low", "lower", "main_part", "mark", "mask", "matrix",
    "maximum", "mean", "memo", "merge", "middle", "minimum", "minute", "mode", "month", "most", "move", "name_of",
    "near", "new", "next_one", "node", "normal", "note", "number_of", "odd", "offset", "old", "one", "order",
    "origin", "other", "outer", "output", "owner", "pad", "page", "pair", "parent", "part", "path", "pattern", "peak",
    "people", "piece", "pivot", "place", "player", "point", "pool", "position", "power", "prefix", "previous",
    "price", "prime", "product", "queue", "quotient", "radius", "rank", "rate", "ratio", "record", "remainder",
    "rest", "right", "root", "round_of", "row", "rule", "run", "sample", "second", "section", "segment", "sentence",
    "sequence", "shape", "share", "shift", "short", "side", "sign", "single", "slot", "smallest", "sorted_part",
    "source", "span", "speed", "split", "stack", "stage", "state", "stop", "store", "stream", "string", "student",
    "suffix", "sum_of", "swap", "symbol", "tail", "task", "temp", "term", "tile", "title", "token", "tree", "turn",
    "unit", "upper", "user", "vector", "vertex", "vowel", "wait", "weight", "width", "window", "year", "zero",
)
# fmt: on


def renamed(program: Program, rng: Random) -> Program:
    """The program, which imports nothing, with every name that its code binds replaced by another, the same everywhere.

    Its `fingerprint`, which names do not count for, stays.
    """
    names = own_names(list(ast.walk(ast.parse(program.code))))
    there = set(re.findall(r"\w+", program.code))  # keywords of calls and attributes, too, are none to give
    fresh: dict[str, str] = {}
    for name in names:
        while (other := _made_up(rng)) in fresh.values() or other in there:
            pass
        fresh[name] = other
    return replace(program, code=_with_names(program.code, fresh), entry=fresh.get(program.entry, program.entry))


def _made_up(rng: Random) -> str:
    """A name as people give them: one word or two, or a few letters, perhaps with a number."""
    kind = rng.random()
    if kind < 0.2:
        name = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(1, 3)))
    else:
        name = "_".join(rng.sample(_WORDS, 1 if kind < 0.7 else 2))
    name += str(rng.randint(1, 9)) if rng.random() < 0.1 else ""
    return name if not keyword.iskeyword(name) and not hasattr(builtins, name) and name != "main" else _made_up(rng)


def _with_names(code: str, fresh: dict[str, str]) -> str:
    """The code with other names: what stands in strings stays, but for the expressions of f-strings."""
    lines = code.splitlines(keepends=True)
    before = None
    edits = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.NAME and token.string in fresh and (before is None or before.string != "."):
            edits.append((token, fresh[token.string]))
        elif token.type == tokenize.STRING and token.string[:1] in "fF":  # from Python 3.12 on its parts are tokens
            edits.append((token, re.sub(r"\{[^{}:!]+", lambda part: _in_expression(part[0], fresh), token.string)))
        before = token
    for token, text in reversed(edits):
        (row, first), (_, end) = token.start, token.end
        lines[row - 1] = lines[row - 1][:first] + text + lines[row - 1][end:]
    return "".join(lines)


def _in_expression(text: str, fresh: dict[str, str]) -> str:
    return re.sub(r"(?<![\w.'\"])[A-Za-z_]\w*", lambda name: fresh.get(name[0], name[0]), text)
