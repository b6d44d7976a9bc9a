"""`/v1/chat/completions`: conversations, with reasoning and tools as CWM writes them."""

import secrets
from collections.abc import Sequence
from typing import Any

from cwm_jax.inference.request import Token
from cwm_jax.inference.served import Limits, Served
from cwm_jax.inference.server.asked import Asked, Head, asked, finish_reason, prompt_scores, usage
from cwm_jax.inference.server.bodies import ChatBody, MessageBody, ToolChoice
from cwm_jax.inference.server.errors import ApiError, refused
from cwm_jax.inference.server.pieces import Piece, spell
from cwm_jax.text.answers import AnswerParser, Said
from cwm_jax.text.chat import Call, ChatFormat, Message, Tool, tool_start


class Conversation:
    """One request: what it asks, and the JSON of what comes.

    Raises:
      ApiError: it asks for what cannot be.
    """

    def __init__(self, body: ChatBody, served: Served, limits: Limits):
        self.body, self._vocabulary = body, served.vocabulary
        if body.prompt_logprobs is not None and body.stream:
            raise refused("stream", True, "scores of a prompt come with the whole answer; send false")
        top = body.top_logprobs or 0
        if top > served.engine.config.top_logprobs or (top and not body.logprobs):
            most = served.engine.config.top_logprobs
            raise refused("top_logprobs", top, f"send at most {most}, and logprobs true beside it")
        self._tools = [] if body.tool_choice == "none" else [_tool(tool.function) for tool in body.tools or ()]
        self._opening = self._forced_opening()
        try:
            ids = ChatFormat(served.vocabulary).prompt(
                messages(body.messages), self._tools, body.thinking, body.keep_reasoning, self._opening
            )
        except ValueError as error:
            raise ApiError(400, str(error), "messages") from None
        most = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        self.asked: Asked = asked(body, served, limits, [ids], most, top, body.prompt_logprobs)
        self._head = Head("chat.completion", "chatcmpl", served.name)
        self._parsers = [self._parser() for _ in self.asked.requests]
        self._called = [0] * len(self.asked.requests)

    def first(self) -> list[dict[str, Any]]:
        """What a stream begins with."""
        begun = []
        for index in range(len(self.asked.requests)):
            choice = self._in_stream(index, {"role": "assistant", "content": ""}, Piece())
            begun.append(self._chunk([choice]))
            if self.body.return_token_ids:
                begun[-1]["prompt_token_ids"] = list(self.asked.requests[index].prompt)
        return begun

    def chunk(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        """A piece in a stream: one chunk, or several where it holds several things."""
        parts = self._parsers[index](piece.text)
        if piece.finish:
            parts += self._parsers[index].end()
        deltas = [self._delta(index, part) for part in self._wanted(parts, self._called[index])]
        whole = piece._replace(finish=None, stop=None)
        chunks = [self._chunk([self._in_stream(index, delta, Piece())]) for delta in deltas[:-1]]
        if deltas or piece.tokens:
            chunks.append(self._chunk([self._in_stream(index, deltas[-1] if deltas else {}, whole)]))
        if piece.finish:
            end = self._in_stream(index, {}, Piece(finish=piece.finish, stop=piece.stop))
            chunks.append(self._chunk([end]))
        return chunks

    def last(self, made: Sequence[int]) -> dict[str, Any]:
        """What a stream ends with, if it was asked for."""
        return self._chunk([]) | {"usage": usage(self.asked, made)}

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """All answers."""
        answer = self._head(
            choices=[self._choice(index, piece) for index, piece in enumerate(pieces)],
            usage=usage(self.asked, [len(piece.tokens) for piece in pieces]),
        )
        prompt = self.asked.requests[0].prompt
        if self.body.prompt_logprobs is not None:
            answer["prompt_logprobs"] = prompt_scores(
                self._vocabulary, prompt, pieces[0].prompt_logprobs, self.body.prompt_logprobs
            )
        if self.body.return_token_ids:
            answer["prompt_token_ids"] = list(prompt)
        return answer

    def _forced_opening(self) -> str:
        """The beginning of the call that the caller wants."""
        choice, names = self.body.tool_choice, [tool.name for tool in self._tools]
        if choice in (None, "none", "auto"):
            return ""
        if isinstance(choice, ToolChoice) and choice.function.name not in names:
            raise refused(
                "tool_choice", choice.function.name, f"write one of tools: {', '.join(names) or 'there are none'}"
            )
        if not names:
            raise refused("tool_choice", choice, "there are no tools; send some")
        if self.body.thinking:
            raise refused(
                "tool_choice", choice if isinstance(choice, str) else choice.function.name,
                "an answer that must begin with a call cannot reason first; send reasoning_effort none as well",
            )  # fmt: skip
        if isinstance(choice, ToolChoice):
            return tool_start(choice.function.name)
        return tool_start(names[0]) if len(names) == 1 else tool_start("").rstrip(" \n>")

    def _parser(self) -> AnswerParser:
        return AnswerParser(self.body.thinking, [tool.name for tool in self._tools], self._opening)

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._head(choices=choices) | {"object": "chat.completion.chunk"}

    def _in_stream(self, index: int, delta: dict[str, Any], piece: Piece) -> dict[str, Any]:
        return {"index": index, "delta": delta, **self._beside(index, piece)}

    def _wanted(self, parts: Sequence[Said | Call], called: int) -> list[Said | Call]:
        """What is told: of several calls the first alone, where the caller wants one at a time."""
        if self.body.parallel_tool_calls is not False:
            return list(parts)
        calls = [part for part in parts if isinstance(part, Call)][: max(0, 1 - called)]
        return [part for part in parts if isinstance(part, Said) or part in calls]

    def _delta(self, index: int, part: Said | Call) -> dict[str, Any]:
        if isinstance(part, Said):
            return {"reasoning_content" if part.kind == "reasoning" else part.kind: part.text}
        self._called[index] += 1
        return {"tool_calls": [{"index": self._called[index] - 1, **_call(part)}]}

    def _choice(self, index: int, piece: Piece) -> dict[str, Any]:
        parts = self._wanted([*self._parsers[index](piece.text), *self._parsers[index].end()], 0)
        said = {
            kind: "".join(p.text for p in parts if isinstance(p, Said) and p.kind == kind)
            for kind in ("reasoning", "content")
        }
        calls = [_call(part) for part in parts if isinstance(part, Call)]
        self._called[index] = len(calls)
        message = {
            "role": "assistant",
            "content": said["content"] or (None if calls else ""),
            "reasoning_content": said["reasoning"] or None,
        }
        if calls:
            message["tool_calls"] = calls
        return {"index": index, "message": message, **self._beside(index, piece)}

    def _beside(self, index: int, piece: Piece) -> dict[str, Any]:
        """What stands beside a message or a delta."""
        called = piece.finish == "stop" and self._called[index]
        beside: dict[str, Any] = {
            "finish_reason": "tool_calls" if called else finish_reason(piece),
            "stop_reason": piece.stop,
            "logprobs": {"content": [self._score(token) for token in piece.tokens]} if self.body.logprobs else None,
        }
        if self.body.return_token_ids:
            beside["token_ids"] = [token.id for token in piece.tokens]
        return beside

    def _score(self, token: Token) -> dict[str, Any]:
        def named(token: int, logprob: float) -> dict[str, Any]:
            name = spell(self._vocabulary, token, bool(self.body.return_tokens_as_token_ids))
            return {"token": name, "logprob": logprob, "bytes": list(self._vocabulary.decode_bytes([token]))}

        return {**named(token.id, token.logprob), "top_logprobs": [named(*one) for one in token.top]}


def messages(bodies: Sequence[MessageBody]) -> list[Message]:
    """Messages as the chat format has them.

    Raises:
      ApiError: a tool's answer does not say which call it answers.
    """
    found, called = [], {}
    for place, one in enumerate(bodies):
        reasoning = one.reasoning_content or one.reasoning or ""
        calls = tuple(Call(call.function.name, call.function.arguments) for call in one.tool_calls or ())
        called |= {call.id: call.function.name for call in one.tool_calls or ()}
        tool = ""
        if one.role == "tool" and not (tool := called.get(one.tool_call_id) or one.name or ""):
            fix = "name the id of a call in an earlier message, or send the tool's name as name"
            raise refused(f"messages.{place}.tool_call_id", one.tool_call_id, fix)
        role = "system" if one.role == "developer" else one.role
        found.append(Message(role, one.text, reasoning, calls, tool))
    return found


def _tool(function: Any) -> Tool:
    return Tool(function.name, function.description or "", function.parameters or {"type": "object", "properties": {}})


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.body}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
