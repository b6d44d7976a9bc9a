"""Tasks that stand in files of JSON lines, and which of them are kept for measuring."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def rows(path: str | Path, fields: Mapping[str, type]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`(place, row)` of each line that is not empty; `place` names file and line, for errors.

    Args:
      path: a file of JSON lines, each with a `name` unlike the others'.
      fields: that every row has, with the type of each.

    Raises:
      ValueError: a line is no such row, or a name stands twice.
      OSError: the file cannot be read.
    """
    names: set[str] = set()
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{place}: no JSON ({error}); write one object a line") from None
        check(place, row, {"name": str, **fields})
        if row["name"] in names:
            raise ValueError(f"{place}: the name {row['name']!r} stands in an earlier line; give each row its own")
        names.add(row["name"])
        yield place, row


def check(place: str, value: Any, fields: Mapping[str, type]) -> None:
    """Refuses a value that is no object with these fields.

    Raises:
      ValueError: it names the place, the field, and what to write.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{place}: {type(value).__name__}, no object; write one with {', '.join(fields)}")
    for field, kind in fields.items():
        if field not in value:
            raise ValueError(f"{place}: the field `{field}` is missing; give it, of type {kind.__name__}")
        if type(value[field]) is not kind:
            found = type(value[field]).__name__
            raise ValueError(f"{place}: the field `{field}` is of type {found}; write a value of type {kind.__name__}")


def is_held_out(name: str, share: float) -> bool:
    """Whether a task of this name is kept for measuring; it depends on nothing else, so files may grow.

    Args:
      name: of the task.
      share: of all names that are kept, about.
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) < share * 2**64
