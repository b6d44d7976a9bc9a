"""What an assistant's text holds, as it grows: reasoning, words, calls of tools. `chat` writes what this reads."""

from collections.abc import Collection
from typing import Literal, NamedTuple

from cwm_jax.text.chat import THOUGHT, TOOL_END, Call, tool_start
from cwm_jax.text.streams import partial


class Said(NamedTuple):
    """A piece of an answer; pieces of one kind that follow each other are one text."""

    kind: Literal["reasoning", "content"]
    text: str


class AnswerParser:
    """Reads an answer piece by piece; what it finds does not depend on the pieces.

    Reasoning ends at the first `</think>`; an answer that never says that is all reasoning. A call counts if it is
    whole and of a tool that is known, and is text otherwise. Empty lines after the reasoning, and space around calls,
    are nobody's.

    Args:
      thinking: whether the text begins with reasoning.
      tools: names of tools.
      opening: words of the answer that were given.
    """

    def __init__(self, thinking: bool, tools: Collection[str] = (), opening: str = ""):
        self._starts = {tool_start(name): name for name in tools}
        self._thinking = thinking
        self._open = ""  # the start of the call that is being read
        self._space = ""  # before that
        self._trim = False  # whether space comes next that is nobody's
        self._held = opening

    def __call__(self, text: str) -> list[Said | Call]:
        """What can be told for sure after this text too."""
        self._held += text
        told: list[Said | Call] = []
        while self._advance(told):
            pass
        return told

    def end(self) -> list[Said | Call]:
        """The rest."""
        text = self._space + self._open + self._held
        self._space = self._open = self._held = ""
        return [Said("reasoning" if self._thinking else "content", text)] if text else []

    def _advance(self, told: list[Said | Call]) -> bool:
        """Takes the next thing off what is held; whether there may be more."""
        if self._thinking:
            return self._think(told)
        if self._open:
            body, closed, rest = self._held.partition(TOOL_END)
            if not closed:
                return False
            told.append(Call(self._starts[self._open], body))
            self._open, self._space, self._held, self._trim = "", "", rest, True
            return True
        if self._trim:
            self._held = self._held.lstrip()
            if not self._held:
                return False
            self._trim = False
        if found := [(self._held.find(start), start) for start in self._starts if start in self._held]:
            at, self._open = min(found)
            said = self._held[:at].rstrip()
            self._say(told, "content", said)
            self._space, self._held = self._held[len(said) : at], self._held[at + len(self._open) :]
            return True
        end = len(self._held) - partial(self._held, self._starts)
        end = len(self._held[:end].rstrip()) if self._starts else end  # space before a call is nobody's
        self._say(told, "content", self._held[:end])
        self._held = self._held[end:]
        return False

    def _think(self, told: list[Said | Call]) -> bool:
        thought, closed, rest = self._held.partition(THOUGHT)
        if closed:
            self._say(told, "reasoning", thought.removesuffix("\n"))
            self._thinking, self._held, self._trim = False, rest, True
            return True
        end = len(thought) - partial(thought, (f"\n{THOUGHT}", THOUGHT))
        self._say(told, "reasoning", thought[:end])
        self._held = thought[end:]
        return False

    @staticmethod
    def _say(told: list[Said | Call], kind: Literal["reasoning", "content"], text: str) -> None:
        if text:
            told.append(Said(kind, text))
