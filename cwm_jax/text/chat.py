"""Conversations as token ids: CWM's messages, its reasoning, and its tools (facts of the release; §6.7 where marked).

    <|begin_of_text|>  then of each message  <|start_header_id|>ROLE<|end_header_id|>\\n\\nBODY<|eot_id|>

Roles are system, user, assistant and `tool: NAME`. An answer that reasons begins with `<think>\\n`, and a call of a
tool in it is `<tool: NAME>\\nBODY\\n</tool>`. Only this module puts control tokens in: whatever a body spells is text.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cwm_jax.text.special_tokens import BEGIN_OF_TEXT, END_HEADER, END_OF_TURN, START_HEADER
from cwm_jax.text.vocabulary import Vocabulary

THINK = "<think>\n"
THOUGHT = "</think>"
TOOL_END = "\n</tool>"
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # OpenAI's; the release's own tools have letters and underscores

ASSISTANT = "You are a helpful AI assistant."
# The prompt that the release was trained with.
REASONING = (
    f"{ASSISTANT} You always reason before responding, using the following format:\n\n"
    "<think>\nyour internal reasoning\n</think>\nyour external response"
)
_TOOLS = "You have access to the following tools:"  # as released; how each is described is our choice


@dataclass(frozen=True)
class Call:
    """A call of a tool: its name, and the body, JSON for tools that were described by a schema."""

    name: str
    body: str

    def __str__(self) -> str:
        return f"{tool_start(self.name)}{self.body}{TOOL_END}"


@dataclass(frozen=True)
class Message:
    """A message of a conversation.

    Attributes:
      role: whose it is.
      text: what it says.
      reasoning: of an assistant, what it thought before.
      calls: of an assistant, the tools that it called after what it said.
      tool: of role `tool`, which one answers.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    tool: str = ""

    @property
    def header(self) -> str:
        return f"tool: {self.tool}" if self.role == "tool" else self.role

    def body(self, keep_reasoning: bool) -> str:
        """The text between header and end: bare of space at its ends unless a tool says it (as released)."""
        if self.role == "tool":
            return self.text
        said = "\n\n".join([*filter(None, [self.text.strip()]), *map(str, self.calls)])
        thought = f"{THINK}{self.reasoning.strip()}\n{THOUGHT}\n" if self.reasoning and keep_reasoning else ""
        return (thought + said).strip()


@dataclass(frozen=True)
class Tool:
    """A function that the model may call.

    Attributes:
      name: letters, digits, `_` and `-`.
      description: what it does.
      parameters: JSON schema of its arguments.
    """

    name: str
    description: str
    parameters: dict[str, Any]

    def __str__(self) -> str:
        schema = json.dumps(self.parameters, ensure_ascii=False)
        example = Call(self.name, json.dumps(_example(self.parameters), ensure_ascii=False))
        told = f"{self.description.strip()}\n" if self.description.strip() else ""
        return f"## {self.name}\n{told}Arguments, a JSON object of this schema: {schema}\nExample:\n{example}"


class ChatFormat:
    """Conversations in the ids of one vocabulary.

    Raises:
      ValueError: the vocabulary has no tokens for turns.
    """

    def __init__(self, vocabulary: Vocabulary):
        needed = (BEGIN_OF_TEXT, START_HEADER, END_HEADER, END_OF_TURN)
        if missing := [name for name in needed if name not in vocabulary.control_tokens]:
            raise ValueError(
                f"the vocabulary of this model lacks {', '.join(missing)}: it learnt no conversations; "
                "ask for completions of a text instead"
            )
        self._encode = vocabulary.encode
        self._begin, self._start, self._end, self._turn = map(vocabulary.token_id, needed)

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        thinking: bool = True,
        keep_reasoning: bool = True,
        opening: str = "",
    ) -> list[int]:
        """Ids up to where the assistant's next words begin.

        Args:
          messages: the conversation so far.
          tools: described in the system message.
          thinking: whether the answer begins with reasoning; the system message then asks for it.
          keep_reasoning: whether the reasoning of earlier answers stays.
          opening: first words of the answer, after the start of reasoning.

        Raises:
          ValueError: a text cannot be encoded.
        """
        given = bool(messages) and messages[0].role == "system"
        system = _system(messages[0].text if given else None, tools, thinking)
        ids = [self._begin, *self._header("system"), *self._encode(system), self._turn]
        for message in messages[given:]:
            ids += [*self._header(message.header), *self._encode(message.body(keep_reasoning)), self._turn]
        return [*ids, *self._header("assistant"), *self._encode((THINK if thinking else "") + opening)]

    def _header(self, role: str) -> list[int]:
        # The empty line is encoded by itself, so that a body's tokens do not depend on it.
        return [self._start, *self._encode(role), self._end, *self._encode("\n\n")]


def tool_start(name: str) -> str:
    """What opens a call."""
    return f"<tool: {name}>\n"


def _system(text: str | None, tools: Sequence[Tool], thinking: bool) -> str:
    """The system message: the released prompt if the answer reasons, what the caller wrote, the tools.

    A caller's own prompt that speaks of `<think>` stands alone (our choice: it was written for this model).
    """
    parts = [text.strip()] if text and text.strip() else []
    if thinking and not (text and THINK.strip() in text):
        parts.insert(0, REASONING)
    if tools:
        parts.append("\n\n".join([_TOOLS, *map(str, tools)]))
    return "\n\n".join(parts) if text or thinking else "\n\n".join([ASSISTANT, *parts])


def _example(schema: Any) -> Any:
    """Something of about this schema: the first of its examples, its default, or one value of its type."""
    if not isinstance(schema, dict):
        return "…"
    fixed = [schema[key] for key in ("const", "default") if key in schema]
    for given in (schema.get("examples"), fixed, schema.get("enum")):
        if isinstance(given, list) and given:
            return given[0]
    kind = schema.get("type")
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required")
        required = required if isinstance(required, list) and required else list(properties)
        return {name: _example(part) for name, part in properties.items() if name in required}
    simple = {"object": {}, "array": [], "integer": 1, "number": 1.5, "boolean": True, "null": None}
    return simple.get(kind, "…") if isinstance(kind, str) else "…"
