"""The value stack of a frame, which Python shows nobody: read where CPython 3.11 and 3.12 keep it.

Nothing here raises an audit event, as `id` and `frame.f_code` would: a program's own hooks notice nothing.
"""

import ctypes
import sys
import types

from values import identity

# Offsets in PyFrameObject and in the _PyInterpreterFrame that belongs to it; its locals are followed by the stack.
F_FRAME, STACK_TOP, LOCALS_PLUS = 24, 64, 72
CODE = {(3, 11): 32, (3, 12): 0}.get(sys.version_info[:2])
WORD = 8
ADDRESSES = (1 << 64) - 1

_objects, _words, _ints = (ctypes.py_object * 1)(), (ctypes.c_size_t * 1)(), (ctypes.c_int * 1)()


def code_and_stack(frame: types.FrameType) -> tuple[types.CodeType, int, int]:
    """The code of a frame, the address of its locals, and how many places follow there, the stack included.

    That number counts only in a trace function, which is called for a frame whose stack is complete, and
    is negative where CPython has not written it down: at an exception.
    """
    turned = identity(frame) & ADDRESSES
    start = _read(((turned << 4 | turned >> 60) & ADDRESSES) + F_FRAME, _words)
    return _read(start + CODE, _objects), start + LOCALS_PLUS, _read(start + STACK_TOP, _ints)


def object_at(start: int, place: int) -> object:
    return _read(start + WORD * place, _objects)


def _read(address: int, into: ctypes.Array):
    ctypes.memmove(into, address, ctypes.sizeof(into))
    return into[0]
