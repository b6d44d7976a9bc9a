"""Components: the frozen dataclasses that a config is made of, one field a knob, the field's default the only one.

What `cwm_jax.config` needs to know about them: their parameters, which others they reach, and whether a value fits an
annotation. Annotations may be int, float, str, bool, None, Any, Literal, tuples, a component, a protocol or base class
that components implement, and unions of these.
"""

import math
import re
from collections import abc
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_SCALARS = (int, float, str, bool)


class ConfigError(ValueError):
    """A binding or a component is wrong; the message names it, its value, where it was bound and the fix."""


def parameters(component: type) -> dict[str, tuple[Any, Any]]:
    """Annotation and default (or `dataclasses.MISSING`) of each parameter."""
    hints = get_type_hints(component)
    return {
        f.name: (hints[f.name], f.default if f.default_factory is MISSING else f.default_factory())
        for f in fields(component)
        if f.init
    }


def classes_in(value: Any) -> Iterator[type]:
    """The components in a built value or in an annotation, outermost first."""
    if is_dataclass(value) and isinstance(value, type):
        yield value
    elif is_dataclass(value):
        yield type(value)
        value = tuple(getattr(value, f.name) for f in fields(value))
    for part in value if isinstance(value, tuple) else get_args(value):
        yield from classes_in(part)


def reachable(roots: Iterable[type]) -> dict[str, type]:
    """By name every component that the roots, their annotations and their defaults name.

    Raises:
      ConfigError: one is no frozen dataclass, or two have the same name.
    """
    found: dict[str, type] = {}
    waiting = list(roots)
    while waiting:
        component = waiting.pop()
        name = component.__name__
        if found.setdefault(name, component) is not component:
            raise ConfigError(f"two components are called {name}: {found[name]} and {component}; rename one")
        if not (is_dataclass(component) and component.__dataclass_params__.frozen):
            raise ConfigError(f"{name} is no frozen dataclass; decorate it with @dataclass(frozen=True)")
        near = [c for parameter in parameters(component).values() for part in parameter for c in classes_in(part)]
        waiting += [c for c in near if found.get(c.__name__) is not c]
    return found


def fit(value: Any, hint: Any) -> Any:
    """`value` as its annotation wants it: an int becomes a float, a list a tuple.

    Raises:
      TypeError: it does not fit.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _fit_union(value, args)
    if hint is tuple or origin in (tuple, abc.Sequence):
        return _fit_tuple(value, origin, args)
    fits = False
    if hint is Any:
        if isinstance(value, list | tuple):
            return fit(value, tuple)
        fits = value is None or is_dataclass(value) or type(value) in _SCALARS
    elif origin is Literal:
        fits = any(type(value) is type(option) and value == option for option in args)
    elif hint is float:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    elif hint in (int, str, bool):
        fits = type(value) is hint
    elif hint in (None, NoneType):
        fits = value is None
    elif getattr(hint, "_is_protocol", False):
        names = {*vars(hint), *hint.__annotations__}
        wanted = [name for name in names if name == "__call__" or not name.startswith("_")]
        fits = is_dataclass(value) and all(hasattr(value, name) for name in wanted)
    elif isinstance(hint, type):
        fits = is_dataclass(value) and isinstance(value, hint)
    if not fits:
        raise TypeError
    return value


def _fit_union(value: Any, args: tuple) -> Any:
    for arg in sorted(args, key=lambda arg: arg is not type(value)):  # `float | int` leaves an int alone
        try:
            return fit(value, arg)
        except TypeError:
            continue
    raise TypeError


def _fit_tuple(value: Any, origin: Any, args: tuple) -> tuple:
    if not isinstance(value, list | tuple):
        raise TypeError
    if not args:
        args = (Any, ...)
    if origin is abc.Sequence or args[1:] == (...,):
        args = (args[0],) * len(value)
    if args == ((),):  # tuple[()] on Python 3.10
        args = ()
    if len(args) != len(value):
        raise TypeError
    return tuple(fit(item, arg) for item, arg in zip(value, args))


def spell(hint: Any) -> str:
    """An annotation as people write it, a component as gin does."""
    if isinstance(hint, type) and not get_args(hint):
        return f"@{hint.__name__}()" if is_dataclass(hint) else hint.__name__
    return re.sub(r"(?:\w+\.)+(?=[A-Za-z_])", "", str(hint).replace(".<locals>", ""))


def plain(value: Any, hint: Any = None) -> Any:
    """A built component as nested dicts, lists and scalars; `"component"` names the class where `hint` leaves it open.

    Raises:
      ConfigError: something in it is neither a component, a scalar, None nor a tuple of these.
    """
    if is_dataclass(value):
        name = {} if hint is type(value) else {"component": type(value).__name__}
        hints = parameters(type(value))
        return name | {key: plain(getattr(value, key), hint) for key, (hint, _) in hints.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if value is not None and type(value) not in _SCALARS:
        raise ConfigError(f"cannot write {value!r} of type {type(value).__name__}; use numbers, strings, tuples, None")
    return value


def flat(config: Any) -> dict[str, Any]:
    """The scalars of a built component by dotted path, as `plain` nests them: `{"model.width": 96, …}`.

    A tuple is one entry, unless it holds components: these are numbered from 0.
    """

    def walk(path: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            value = dict(enumerate(value))
        if not isinstance(value, dict):
            yield path, _tuples(value)
            return
        for key, item in value.items():
            yield from walk(f"{path}.{key}" if path else key, item)

    return dict(walk("", plain(config, type(config))))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
