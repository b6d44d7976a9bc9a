"""The tools `edit` and `create` (facts §6.8), as a script that runs in the agent's sandbox and imports nothing of ours.

Argument: the name of the tool; standard input is what it was called with. What it prints is for the agent.
"""

import sys
from pathlib import Path

_SEARCH, _BETWEEN, _REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"
_AROUND = 8  # lines that are shown before and after a change


class Refused(Exception):
    """A tool cannot do what it was called for; the message says why."""


def edit(body: str) -> str:
    """Replaces lines of a file, which have to stand there once.

    Args:
      body: a path, then one block of the lines to find and of those to put there.

    Returns:
      The lines around the change, with their numbers.

    Raises:
      Refused: there is not one whole block, no such file, or not one such place in it.
    """
    path, *block = body.split("\n")
    while block and not block[-1].strip():
        block.pop()
    marks = [line for line in block if line in (_SEARCH, _BETWEEN, _REPLACE)]
    if marks != [_SEARCH, _BETWEEN, _REPLACE] or (block[0], block[-1]) != (_SEARCH, _REPLACE):
        raise Refused(f"after the path write one block: {_SEARCH}, lines, {_BETWEEN}, lines, {_REPLACE}")
    middle = block.index(_BETWEEN)
    old, new = block[1:middle], block[middle + 1 : -1]
    if not old:
        raise Refused("there is nothing to search for")
    file = Path(path.strip())
    if not file.is_file():
        raise Refused(f"there is no file {file}")
    lines = _read(file).split("\n")
    places = [at for at in range(len(lines) - len(old) + 1) if lines[at : at + len(old)] == old]
    if len(places) != 1:
        raise Refused(f"the lines to search for stand in {file} {len(places)} times; they have to stand there once")
    (at,) = places
    lines[at : at + len(old)] = new
    _write(file, "\n".join(lines))
    shown = range(max(0, at - _AROUND), min(len(lines), at + len(new) + _AROUND))
    return "\n".join([f"{file} is changed. It now reads:", *(f"{number + 1:6d}\t{lines[number]}" for number in shown)])


def create(body: str) -> str:
    """Makes a file.

    Args:
      body: a path, then what the file holds.

    Raises:
      Refused: there is such a file already, or no folder for it.
    """
    path, _, content = body.partition("\n")
    file = Path(path.strip())
    if file.exists():
        raise Refused(f"{file} is there already")
    if not file.parent.is_dir():
        raise Refused(f"there is no folder {file.parent}")
    _write(file, content if not content or content.endswith("\n") else content + "\n")
    return f"{file} is made."


def _read(file: Path) -> str:
    return file.read_bytes().decode(errors="surrogateescape")


def _write(file: Path, text: str) -> None:
    file.write_bytes(text.encode(errors="surrogateescape"))


def main() -> None:
    body = sys.stdin.buffer.read().decode(errors="surrogateescape").removesuffix("\n")
    try:
        told = {"edit": edit, "create": create}[sys.argv[1]](body)
    except (Refused, OSError, ValueError) as error:
        sys.exit(f"Nothing is changed: {error}")
    sys.stdout.buffer.write(told.encode(errors="surrogateescape") + b"\n")


if __name__ == "__main__":
    main()
