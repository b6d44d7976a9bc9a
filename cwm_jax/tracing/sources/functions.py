"""Functions of any Python code on disk, each with the source that it needs and inputs to try it on."""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from cwm_jax.tracing.sources.inputs import drawn, in_docstring, mutated, strategy_of
from cwm_jax.tracing.sources.slices import Module, Unfit
from cwm_jax.tracing.trace import START_MARKER_PATTERN
from cwm_jax.tracing.wrap import wrap_call

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SKIPPED = {"site-packages", "__pycache__", "node_modules", "build", "dist", "idle_test", "lib2to3"}


@dataclass(frozen=True)
class Subject:
    """A function that can be called: its context but for the call.

    Attributes:
      origin: where it is from, such as `textwrap.py:dedent`.
      code: the definitions that it needs, itself included.
      call: text of the call, with `{made}` for the arguments of the class and then `{arguments}` for its own.
      names: parameters of the function, then those of its class, the latter with a leading dot.
      awaited: whether the call gives a coroutine.
      inputs: arguments by parameter, or the whole argument list under "" where a doctest gave it.
    """

    origin: str
    code: str
    call: str
    names: tuple[str, ...]
    awaited: bool
    inputs: tuple[dict[str, str], ...]

    def context(self, arguments: dict[str, str]) -> str:
        """The context that traces one call."""
        given = [name for name in self.names if name in arguments]
        own = arguments.get("", ", ".join(_spelled(name, arguments) for name in given if name[0] != "."))
        made = ", ".join(_spelled(name, arguments) for name in given if name[0] == ".")
        before, _, after = self.call.partition("{arguments}")
        call = before.replace("{made}", made) + (own + after if "{arguments}" in self.call else "")
        return wrap_call(self.code, call, start=_free_name(self.code), awaited=self.awaited)

    def mutants(self, arguments: dict[str, str], rng: Random) -> Iterator[dict[str, str]]:
        """Arguments near those that were found good, without end."""
        names = [name for name in self.names if name in arguments]
        while names:
            name = rng.choice(names)
            yield arguments | {name: mutated(arguments[name], rng)}


def _spelled(name: str, arguments: dict[str, str]) -> str:
    return f"{name.lstrip('.*')}={arguments[name]}" if name.lstrip(".").startswith("*") else arguments[name]


def _free_name(code: str) -> str:
    return next(name for name in ("main", "start", "_start", "__start") if f"def {name}(" not in code)


