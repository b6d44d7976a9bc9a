"""A server that speaks OpenAI's protocol as a model.

Traces need control tokens. Where the vocabulary's file is known here, prompts go as token ids, and ids come back
(`return_token_ids`). Else prompts are CWM's text, which serves where the server reads the names of control tokens in
prompts as these tokens and writes them in answers, as vLLM does (`skip_special_tokens`).
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import openai

from cwm_jax.text import special_tokens as st
from cwm_jax.text.load import load_vocabulary
from cwm_jax.text.pieces import fragments_of_ids, pieces_of_ids, pieces_of_text
from cwm_jax.text.streams import partial as partial_end
from cwm_jax.worldmodel.models.forms import form_of
from cwm_jax.worldmodel.models.model import Ask, CannotDo, Forced, Question, Said

_PROBE = 16  # control tokens; read as plain text they are several tokens each
_NO_SYMBOLS = "reads control tokens in prompts as plain text; give the file of its vocabulary with --vocabulary"
_NO_IDS = "does not return token ids (return_token_ids), which traces need; use a server that does"
_REFUSALS = (openai.BadRequestError, openai.UnprocessableEntityError)
_THINKING = {"reasoning": {"enabled": True}, "chat_template_kwargs": {"enable_thinking": True}}


class Endpoint:
    """A `Model` behind `/v1/completions` and `/v1/chat/completions`. The key is `OPENAI_API_KEY`, if there is one."""

    longest = 32_768  # our choice; the server may have room for less
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
        timeout = openai.Timeout(3600.0, connect=10.0)
        self._client = openai.OpenAI(base_url=self._url, api_key=key, max_retries=5, timeout=timeout)
        self._at_once = at_once
        self._vocabulary = load_vocabulary(vocabulary) if vocabulary else None
        try:
            listed = {one.id: one for one in self._told(self._client.with_options(max_retries=0).models.list).data}
        except (CannotDo, *_REFUSALS) as error:
            raise ValueError(f"--endpoint {url} lists no models: {error}") from None
        if not listed or (model and model not in listed):
            known = ", ".join(listed) or "none"
            raise ValueError(f"--model {model!r} is none of those that {self._url} lists: {known}")
        self._model = model or next(iter(listed))
        self._longest: int | None = getattr(listed[self._model], "max_model_len", None)
        self.name = self._model
        self.subject = f"{self._model} at {self._url}"
        self.form = form_of(self._vocabulary)
        told = [str(getattr(listed[self._model], name, "")) for name in ("weights", "weights_version")]
        read_by = self._vocabulary.fingerprint if self._vocabulary else "text"
        self.identity = " ".join([self.subject, *told, type(self.form).__name__, read_by])

    def complete(self, asks: Sequence[Ask]) -> Iterator[Said]:
        """The answers; a prompt that the server refuses has its words as reason."""
        self._check(asks)
        yield from self._together(self._complete, asks)

    def _complete(self, ask: Ask) -> Said:
        try:
            answer = self._continued(ask)
        except _REFUSALS as error:
            return Said(reason=f"refused: {error.message}")
        choice = answer.choices[0]
        if self._in_ids(ask):
            return self._said(ask, choice)
        pieces: tuple[str, ...] = (choice.text,)
        if self._holds_symbols(ask):
            pieces = _closed(ask, pieces_of_text(self.form.control_symbols, choice.text), choice.finish_reason)
        return Said(pieces, answer.usage.completion_tokens if answer.usage else 0, _finish(choice.finish_reason))

    def _said(self, ask: Ask, choice: Any) -> Said:
        """An answer in token ids."""
        made, scores = self._ids_of(choice)
        told = len(scores) == len(made)
        scored = zip(made, scores if told else [0.0] * len(made))
        found = list(pieces_of_ids(self._vocabulary, self.form.control_symbols, scored))
        closed = _closed(ask, [piece for piece, _ in found], choice.finish_reason)
        sums = [logprob for _, logprob in found] + [0.0] * (len(closed) - len(found))
        return Said(closed, len(made), _finish(choice.finish_reason), tuple(sums) if told else ())

    @contextmanager
    def speak(self, asks: Sequence[Ask]) -> Iterator[list["_Speaking"]]:
        """The answers while they are made, as `Model` says; certain where no probabilities are told."""
        self._check(asks)
        pool = ThreadPoolExecutor(min(len(asks), self._at_once))
        opened = [pool.submit(self._continued, ask, stream=True) for ask in asks]
        try:
            yield [_Speaking(self, ask, one) for ask, one in zip(asks, opened)]
        finally:  # what is open is closed, and what opens yet is closed then: nobody waits for it
            pool.shutdown(wait=False, cancel_futures=True)
            for one in opened:
                one.add_done_callback(_close)

    def _check(self, asks: Sequence[Ask]) -> None:
        if any(map(self._holds_symbols, asks)) and not self._vocabulary and not self._reads_symbols:
            raise CannotDo(f"{self.name} {_NO_SYMBOLS}")

    def _holds_symbols(self, ask: Ask) -> bool:
        return not set(self.form.control_symbols).isdisjoint(ask.pieces)

    def _in_ids(self, ask: Ask) -> bool:
        return self._vocabulary is not None and self._holds_symbols(ask)

    def _ids_of(self, choice: Any) -> tuple[list[int], list[float]]:
        """Token ids of an answer or a part of it, and their log-probabilities if these are told."""
        if (made := getattr(choice, "token_ids", None)) is None:
            raise CannotDo(f"{self.name} {_NO_IDS}")
        return made, list(choice.logprobs.token_logprobs or ()) if choice.logprobs else []

    def _continued(self, ask: Ask, stream: bool = False) -> Any:
        """The server's reply to a prompt."""
        extensions: dict[str, Any] = {}
        if self._in_ids(ask):
            vocabulary, symbols = self._vocabulary, self.form.control_symbols
            prompt: str | list[int] = vocabulary.encode_segments(ask.pieces)
            stops = [stop for stop in ask.stop if stop not in symbols]
            ends = [*(vocabulary.token_id(stop) for stop in ask.stop if stop in symbols), vocabulary.eos_id]
            extensions = {"return_token_ids": True, "stop_token_ids": ends, "skip_special_tokens": False}
        else:
            prompt, stops = "".join(ask.pieces), list(ask.stop)
            if self._holds_symbols(ask):
                extensions = {"skip_special_tokens": False, "add_special_tokens": False}
        fields = {"prompt": prompt, "max_tokens": self._room(ask.max_tokens, prompt), "stop": stops or None}
        fields |= {"temperature": ask.temperature, "top_p": ask.top_p, "seed": ask.seed}
        fields |= {"logprobs": 1 if stream or self._in_ids(ask) else None, "stream": stream or None}
        return self._asked(self._client.completions.create, fields, extensions)

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
        try:
            usage = self._asked(self._client.completions.create, fields, {}).usage
        except _REFUSALS as error:
            raise CannotDo(f"{self.name} refuses control tokens in prompts: {error.message}") from None
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
        """What `ask` returns, its errors in the words of this project."""
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
        except openai.APIError as error:  # within a stream
            raise ConnectionError(f"{self._url} broke off: {error}") from None


