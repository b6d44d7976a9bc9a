"""gin files and `--gin.X=Y` flags in, one frozen dataclass out. The only file that knows gin.

A component is a frozen dataclass: its fields are its knobs, its defaults the only ones. `load` reads bindings such as
`Optimizer.peak_lr = 3e-3` with gin's own parser and builds the tree of components itself. gin's global registry is
never touched: nothing of gin outlives the call, and two loads cannot meet.
"""

import difflib
import json
import os
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from gin import config_parser

from cwm_jax.components import ConfigError, classes_in, fit, flat, parameters, plain, reachable, spell
from cwm_jax.files import write_whole

__all__ = ["ConfigError", "bound", "flat", "load", "split_gin_flags", "write"]

T = TypeVar("T")


def split_gin_flags(argv: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Splits a command line into gin files, overrides (`Name.param=value`) and the other arguments, in order.

    Knows `--gin_file=F`, `--gin_file F`, `--gin.X=Y` and `--gin.X Y`.
    """
    files, overrides, rest = [], [], []
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name != "--gin_file" and not name.startswith("--gin."):
            rest.append(argument)
            continue
        if not equals and (value := next(arguments, None)) is None:
            raise ConfigError(f"{name} has no value; write {name}=VALUE")
        known = files if name == "--gin_file" else overrides
        known.append(value if known is files else f"{name.removeprefix('--gin.')}={value}")
    return files, overrides, rest


def bound(files: Sequence[str], overrides: Sequence[str]) -> set[str]:
    """Names of the components that gin files and overrides bind something of; raises as `load`, for syntax."""
    return {binding.component for binding in _Source.of(files, overrides).history}


def load(files: Sequence[str], overrides: Sequence[str], into: type[T], register: Iterable[type] = ()) -> T:
    """Resolves gin files, then overrides, to one `into`; of two bindings of one parameter the later one counts.

    A field whose default or annotation is a component is built with the bindings of its class, without any reference
    to it. `Model.conv = @ShortConv()` binds another one, and `@test/Data()` one that reads `test/Data.path` before
    `Data.path`; what it builds inside reads the same scope. An `include` is looked up beside the file that has it,
    then in the working directory.

    Args:
      files: gin files, in order.
      overrides: bindings such as `Optimizer.peak_lr=3e-3`.
      into: the frozen dataclass at the root.
      register: components that neither annotations nor defaults below `into` name: implementations of a protocol.

    Raises:
      ConfigError: bad syntax; a name that does not exist (near ones are suggested); a value or default that does not
        fit its annotation (an int fits float, a list becomes a tuple); a parameter with neither default nor binding;
        a binding that nothing in the result uses, unless it was made before what it served was replaced.
    """
    source = _Source.of(files, overrides)
    components = reachable([into, *register])
    for binding in source.history:
        _check_names(binding, components)
    resolver = _Resolver(source, components)
    config = resolver.build(into, "", None, ())
    resolver.refuse_inert()
    return config


def write(config: Any, folder: str | os.PathLike) -> None:
    """Writes `config.gin` (every value, bound; `load` makes an equal config of it) and `config.json` (the same as a
    nested dict, with `"component"` where the annotation leaves the class open) into `folder`, each whole or not at all.

    Raises:
      ConfigError: a value is neither a component, a number, a string, None nor a tuple of these.
    """
    folder = Path(folder)
    resolved = json.dumps(plain(config, type(config)), indent=2) + "\n"
    for name, text in (("config.gin", _gin(config)), ("config.json", resolved)):
        write_whole(folder / name, text)


@dataclass(frozen=True)
class _Mention:
    """`@scope/name()`, or the macro `%name` (its name starts with the %)."""

    name: str
    scope: str = ""

    def __str__(self) -> str:
        return self.name if self.name.startswith("%") else f"@{self.scope}{'/' * bool(self.scope)}{self.name}()"

    __repr__ = __str__


class _Delegate(config_parser.ParserDelegate):
    def configurable_reference(self, name: str, evaluate: bool) -> _Mention:
        if not evaluate:
            raise SyntaxError(f"@{name} makes no component, @{name}() does")
        scope, name = config_parser.parse_scoped_selector(name)
        return _Mention(name, scope)

    def macro(self, name: str) -> _Mention:
        return _Mention(f"%{name}")


@dataclass(eq=False)
class _Binding:
    """`scope/component.parameter = value`, or a macro (`component` starts with %, `parameter` is empty)."""

    scope: str
    component: str
    parameter: str
    value: Any
    where: str
    order: int
    used: bool = False

    def __str__(self) -> str:
        name = f"{self.scope}/" * bool(self.scope) + self.component.lstrip("%")
        return f"{self.where}: {name}{'.' * bool(self.parameter)}{self.parameter}"


@dataclass
class _Source:
    """What files and overrides say."""

    history: list[_Binding] = field(default_factory=list)
    last: dict[tuple[str, str, str], _Binding] = field(default_factory=dict)
    replaced: list[tuple[str, int]] = field(default_factory=list)  # component or macro, order of what replaced it

    @classmethod
    def of(cls, files: Sequence[str], overrides: Sequence[str]) -> "_Source":
        source = cls()
        for file in files:
            source.read_file(Path(file), ())
        for override in overrides:
            source.read(override, f"--gin.{override}", Path(), ())
        return source

    def read_file(self, path: Path, including: tuple[Path, ...]) -> None:
        if path.resolve() in including:
            raise ConfigError(f"{path} includes itself, by way of {', '.join(map(str, including))}; break the circle")
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            by = f" included by {including[-1]}" if including else ""
            raise ConfigError(f"cannot read the gin file {path}{by}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"the gin file {path} is not UTF-8 at byte {error.start}; save it as UTF-8") from None
        self.read(text, str(path), path.parent, (*including, path.resolve()))

    def read(self, text: str, where: str, folder: Path, including: tuple[Path, ...]) -> None:
        try:
            for statement in config_parser.ConfigParser(text, _Delegate()):
                place = f"{where}:{statement.location.line_num}" if including else where
                match statement:
                    case config_parser.BindingStatement():
                        self._bind(statement, place)
                    case config_parser.IncludeStatement(filename=file):
                        beside = folder / file
                        self.read_file(beside if beside.exists() else Path(file), including)
                    case config_parser.ImportStatement():
                        raise ConfigError(f"{place}: remove the import; the program itself registers its components")
        except (SyntaxError, tokenize.TokenError) as error:
            reason = str(error.args[0]).splitlines()[-1].strip(" .")
            place = f"{where}:{error.lineno}" if including and getattr(error, "lineno", None) else where
            raise ConfigError(f"{place}: {reason}; write Component.parameter = value, strings in quotes") from None

    def _bind(self, statement: config_parser.BindingStatement, where: str) -> None:
        scope, component, parameter = statement.scope, statement.selector, statement.arg_name
        if not parameter:
            scope, component = "", f"%{scope}{'/' * bool(scope)}{component}"
        binding = _Binding(scope, component, parameter, statement.value, where, len(self.history))
        if (before := self.last.get((scope, component, parameter))) is not None:
            self.replace(before.value, binding)
        self.history.append(binding)
        self.last[scope, component, parameter] = binding

    def replace(self, value: Any, binding: _Binding) -> None:
        """Notes that `binding` put something else in the place of what `value` mentions."""
        self.replaced += [(mention.name, binding.order) for mention in _mentions(value)]
        self.replaced += [(component.__name__, binding.order) for component in classes_in(value)]


def _mentions(value: Any) -> Iterator[_Mention]:
    """References and macros in a parsed value."""
    if isinstance(value, _Mention):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _mentions(item)


def _check_names(binding: _Binding, components: dict[str, type]) -> None:
    """Refuses a binding that names a component or a parameter that does not exist."""

    def check(what: str, name: str, known: Iterable[str]) -> None:
        if name not in known and not name.startswith("%"):
            near = difflib.get_close_matches(name, known, cutoff=0.4) or sorted(known)
            raise ConfigError(f"{binding} = {binding.value!r}: there is no {what} {name!r}; write {' or '.join(near)}")

    for name in (binding.component, *(mention.name for mention in _mentions(binding.value))):
        check("component", name, components)
    if binding.parameter:
        check("parameter", binding.parameter, parameters(components[binding.component]))


@dataclass
class _Resolver:
    """Builds components from what a source binds."""

    source: _Source
    components: dict[str, type]

    def build(self, component: type[T], scope: str, default: T | None, inside: tuple) -> T:
        """A `component`: its parameters as bound in `scope`, else as in `default`, else as the class says."""
        name = component.__name__
        values = {}
        for parameter, (hint, value) in parameters(component).items():
            where = f"default of {name}.{parameter}"
            if default is not None:
                value = getattr(default, parameter)
            if (binding := self._find(scope, name, parameter)) is not None:
                self.source.replace(hint if value is MISSING else value, binding)
                where, value = str(binding), binding.value
            elif value is MISSING:
                if not is_dataclass(hint):
                    raise ConfigError(f"{name}.{parameter} has no default; bind {name}.{parameter} = <{spell(hint)}>")
                value = _Mention(hint.__name__)
            value = self._value(value, scope, inside)
            try:
                values[parameter] = fit(value, hint)
            except TypeError:
                fix = f"write {name}.{parameter} = <{spell(hint)}>"
                raise ConfigError(f"{where} = {value!r} does not fit {spell(hint)}; {fix}") from None
        try:
            return component(**values)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{name}: {error}") from error

    def _find(self, scope: str, component: str, parameter: str) -> _Binding | None:
        found = [b for s in (scope, "") if (b := self.source.last.get((s, component, parameter))) is not None]
        for binding in found:
            binding.used = True
        return found[0] if found else None

    def _value(self, value: Any, scope: str, inside: tuple) -> Any:
        """References and macros replaced by what they stand for, lists by tuples, defaults by what is bound to them."""
        if isinstance(value, _Mention) and value in inside:
            raise ConfigError(f"{value} is part of itself, by way of {', '.join(map(str, inside))}; break the circle")
        match value:
            case _Mention(name) if name in self.components:
                return self.build(self.components[name], value.scope or scope, None, (*inside, value))
            case _Mention(name):
                if (binding := self._find("", name, "")) is None:
                    raise ConfigError(f"{name} is not defined; add the line {name[1:]} = <its value>")
                return self._value(binding.value, scope, (*inside, value))
            case list() | tuple():
                return tuple(self._value(item, scope, inside) for item in value)
        return self.build(type(value), scope, value, inside) if is_dataclass(value) else value

    def refuse_inert(self) -> None:
        """Raises if a binding serves nothing, unless it was made before what it served was replaced."""
        expired: dict[str, int] = {}
        waiting = list(self.source.replaced)
        while waiting:
            name, order = waiting.pop()
            if expired.get(name, -1) < order:
                expired[name] = order
                inner = list(reachable([self.components[name]])) if name in self.components else []
                inner += [m.name for b in self.source.history if b.component == name for m in _mentions(b.value)]
                waiting += [(inner_name, order) for inner_name in inner]
        for binding in self.source.last.values():
            if not binding.used and expired.get(binding.component, -1) < binding.order:
                what = _Mention(binding.component, binding.scope)
                fix = f"nothing uses {what}; remove the binding, or bind {what} to something"
                raise ConfigError(f"{binding} = {binding.value!r} has no effect: {fix}")


def _gin(config: Any) -> str:
    """Bindings that make an equal config; of several components of one class all but the first get a scope."""
    blocks: list[list[str]] = []
    made: Counter[str] = Counter()

    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return f"({', '.join(map(text, value))}{',' * (len(value) == 1)})"
        if not is_dataclass(value):
            return repr(value)
        name = type(value).__name__
        made[name] += 1
        scoped = f"{name}_{made[name]}/{name}" if made[name] > 1 else name
        blocks.append(block := [])
        block += [f"{scoped}.{key} = {text(getattr(value, key))}" for key in parameters(type(value))]
        return f"@{scoped}()"

    text(config)
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"