@dataclass(frozen=True)
class Functions:
    """Functions and methods of the Python files of a folder, or of one file, that stand by themselves.

    A function that needs more than the standard library and its own module is counted and left out.

    Attributes:
      path: a folder or a file.
      tries: argument lists drawn for a function, beside those of its doctests.
      max_chars: functions whose slices are longer are left out.
      seed: of the draws.
    """

    path: str
    tries: int = 8
    max_chars: int = 6_000
    seed: int = 0

    def files(self) -> list[Path]:
        """What is read, in a fixed order.

        Raises:
          FileNotFoundError: there is no such folder or file.
        """
        root = Path(self.path)
        if root.is_file():
            return [root]
        if not root.is_dir():
            raise FileNotFoundError(f"Functions.path={self.path!r} is no folder and no file; name one with Python code")
        found = root.rglob("*.py")
        return sorted(path for path in found if _SKIPPED.isdisjoint(path.relative_to(root).parts))

    def work(self, path: Path, dropped: Counter) -> Iterator[Subject]:
        """The functions of one file; counts in `dropped`, by reason, what is left out."""
        name = path.relative_to(self.path) if Path(self.path).is_dir() else path.name
        try:
            text = path.read_bytes().decode()
            module = Module(text)
        except UnicodeDecodeError:
            dropped["file is not UTF-8"] += 1
            return
        except OSError:
            dropped["file cannot be read"] += 1
            return
        except Unfit as reason:
            dropped[f"file: {reason}"] += 1
            return
        for found in _callables(module.tree):
            try:
                yield self._subject(module, found, f"{name}:{found.label}")
            except Unfit as reason:
                dropped[str(reason)] += 1

    def _subject(self, module: Module, found: "_Callable", origin: str) -> Subject:
        code = module.slice(found.top)
        if len(code) > self.max_chars:
            raise Unfit(f"more than {self.max_chars:,} characters of source")
        if START_MARKER_PATTERN.search(code) or "<|" in code:
            raise Unfit("source that looks like a trace")
        required, optional = found.parameters()
        number = int.from_bytes(hashlib.sha256(f"{self.seed} {found.label} {code}".encode()).digest()[:8])
        names = tuple(required)
        inputs = [{"": arguments} for arguments in in_docstring(found.function) if found.owner is None]
        inputs += drawn(required, self.tries, number) if required else [{}]
        if optional:  # a few calls that give what has a default, by name
            extended = drawn(required | optional, max(1, self.tries // 2), number + 1)
            names += tuple(optional)
            inputs += extended
        return Subject(origin, code, found.call, names, found.awaited, tuple(inputs))


@dataclass(frozen=True)
class _Callable:
    """A top-level function, or a method of a top-level class."""

    function: Function
    owner: ast.ClassDef | None = None
    kinds: frozenset[str] = field(default_factory=frozenset)  # decorators by name

    @property
    def top(self) -> str:
        return self.owner.name if self.owner else self.function.name

    @property
    def label(self) -> str:
        return f"{self.owner.name}.{self.function.name}" if self.owner else self.function.name

    @property
    def awaited(self) -> bool:
        return isinstance(self.function, ast.AsyncFunctionDef) and not _yields(self.function)

    @property
    def call(self) -> str:
        name = self.function.name
        if self.owner:
            bound = self.kinds & {"staticmethod", "classmethod"}
            name = f"{self.owner.name}.{name}" if bound else f"{self.owner.name}({{made}}).{name}"
        text = name if "property" in self.kinds else f"{name}({{arguments}})"
        return f"list({text})" if _yields(self.function) else text

    def parameters(self) -> tuple[dict, dict]:
        """What to draw for parameters without and with a default; those of the constructor have a leading dot."""
        required, optional = _parameters(self.function, bound=bool(self.owner) and "staticmethod" not in self.kinds)
        if self.owner and not self.kinds & {"staticmethod", "classmethod"}:
            made = [node for node in self.owner.body if isinstance(node, Function) and node.name == "__init__"]
            if not made and any(not isinstance(base, ast.Name) or base.id != "object" for base in self.owner.bases):
                raise Unfit("a class whose constructor is inherited")
            for function in made:
                required |= {f".{name}": what for name, what in _parameters(function, bound=True)[0].items()}
        return required, optional


def _parameters(function: Function, bound: bool) -> tuple[dict, dict]:
    """Strategies of the parameters; names that can only be given as keywords, and those with a default, start with *.

    Parameters that collect the rest are given nothing.
    """
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
    required, optional = {}, {}
    for index, (parameter, default) in enumerate(zip(plain, defaults)):
        if bound and index == 0:
            continue
        if default is None:
            required[parameter.arg] = strategy_of(function, parameter, None)
        elif parameter not in arguments.posonlyargs:
            optional[f"*{parameter.arg}"] = strategy_of(function, parameter, default)
    for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        where = required if default is None else optional
        where[f"*{parameter.arg}"] = strategy_of(function, parameter, default)
    return required, optional


def _callables(tree: ast.Module) -> Iterator[_Callable]:
    for node in tree.body:
        if isinstance(node, Function) and not _is_test(node.name):
            yield _Callable(node)
        elif isinstance(node, ast.ClassDef) and not _is_test(node.name):
            for inner in node.body:
                if isinstance(inner, Function) and not inner.name.startswith("__"):
                    kinds = {part.id for part in inner.decorator_list if isinstance(part, ast.Name)}
                    yield _Callable(inner, node, frozenset(kinds))


def _is_test(name: str) -> bool:
    return name.lower().startswith("test") or name == "main"


def _yields(function: Function) -> bool:
    """Whether it is a generator: a `yield` of its own, not of a function inside it."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))
    return False
