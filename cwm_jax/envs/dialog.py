"""Conversations in which the agent calls tools: what it may say, and how tools answer (facts §6.7, §6.8)."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cwm_jax.envs.answers import after_thought
from cwm_jax.envs.talk import Talk
from cwm_jax.text.chat import THOUGHT, Call, Message
from cwm_jax.text.vocabulary import Vocabulary

_CALL = re.compile(r"<tool:\s([a-zA-Z_]+)>\n(.*?)\n</tool>", re.DOTALL)
_OPENING, _CLOSING = "<tool:", "</tool>"
_CUT = "\n[...]"


class FormatError(ValueError):
    """What the agent said breaks a rule; the message tells it which."""


class Said(NamedTuple):
    """What the agent said, by its parts.

    Attributes:
      thought: its reasoning.
      text: all that stands after that, the call too.
      call: of a tool; None if there is none.
    """

    thought: str
    text: str
    call: Call | None = None


def parse(text: str, tools: Collection[str]) -> Said:
    """Takes what the agent said apart, strictly.

    Args:
      text: after the `<think>` that it was given.
      tools: names of those that it has.

    Raises:
      FormatError: the reasoning does not end exactly once; a call is not whole, is one of several, has nothing in it,
        or is of a tool that it does not have.
    """
    said = after_thought(text)
    if said is None:
        raise FormatError(f"Your answer has to hold {THOUGHT} exactly once: after your reasoning, before the rest.")
    thought = text.partition(THOUGHT)[0].strip()
    calls = _CALL.findall(said)
    if not (said.count(_OPENING) == said.count(_CLOSING) == len(calls)):
        raise FormatError("A call of a tool is not whole. Write it in lines: <tool: NAME>, what it gets, </tool>.")
    if not calls:
        return Said(thought, said)
    if len(calls) > 1:
        raise FormatError(f"Your answer has {len(calls)} calls of tools; write at most one.")
    ((name, body),) = calls
    if name not in tools:
        raise FormatError(f"There is no tool {name}; you have {', '.join(tools)}.")
    if not body.strip():
        raise FormatError(f"You called {name} with nothing in it.")
    return Said(thought, said, Call(name, body))


@dataclass
class Left:
    """What is left of an episode.

    Attributes:
      turns: that the agent may still take.
      tokens: that may still be said, by anyone.
    """

    turns: int
    tokens: int

    def __str__(self) -> str:
        return f"<budget>\n* Remaining turns: {self.turns}\n* Remaining tokens: {self.tokens}\n</budget>"


class Dialog(Talk):
    """Conversations with tools, in the ids of a vocabulary.

    Args:
      vocabulary: of the model.
      max_observation: tokens of what a tool says; the rest is left out, with a note.

    Raises:
      ValueError: there is no vocabulary, or it has no tokens for turns.
    """

    def __init__(self, vocabulary: Vocabulary | None, max_observation: int = 32_768):
        super().__init__(vocabulary)
        self._encode, self._most = vocabulary.encode, max_observation

    def opening(self, environment: str, text: str) -> tuple[int, ...]:
        """Ids of a prompt that tells of the environment, in the system's message, and of what the user asks."""
        system = Message("system", f"# Environment\n\n{environment}")
        return tuple(self._chat.prompt([system, Message("user", text)]))

    def said(self, action: Sequence[int], tools: Collection[str]) -> Said:
        """What an action says; raises as `parse`."""
        return parse(self.text(action), tools)

    def result(self, action: Sequence[int], tool: str, output: str, left: Left) -> tuple[int, ...]:
        """Ids that follow an action that called a tool: its end, where it was cut, what the tool says, and the start
        of reasoning.

        Args:
          action: the ids that were drawn.
          tool: its name.
          output: what it says.
          left: to be told with it.
        """
        prompt = self._chat.prompt([Message("tool", "", tool=tool)])
        message = prompt[prompt.index(self._turn) + 1 :]  # after the system's
        body = message.index(self._turn)
        end = () if action and action[-1] == self._turn else (self._turn,)
        return (*end, *message[:body], *self._result(output, left), *message[body:])

    def _result(self, output: str, left: Left) -> list[int]:
        start, end = f"<output>\n{output}", f"\n</output>\n\n{left}"
        ids = self._encode(start + end)
        if len(ids) <= self._most:
            return ids
        rest = self._encode(_CUT + end)
        # Of whole characters as far as tokens are; nothing is decoded to be encoded again.
        return self._encode(start)[: max(0, self._most - len(rest))] + rest
