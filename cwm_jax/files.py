"""Files that are whole or not there: a run may be killed at any point."""

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: str | os.PathLike, content: bytes | str) -> None:
    """Writes `content` beside `path` and moves it there, so that no reader and no later run sees half a file.

    Makes the folder where it is missing. Text is written as UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_whole(path, json.dumps(value, indent=2) + "\n")