class _Speaking:
    """A `Spoken` of a server's stream."""

    def __init__(self, model: Endpoint, ask: Ask, opening: Future):
        self._model, self._ask, self._opening = model, ask, opening
        self._reason: str | None = None
        self.finish: Literal["stop", "length", ""] = ""

    def __iter__(self) -> Iterator[tuple[str, float]]:
        piece = ""
        try:
            for piece, logprob in self._from_ids() if self._model._in_ids(self._ask) else self._from_text():
                yield piece, logprob
        except _REFUSALS as error:
            raise ValueError(f"{self._model.name} refuses: {error.message}") from None
        finally:  # the server need not go on where nobody reads
            _close(self._opening)
        if self._reason is None:
            raise ConnectionError(f"{self._model.name} broke an answer off")
        for end in _closed(self._ask, [piece], self._reason)[1:]:
            yield end, 0.0
        self.finish = _finish(self._reason)

    def _from_ids(self) -> Iterator[tuple[str, float]]:
        def scored() -> Iterator[tuple[int, float]]:
            for choice in self._choices():
                made, scores = self._model._ids_of(choice)
                yield from zip(made, scores if len(scores) == len(made) else [0.0] * len(made))

        return fragments_of_ids(self._model._vocabulary, self._model.form.control_symbols, scored())

    def _from_text(self) -> Iterator[tuple[str, float]]:
        """The pieces of a text; each has the log-probability of the tokens that came with its end."""
        symbols, held, total = self._model.form.control_symbols, "", 0.0
        for choice in self._choices():
            held += choice.text
            total += sum(choice.logprobs.token_logprobs or ()) if choice.logprobs else 0.0
            sure = len(held) - partial_end(held, symbols)
            for piece in pieces_of_text(symbols, held[:sure]):
                yield piece, total
                total = 0.0
            held = held[sure:]
        if held:
            yield held, total

    def _choices(self) -> Iterator[Any]:
        chunks = iter(self._opening.result())
        while (chunk := self._model._told(lambda: next(chunks, None))) is not None:
            for choice in chunk.choices:
                self._reason = choice.finish_reason or self._reason
                yield choice


def _close(opening: Future) -> None:
    """Closes a stream that was opened; the server sees that nobody reads on."""
    if opening.done() and not opening.cancelled() and opening.exception() is None:
        opening.result().close()


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
