"""Lines of a program as a client counts and names them."""

from pathlib import Path

from cwm_jax.worldmodel.debugger.program import Program

_CONTEXT = 1  # reference of the source with the lines that were added to call a function


class Places:
    """Between lines of a context and places of a client: in the file, or in a source that only the adapter has.

    Args:
      program: what is debugged.
      first: the number that the client gives to a first line.
    """

    def __init__(self, program: Program, first: int):
        self._program, self._first = program, first
        self._path = Path(program.path).resolve() if program.path else None

    def place(self, line: int) -> dict:
        """A line of the context for the client: `line` and `source`."""
        shown = self._program.shown(line)
        if shown is None or self._path is None:
            return {"line": line + self._first - 1, "source": {"name": "start", "sourceReference": _CONTEXT}}
        return {"line": shown + self._first - 1, "source": {"name": self._path.name, "path": str(self._path)}}

    def line(self, source: dict, line: int) -> int | None:
        """The first line of the context, from a client's on, where a run may stop; None where there is none of ours."""
        number = line - self._first + 1
        if source.get("sourceReference") == _CONTEXT:
            return self._program.next_stop(number)
        return self._program.next_stop(self._program.line(number)) if self.ours(source) else None

    def ours(self, source: dict) -> bool:
        """Whether a client's source is the program that is debugged."""
        if source.get("sourceReference") == _CONTEXT:
            return True
        return bool(self._path and source.get("path") and Path(source["path"]).resolve() == self._path)
