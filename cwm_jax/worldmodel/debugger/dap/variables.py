"""Values as the protocol shows them: their text, their type, and the parts of containers, to unfold."""

import ast
import warnings
from collections.abc import Iterator

from cwm_jax.report.figures import percent

_MOST_PARTS = 1000  # of a container; more help nobody


class Variables:
    """What references of one stop stand for; they are forgotten when the session goes on."""

    def __init__(self):
        self._shown: dict[int, list[dict]] = {}

    def clear(self) -> None:
        self._shown.clear()

    def __getitem__(self, reference: int) -> list[dict]:
        """The variables behind a reference; none where it is of an earlier stop."""
        return self._shown.get(reference, [])

    def of(self, state: dict[str, str], sure: dict[str, float]) -> int:
        """A reference to locals, given by their `repr`, with how sure each is."""
        return self._remember([self.shown(name, value, name, sure.get(name)) for name, value in state.items()])

    def plain(self, texts: dict[str, str]) -> int:
        """A reference to texts."""
        return self._remember([{"name": name, "value": text, "variablesReference": 0} for name, text in texts.items()])

    def shown(self, name: str, text: str, expression: str, sure: float | None = None) -> dict:
        """A variable: its `repr`, its type and certainty, and a reference to its parts where it has any."""
        value = _literal(text)
        parts = list(_parts(value, expression)) if value is not None else []
        kind = "" if value is None and text != "None" else type(value).__name__
        certainty = "" if sure is None else f"{percent(sure)} sure"
        shown = {"name": name, "value": text, "evaluateName": expression}
        shown["type"] = ", ".join(filter(None, (kind, certainty)))
        children = [self.shown(key, repr(part), path) for key, part, path in parts]
        return shown | {"variablesReference": self._remember(children) if children else 0}

    def _remember(self, variables: list[dict]) -> int:
        self._shown[len(self._shown) + 1] = variables
        return len(self._shown)


def _literal(text: str) -> object | None:
    """The value that a `repr` spells; None where only the text is known."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _parts(value: object, expression: str) -> Iterator[tuple[str, object, str]]:
    if isinstance(value, dict):
        for key, part in list(value.items())[:_MOST_PARTS]:
            yield repr(key), part, f"{expression}[{key!r}]"
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value[:_MOST_PARTS]):
            yield f"[{index}]", part, f"{expression}[{index}]"
