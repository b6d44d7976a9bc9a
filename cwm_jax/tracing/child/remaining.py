"""What an iterator still has to yield: read from the state of CPython's own iterators, without a step of theirs.

Each is asked for that state by its `__reduce__`, which is written in C and runs no code of the program, and
answers with what it iterates over and its place in it. Of all others only the kind can be known.
"""

import itertools
import sys
from collections.abc import Callable

MOST_COPIED = 4096  # a dict's or set's iterator copies all that is left: our choice of what that may cost
NESTING = 4  # of iterators over iterators, which programs make without end
SEQUENCES = {type(iter(kind())): kind for kind in (list, tuple, str, bytes, bytearray)} | {type(iter("é")): str}
RANGES = {type(iter(range(0))), type(iter(range(1 << 64)))}
REVERSED_LIST = type(reversed([]))
VIEWS = (set(), {}, {}.values(), {}.items())
COPIED = {type(iter(view)) for view in VIEWS} | {type(reversed(view)) for view in VIEWS[1:]}

Ahead = tuple[list, int | None]  # the next values, and how many follow them; None for no end


def remaining(iterator: object, most: int, show: Callable[[object], str], nesting: int = NESTING) -> str:
    """Such as `[1, 2, ... 5 more]`; `map(<function f>, [1, 2])` for what only the program's code can tell.

    Args:
      iterator: any object.
      most: values to show.
      show: the text of a value.
      nesting: levels of iterators to look into.
    """
    if (found := ahead(iterator, most, nesting)) is not None:
        values, more = found
        rest = {None: ["..."], 0: []}.get(more, [f"... {more} more"])
        return f"[{', '.join([*map(show, values), *rest])}]"
    kind = type(iterator)
    if nesting and kind in (map, filter, zip, enumerate):
        function, parts = _parts(iterator, kind)
        texts = [remaining(part, most, show, nesting - 1) for part in parts]
        return f"{kind.__name__}({', '.join([*map(show, function), *texts])})"
    return show(iterator)


def ahead(iterator: object, most: int, nesting: int = NESTING) -> Ahead | None:
    """The next values, at most `most`, and how many follow; None if that cannot be known."""
    kind = type(iterator)
    try:
        if kind in SEQUENCES:
            return _of_sequence(iterator, SEQUENCES[kind], most)
        if kind in RANGES:
            _, (span,), *at = iterator.__reduce__()
            return _of_range(span[at[0] if at and at[0] else 0 :], most)
        if kind is REVERSED_LIST or kind is reversed:
            return _of_reversed(iterator, most)
        if kind in COPIED:
            return _of_view(iterator, most)
        if kind is itertools.count and sys.version_info < (3, 12):  # later its __reduce__ warns
            return _of_count(iterator, most)
        if kind in (zip, enumerate) and nesting:
            return _of_parts(iterator, kind, most, nesting)
    except (RuntimeError, AttributeError):  # a dict that has changed; `builtins.iter` deleted
        pass
    return None


def _of_sequence(iterator: object, kind: type, most: int) -> Ahead:
    _, (sequence,), *state = iterator.__reduce__()
    at = state[0] if state else 0
    # Past methods of a subclass, as the iterator itself reads it.
    return list(kind.__getitem__(sequence, slice(at, at + most))), max(0, kind.__len__(sequence) - at - most)


def _of_reversed(iterator: object, most: int) -> Ahead | None:
    _, (sequence,), *state = iterator.__reduce__()
    kind = list if type(iterator) is REVERSED_LIST else type(sequence)
    if kind not in SEQUENCES.values():
        return None
    left = state[0] + 1 if state else 0
    if left > kind.__len__(sequence):  # it has become shorter: the next step ends the loop
        left = 0
    return list(kind.__getitem__(sequence, slice(max(0, left - most), left)))[::-1], max(0, left - most)


def _of_range(left: range, most: int) -> Ahead:
    values, rest = list(left[:most]), left[most:]
    return values, (rest[-1] - rest[0]) // rest.step + 1 if rest else 0  # len() fails on a long one


def _of_view(iterator: object, most: int) -> Ahead:
    size = iterator.__length_hint__()
    if size > MOST_COPIED:
        return [], size
    values = iterator.__reduce__()[1][0]
    return values[:most], max(0, len(values) - most)


def _of_count(iterator: itertools.count, most: int) -> Ahead | None:
    _, (start, *step) = iterator.__reduce__()
    if not {int, float}.issuperset(map(type, (start, *step))):
        return None
    return list(itertools.islice(itertools.count(start, *step), most)), None


def _of_parts(iterator: object, kind: type, most: int, nesting: int) -> Ahead | None:
    found = [ahead(part, most, nesting - 1) for part in _parts(iterator, kind)[1]]
    if None in found:
        return None
    values = list(zip(*(values for values, _ in found)))
    if kind is enumerate:
        start = iterator.__reduce__()[1][1]
        values = [(int.__add__(start, place), value) for place, (value,) in enumerate(values)]
    ends = [len(ahead) + more for ahead, more in found if more is not None]
    endless = found and not ends
    return values, None if endless else min(ends, default=0) - len(values)


def _parts(iterator: object, kind: type) -> tuple[list, list]:
    """The function that a `map` or `filter` calls, and the iterators that it, a `zip` or an `enumerate` is over."""
    parts = list(iterator.__reduce__()[1])
    if kind in (map, filter):
        return parts[:1], parts[1:]
    return [], parts[:1] if kind is enumerate else parts
