"""Values as traces show them."""

import types
from _json import encode_basestring_ascii as to_json  # what json.dumps calls; json itself takes 5 ms to import
from _signal import SIG_BLOCK, SIG_SETMASK, SIGXCPU, pthread_sigmask, valid_signals  # signal itself is slow to import

ATOMS = frozenset({int, float, bool, complex, type(None), type(...)})
_STR = {str}
TEXTS = frozenset({str, bytes, bytearray})
CONTAINERS = frozenset({list, tuple, set, frozenset, dict})
QUIET = ATOMS | {  # types whose repr is short and runs no code of the program's
    range, type(iter(range(0))), type(iter([])), type(iter(())), type(iter("")), type(iter(set())), type(iter({})),
    type(iter({}.values())), type(iter({}.items())), enumerate, zip, map, filter, reversed, type(reversed([])),
    types.FunctionType, types.BuiltinFunctionType, types.GeneratorType, types.CoroutineType,
}  # fmt: skip
identity = object.__hash__  # tells living objects apart, as id() does, but raises no audit event
SIGNALS = valid_signals() - {SIGXCPU}


class Renderer:
    """`repr`, without addresses, within the length that is allowed.

    Before a `__repr__` that may be the program's own runs, the journal notes for which
    variable: a program that never comes back from there is stopped with its name.
    """

    def __init__(self, max_chars: int, journal, finish):
        """`finish(verdict, detail)` ends this process."""
        self._max_chars = max_chars
        self._journal = journal
        self._finish = finish

    def __call__(self, value: object, name: str, what: str = "the local") -> str:
        kind = type(value)
        try:
            if kind in ATOMS or (kind is str and len(value) <= self._max_chars) or self._is_plain(value, kind):
                text = repr(value)
            elif self._is_quiet(value, kind):
                text = repr(value) if kind in TEXTS else _without_addresses(repr(value))
            else:
                text = self._foreign(value, kind, f"{what} {name!r}")
        except _TooLong:
            text = None
        except (ValueError, RuntimeError):  # an int of more than 4,300 digits; nesting too deep; changed by a thread
            text = nameless(kind)
        if text is None or len(text) > self._max_chars:
            self._finish("value_limit", f"{what} {name!r}")
        return text

    def _foreign(self, value: object, kind: type, subject: str) -> str:
        """The text of an object whose `__repr__`, or that of a part of it, may be the program's own."""
        self._journal.note(f'["render",{to_json(subject)},""]')
        mask = pthread_sigmask(SIG_BLOCK, SIGNALS)  # what a signal handler raises is no fault of the value
        try:
            text = repr(value)
        except MemoryError:
            raise
        except BaseException:  # whatever it raises, SystemExit included, is the value's affair
            return nameless(kind)
        finally:
            self._journal.drop_note()
            pthread_sigmask(SIG_SETMASK, mask)
        if type(text) is not str:  # a subclass may bring methods of its own
            text = str.__str__(text)
        if not text.isascii():
            text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates are no text
        text = _without_addresses(text)
        return nameless(kind) if text == ".." else text  # ".." would read as "unchanged"

    def _is_plain(self, value: object, kind: type) -> bool:
        """Whether this is a short container of atoms: the common case, found at little cost."""
        if kind not in CONTAINERS or len(value) > self._max_chars // 3:
            return False
        return ATOMS.issuperset(map(type, value)) and (kind is not dict or ATOMS.issuperset(map(type, value.values())))

    def _is_quiet(self, value: object, kind: type) -> bool:
        """Whether no foreign `__repr__` runs; raises `_TooLong` before a text that is too long is built."""
        self._room, self._quiet = self._max_chars, True
        self._measure(value, kind, ())
        return self._quiet

    def _measure(self, value: object, kind: type, around: tuple) -> None:
        """Takes from the room a lower bound of the characters that `value` prints."""
        if kind in TEXTS:
            self._room -= len(value)
        elif kind in CONTAINERS:
            if identity(value) not in around:  # a list inside itself prints as [...]
                around = (*around, identity(value))
                self._measure_items(value, around)
                if kind is dict:
                    self._measure_items(value.values(), around)
        elif kind not in QUIET:
            self._quiet = False
        if self._room < 0:
            raise _TooLong

    def _measure_items(self, items, around: tuple) -> None:
        self._room -= len(items)
        kinds = set(map(type, items))
        if kinds == _STR:
            self._room -= sum(map(len, items))
        elif self._room >= 0 and not kinds <= ATOMS:
            for item in items:
                self._measure(item, type(item), around)


class _TooLong(Exception):
    pass


def nameless(kind: type) -> str:
    return f"<{type.__dict__['__name__'].__get__(kind)} object>"  # past any metaclass


def _without_addresses(text: str) -> str:
    """`text` without ` at 0x…`; numbers below 1 MB are no addresses."""
    if " at 0x" not in text:
        return text
    first, *others = text.split(" at 0x")
    for part in others:
        rest = part.lstrip("0123456789abcdef")
        first += rest if len(part) - len(rest) >= 6 else " at 0x" + part
    return first
