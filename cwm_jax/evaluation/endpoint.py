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
from typing import Any, Literal

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
_REFUSALS = (openai.BadRequestError, openai.UnprocessableEntityError)
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
        try:
            listed = {one.id: one for one in self._told(self._client.with_options(max_retries=0).models.list).data}
        except CannotDo as error:
            raise ValueError(f"--endpoint {url} lists no models: {error}") from None
        if not listed or (model and model not in listed):
            known = ", ".join(listed) or "none"
            raise ValueError(f"--model {model!r} is none of those that {self._url} lists: {known}")
        self._model = model or next(iter(listed))
        self._longest: int | None = getattr(listed[self._model], "max_model_len", None)
        self.name = self._model
        self.subject = f"{self._model} at {self._url}"
        self.identity = f"{self.subject} {getattr(listed[self._model], 'weights_version', '')}"
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
        symbols = not set(self.form.control_symbols).isdisjoint(ask.pieces)
        try:
            return self._in_ids(ask) if symbols and self._vocabulary else self._in_text(ask, symbols)
        except _REFUSALS as error:
            return Said(reason=f"refused: {error.message}")

    def _in_ids(self, ask: Ask) -> Said:
        symbols, vocabulary = self.form.control_symbols, self._vocabulary
        ids = vocabulary.encode_segments(ask.pieces)
        ends = [*(vocabulary.token_id(stop) for stop in ask.stop if stop in symbols), vocabulary.eos_id]
        extensions = {"return_token_ids": True, "stop_token_ids": ends, "skip_special_tokens": False}
        stops = [stop for stop in ask.stop if stop not in symbols]
        choice = self._continued(ask, ids, stops, extensions, logprobs=1).choices[0]
        if (made := getattr(choice, "token_ids", None)) is None:
            raise CannotDo(f"{self.name} {_NO_IDS}")
        scores = list(choice.logprobs.token_logprobs or ()) if choice.logprobs else []
        told = len(scores) == len(made)
        found = list(pieces_of_ids(vocabulary, symbols, zip(made, scores if told else [0.0] * len(made))))
        closed = _closed(ask, [piece for piece, _ in found], choice.finish_reason)
        sums = [logprob for _, logprob in found] + [0.0] * (len(closed) - len(found))
        return Said(closed, len(made), _finish(choice.finish_reason), tuple(sums) if told else ())

    def _in_text(self, ask: Ask, symbols: bool) -> Said:
        extensions = {"skip_special_tokens": False, "add_special_tokens": False} if symbols else {}
        answer = self._continued(ask, "".join(ask.pieces), list(ask.stop), extensions)
        choice = answer.choices[0]
        pieces: tuple[str, ...] = (choice.text,)
        if symbols:
            pieces = _closed(ask, pieces_of_text(self.form.control_symbols, choice.text), choice.finish_reason)
        return Said(pieces, answer.usage.completion_tokens if answer.usage else 0, _finish(choice.finish_reason))

    def _continued(
        self, ask: Ask, prompt: str | list[int], stops: list[str], extensions: dict[str, Any], **more: Any
    ) -> Any:
        fields = {"prompt": prompt, "max_tokens": self._room(ask.max_tokens, prompt), "stop": stops or None}
        fields |= {"temperature": ask.temperature, "top_p": ask.top_p, "seed": ask.seed}
        return self._asked(self._client.completions.create, fields | more, extensions)

    def _room(self, wanted: int, prompt: str | list[int]) -> int:
        """So many tokens of an answer as the server has room for, if it tells; a text has no more tokens than bytes."""
        if self._longest is None:
            return wanted
        used = len(prompt.encode(errors="replace")) + _PROBE if isinstance(prompt, str) else len(prompt)
        return max(1, min(wanted, self._longest - used))

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
        room = self._room(question.max_tokens, question.system + question.user)
        fields = {"messages": messages, "max_tokens": room, "seed": question.seed}
        fields |= {"temperature": question.temperature, "top_p": question.top_p}
        try:
            reply = self._asked(self._client.chat.completions.create, fields, _THINKING)
        except _REFUSALS as error:
            return Said(reason=f"refused: {error.message}")
        choice = reply.choices[0]
        text = (choice.message.content or "").rpartition("</think>")[2]
        return Said((text,), reply.usage.completion_tokens if reply.usage else 0, _finish(choice.finish_reason))

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
        except _REFUSALS as error:
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
            except _REFUSALS as error:
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
        except openai.NotFoundError as error:
            raise CannotDo(f"{error.request.url} is not there: {error.message}") from None
        except _REFUSALS:
            raise
        except openai.APIStatusError as error:
            raise ConnectionError(f"{self._url} answers {error.status_code}: {error.message}") from None


def _finish(reason: str | None) -> Literal["stop", "length"]:
    return "stop" if reason == "stop" else "length"


def _closed(ask: Ask, pieces: list[str], reason: str | None) -> tuple[str, ...]:
    """The pieces with the symbol that ended them, which servers may leave out."""
    ends = (*ask.stop, st.END_OF_TEXT)
    missing = reason == "stop" and pieces[-1:] not in [[end] for end in ends]
    return (*pieces, ends[0]) if missing else tuple(pieces)


def _taken(token: int, told: dict[str, dict[str, Any]]) -> Forced:
    """How a token was taken, from what vLLM's protocol tells of it under its id: log-probability, and maybe rank."""
    own = told.get(str(token), {})
    logprob, rank = own.get("logprob", -math.inf), own.get("rank")
    if rank is not None:
        return Forced(logprob, rank == 1)
    return Forced(logprob, True if logprob > -math.log(2) else None)  # above one half there is no likelier one
