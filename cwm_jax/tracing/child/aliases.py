"""Which names of a frame, and which places inside what they hold, share one mutable object."""

import ctypes
import types
from _collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from values import ATOMS, identity

MOST_PATHS = 8  # of one object, and objects of one frame, that are written; our choice
FIXED = (  # values of these types, and of types derived from them, never change, or only as a program is made
    int, float, complex, str, bytes, tuple, frozenset, range, type(None), type(...), type(NotImplemented), type,
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType, types.ModuleType,
    types.CodeType, property, staticmethod, classmethod,
)  # fmt: skip

# The attributes of an object past its `__getattribute__` and its `__dict__` property.
_attributes = ctypes.pythonapi.PyObject_GenericGetDict
_attributes.argtypes, _attributes.restype = [ctypes.py_object, ctypes.c_void_p], ctypes.py_object

PLAIN = {list, dict, set, deque}  # without attributes of their own

Path = tuple[str, object]


def aliases(variables: Iterator[Path], depth: int, places: int, show: Callable[[object], str]) -> str:
    """Such as `a is b; xs is grid[0] is grid[1]`; empty if nothing is shared.

    An object that two paths reach is looked into on the first of them only: `a is b` says all of `a[0]` and `b[0]`.

    Args:
      variables: names and their values.
      depth: how many containers deep to look.
      places: how many to look at.
      show: the text of a dict's key.
    """
    paths: dict[int, list[str]] = {}
    level = list(variables)
    for deeper in reversed(range(depth + 1)):
        inside: list[Path] = []
        for path, value in level[:places]:
            kind = type(value)
            if kind in ATOMS or kind in (str, bytes):
                continue
            known = paths.setdefault(identity(value), [])
            if deeper and not known:
                inside += islice(_inside(path, value, kind, show), places)
            if not (known and issubclass(kind, FIXED)):
                known.append(path)
        places = max(0, places - len(level))
        level = inside
    shared = [_joined(" is ", known) for known in paths.values() if len(known) > 1]
    return _joined("; ", shared)


def _joined(word: str, parts: list[str]) -> str:
    return word.join(parts[:MOST_PATHS] + ["..."] * (len(parts) > MOST_PATHS))


def _inside(path: str, value: object, kind: type, show: Callable[[object], str]) -> Iterator[Path]:
    """The places in a container and the attributes of an object, found without a method of the program."""
    if issubclass(kind, (list, tuple)):
        items = (list if issubclass(kind, list) else tuple).__iter__(value)
        yield from ((f"{path}[{place}]", item) for place, item in enumerate(items))
    elif kind is deque:
        yield from ((f"{path}[{place}]", item) for place, item in enumerate(value))
    elif issubclass(kind, dict):
        yield from ((f"{path}[{show(key)}]", item) for key, item in dict.items(value))
    if kind in PLAIN or issubclass(kind, FIXED):
        return
    try:
        attributes = _attributes(ctypes.py_object(value), None)  # in a box, or ctypes asks for its __class__
    except AttributeError:
        return
    for name, item in dict.items(attributes):
        if type(name) is str and name.isidentifier():
            yield f"{path}.{name}", item
