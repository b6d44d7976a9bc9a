"""Functions of any Python code on disk, each with the source that it needs and inputs to try it on."""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.explore import Explorer
from cwm_jax.tracing.parts import Found, settings_of
from cwm_jax.tracing.source import bound_names, walk_scope
from cwm_jax.tracing.sources.inputs import drawn, in_docstring, strategy_of
from cwm_jax.tracing.sources.places import Place, find_files
from cwm_jax.tracing.sources.program import fingerprint
from cwm_jax.tracing.sources.slices import Module, Unfit, check_plain
from cwm_jax.tracing.sources.subject import Subject
from cwm_jax.tracing.store import Stored
from cwm_jax.tracing.wrap import start_name

Function = ast.FunctionDef | ast.AsyncFunctionDef
_FILES_PER_PART = 4


@dataclass(frozen=True)
class Functions:
    """Functions and methods of Python files that stand by themselves.

    A function that needs more than the standard library and its own package is counted and left out. What it needs of
    its own module stands in its context, what it needs of others is imported.

    Attributes:
      paths: folders, files, pinned source distributions (`inflection==0.5.1`), names of installed packages, or
        `stdlib`: the standard library of this Python.
      explorer: finds inputs that are worth a trace.
      tries: argument lists drawn for a function, beside those of its doctests.
      max_chars: functions whose slices are longer are left out.
      seed: of the draws.
    """

    paths: tuple[str, ...]
    explorer: Explorer = field(default_factory=Explorer)
    tries: int = 16
    max_chars: int = 8_000
    seed: int = 0

    def __post_init__(self):
        if not self.paths:
            raise ValueError("Functions.paths is empty; name at least one place, such as stdlib")
        if self.tries < 1 or self.max_chars < 1:
            raise ValueError(f"Functions.tries={self.tries} and max_chars={self.max_chars} must be at least 1")

    def parts(self, folder: Path, limit: int | None = None) -> list["FunctionsOfFiles"]:
        """A few files each; see `Source`."""
        files = find_files(self.paths, folder, "Functions.paths", limit)
        groups = [files[first : first + _FILES_PER_PART] for first in range(0, len(files), _FILES_PER_PART)]
        return [FunctionsOfFiles(self, tuple(group)) for group in groups]

    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return tuple(Path(path).resolve().name for path in self.paths)  # `.` has a name, too

    def work(self, place: Place, file: Path, dropped: Counter) -> Iterator[Subject]:
        """The functions of one file; counts in `dropped`, by reason, what is left out."""
        try:
            text = file.read_bytes().decode()
            module = Module(text, place.package_of(file)[1])
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
                yield self._subject(module, found, f"{place.name_of(file)}:{found.label}")
            except Unfit as reason:
                dropped[str(reason)] += 1

    def _subject(self, module: Module, found: "_Callable", origin: str) -> Subject:
        code = module.slice(found.top)
        if len(code) > self.max_chars:
            raise Unfit(f"more than {self.max_chars:,} characters of source")
        check_plain(code)
        required, optional = found.parameters()
        number = int.from_bytes(hashlib.sha256(f"{self.seed} {found.label} {code}".encode()).digest()[:8])
        names = tuple(required)
        inputs = [{"": arguments} for arguments in in_docstring(found.function) if found.owner is None]
        inputs += drawn(required, self.tries, number) if required else [{}]
        if optional:  # a few calls that give what has a default, by name
            extended = drawn(required | optional, max(1, self.tries // 2), number + 1)
            names += tuple(optional)
            inputs += extended
        start = start_name(bound_names(ast.parse(code).body))
        return Subject(
            origin, code, ast.unparse(found.function), found.call, names, start, found.awaited, tuple(inputs)
        )


@dataclass(frozen=True)
class FunctionsOfFiles:
    """The functions of a few files."""

    source: Functions
    files: tuple[tuple[Place, Path], ...]

    @property
    def mark(self) -> str:
        told = [place.mark_of(file) for place, file in self.files]
        return "\n".join([settings_of(self.source, "paths"), *told])

    def record(self, isolation: Isolation, dropped: Counter) -> Iterator[Found]:
        """Their traces; see `Part`."""
        for place, file in self.files:
            subjects = self.source.work(place, file, dropped)
            folder = place.package_of(file)[0]
            for subject, trace in self.source.explorer.explore(subjects, isolation, dropped, (folder,) * bool(folder)):
                if folder and any(folder in (frame.value or str(frame.locals)) for frame in trace.frames):
                    dropped["private: path"] += 1
                    continue
                try:
                    program = _fingerprint(subject.code)
                except RecursionError:
                    dropped["source nested too deeply"] += 1
                    continue
                yield Found(Stored("trace", subject.origin, program, trace), subject.own)


_fingerprint = lru_cache(16)(fingerprint)  # all traces of a function have the same, and stand in a row


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
    return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in walk_scope(function.body))
