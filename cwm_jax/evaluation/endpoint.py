"""A server that speaks OpenAI's protocol as a model to evaluate.

Traces need control tokens. Where the vocabulary's file is known here, prompts go as token ids, and ids come back
(`return_token_ids`). Else prompts are CWM's text, which serves where the server reads the names of control tokens in
prompts as these tokens and writes them in answers, as vLLM does (`skip_special_tokens`).
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import openai

from cwm_jax.evaluation.models import Ask, CannotDo, Forced, Form, Question, Said
from cwm_jax.text import special_tokens as st
from cwm_jax.text.load import load_vocabulary
from cwm_jax.text.pieces import pieces_of_ids, pieces_of_text
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.cwm_text import CwmText

_PROBE = 16  # control tokens; read as plain text they are several tokens each
_NO_SYMBOLS = "reads control tokens in prompts as plain text; give the file of its vocabulary with --vocabulary"
_NO_IDS = "does not return token ids (return_token_ids), which traces need; use a server that does"
_THINKING = {"reasoning": {"enabled": True}, "chat_template_kwargs": {"enable_thinking": True}}


class Endpoint:
    """A `Model` behind `/v1/completions` and `/v1/chat/completions`. The key is `OPENAI_API_KEY`, if there is one."""

    tests = None

    def __init__(self, url: str, model: str = "", vocabulary: Path | None = None, at_once: int = 16):
        """Asks the server who it is.

        Args:
          url: such as `http://127.0.0.1:8000`, with or without `/v1`.
          model: one of those that the server lists; the first if empty.
          vocabulary: file of its vocabulary, a SentencePiece model or Llama-3 ranks.
          at_once: requests under way together.

        Raises:
          ConnectionError: no server answers.
          ValueError: it wants another key, has no such model, or the file is no vocabulary.
        """
        base = url.rstrip("/")
        self._url = base if base.endswith("/v1") else f"{base}/v1"
        key = os.environ.get("OPENAI_API_KEY", "none")
        self._client = openai.OpenAI(base_url=self._url, api_key=key, max_retries=5, timeout=3600.0)
        self._at_once = at_once
        self._vocabulary = load_vocabulary(vocabulary) if vocabulary else None
        listed = [one.id for one in self._told(self._client.models.list).data]
        if not listed or (model and model not in listed):
            known = ", ".join(listed) or "none"
            raise ValueError(f"--model {model!r} is none of those that {self._url} lists: {known}")
        self._model = model or listed[0]
        self.name = self._model
        self.subject = self.identity = f"{self._model} at {self._url}"
        self.form: Form = CwmText()
        if self._vocabulary and set(Compact.control_symbols) <= set(self._vocabulary.control_tokens):
            self.form = Compact()

    def complete(self, asks: Sequence[Ask]) -> Iterator[Said]:
        """The answers; a prompt that the server refuses has its words as reason."""
        symbols = any(piece in self.form.control_symbols for ask in asks for piece in ask.pieces)
        if symbols and not self._vocabulary and not self._reads_symbols:
            raise CannotDo(f"{self.name} {_NO_SYMBOLS}")
        yield from self._together(self._complete, asks)

    def _complete(self, ask: Ask) -> Said:
        symbols = set(ask.pieces) & set(self.form.control_symbols)
        in_ids = bool(symbols) and self._vocabulary is not None
        stops = [stop for stop in ask.stop if not in_ids or stop not in self.form.control_symbols]
        fields: dict[str, Any] = {"temperature": ask.temperature, "top_p": ask.top_p, "seed": ask.seed}
        fields |= {"max_tokens": ask.max_tokens, "stop": stops or None}
        extensions: dict[str, Any] = {}
        if symbols:
            extensions = {"skip_special_tokens": False} | ({} if in_ids else {"add_special_tokens": False})
        if in_ids:
            ids = [self._vocabulary.token_id(stop) for stop in ask.stop if stop in self.form.control_symbols]
            extensions |= {"return_token_ids": True, "stop_token_ids": [*ids, self._vocabulary.eos_id]}
            fields |= {"prompt": self._vocabulary.encode_segments(ask.pieces), "logprobs": 1}
        else:
            fields["prompt"] = "".join(ask.pieces)
        try:
            answer = self._asked(self._client.completions.create, fields, extensions)
        except openai.BadRequestError as error:
            return Said(reason=f"refused: {error.message}")
        choice = answer.choices[0]
        finish = "stop" if choice.finish_reason == "stop" else "length"
        if not in_ids:
            pieces = pieces_of_text(self.form.control_symbols, choice.text) if symbols else [choice.text]
            tokens = answer.usage.completion_tokens if answer.usage else 0
            return Said(self._closed(ask, pieces, finish, bool(symbols)), tokens, finish)
        if (made := getattr(choice, "token_ids", None)) is None:
            raise CannotDo(f"{self.name} {_NO_IDS}")
        scores = list(choice.logprobs.token_logprobs or ()) if choice.logprobs else []
        told = len(scores) == len(made)
        scored = zip(made, scores if told else [0.0] * len(made))
        found = list(pieces_of_ids(self._vocabulary, self.form.control_symbols, scored))
        closed = self._closed(ask, [piece for piece, _ in found], finish, True)
        sums = [logprob for _, logprob in found] + [0.0] * (len(closed) - len(found))
        return Said(closed, len(made), finish, tuple(sums) if told else ())

    def _closed(self, ask: Ask, pieces: list[str], finish: str, symbols: bool) -> tuple[str, ...]:
        """The pieces with the symbol that ended them, which servers may leave out."""
        ends = (*ask.stop, st.END_OF_TEXT)
        if finish == "stop" and symbols and (not pieces or pieces[-1] not in ends):
            return (*pieces, ends[0])
        return tuple(pieces)

    @cached_property
    def _reads_symbols(self) -> bool:
        """Whether names of control tokens in a prompt are tokens to the server."""
        fields = {"prompt": st.FRAME_SEP * _PROBE, "max_tokens": 1}
        usage = self._asked(self._client.completions.create, fields, {}).usage
        return usage is not None and usage.prompt_tokens <= _PROBE + 1

    def answer(self, questions: Sequence[Question]) -> Iterator[Said]:
        """The answers, thoughts cut off."""
        yield from self._together(self._answer, questions)

    def _answer(self, question: Question) -> Said:
        messages = [{"role": "system", "content": question.system}, {"role": "user", "content": question.user}]
        fields = {"messages": messages, "max_tokens": question.max_tokens, "seed": question.seed}
        fields |= {"temperature": question.temperature, "top_p": question.top_p}
        try:
            reply = self._asked(self._client.chat.completions.create, fields, _THINKING)
        except openai.NotFoundError as error:
            raise CannotDo(f"{self.name} has no /v1/chat/completions: {error.message}") from None
        except openai.BadRequestError as error:
            return Said(reason=f"refused: {error.message}")
        choice = reply.choices[0]
        text = (choice.message.content or "").rpartition("</think>")[2]
        finish = "stop" if choice.finish_reason == "stop" else "length"
        return Said((text,), reply.usage.completion_tokens if reply.usage else 0, finish)

    def force(self, documents: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Iterator[list[Forced] | str]:
        """For each document how the server takes each piece, by its log-probabilities of prompts."""
        if self._vocabulary is None:
            raise CannotDo("token ids are needed; give the file of the server's vocabulary with --vocabulary")
        yield from self._together(self._force, documents)

    def _force(self, document: tuple[Sequence[str], Sequence[str]]) -> list[Forced] | str:
        prompt = self._vocabulary.encode_segments(document[0])
        pieces = [self._vocabulary.encode_segments([piece]) for piece in document[1]]
        ids = prompt + [token for piece in pieces for token in piece]
        fields = {"prompt": ids, "max_tokens": 1, "temperature": 0.0}
        try:
            answer = self._asked(self._client.completions.create, fields, {"prompt_logprobs": 0})
        except openai.BadRequestError as error:
            return f"refused: {error.message}"
        told = getattr(answer.choices[0], "prompt_logprobs", None)
        if not told:
            raise CannotDo(f"{self.name} tells no log-probabilities of prompts (prompt_logprobs)")
        taken = [_taken(token, place or {}) for token, place in zip(ids, told, strict=True)]
        found, start = [], len(prompt)
        for piece in pieces:
            some = taken[start : start + len(piece)]
            firsts = [one.first for one in some]
            first = False if False in firsts else None if None in firsts else True
            found.append(Forced(sum(one.logprob for one in some), first))
            start += len(piece)
        return found

    def count(self, text: str) -> int:
        return len(self._vocabulary.encode(text)) if self._vocabulary else 0

    def _together(self, ask: Callable[[Any], Any], what: Sequence[Any]) -> Iterator[Any]:
        pool = ThreadPoolExecutor(self._at_once)
        try:
            yield from pool.map(ask, what)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _asked(self, call: Callable[..., Any], fields: dict[str, Any], extensions: dict[str, Any]) -> Any:
        """The server's reply, to a request without those of `extensions` that it refuses by name."""
        fields = {"model": self._model} | {name: value for name, value in fields.items() if value is not None}
        while True:
            try:
                return self._told(partial(call, **fields, extra_body=extensions))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                known = {name: value for name, value in extensions.items() if name not in error.message}
                if len(known) == len(extensions):
                    raise
                extensions = known

    def _told(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except openai.AuthenticationError as error:
            raise ValueError(f"{self._url} wants another key; set OPENAI_API_KEY: {error.message}") from None
        except openai.APIConnectionError as error:  # a timeout is one, too
            raise ConnectionError(f"{self._url} does not answer: {error.__cause__ or error}") from None


def _taken(token: int, told: dict[str, dict[str, Any]]) -> Forced:
    """How a token was taken, from what vLLM's protocol tells of it under its id: log-probability, and maybe rank."""
    own = told.get(str(token), {})
    logprob, rank = own.get("logprob", -math.inf), own.get("rank")
    if rank is not None:
        return Forced(logprob, rank == 1)
    return Forced(logprob, True if logprob > -math.log(2) else None)  # above one half there is no likelier one
