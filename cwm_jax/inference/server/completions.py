"""`/v1/completions`: texts or token ids, continued."""

from collections.abc import Sequence
from typing import Any

from cwm_jax.inference.request import Scored, Token
from cwm_jax.inference.served import Limits, Served
from cwm_jax.inference.server.asked import Asked, Head, asked, finish_reason, prompt_scores, usage
from cwm_jax.inference.server.bodies import CompletionBody
from cwm_jax.inference.server.errors import refused
from cwm_jax.inference.server.pieces import Piece, spell
from cwm_jax.text.streams import Speller


class Completions:
    """One request: what it asks, and the JSON of what comes.

    Raises:
      ApiError: it asks for what cannot be.
    """

    def __init__(self, body: CompletionBody, served: Served, limits: Limits):
        self.body, self._vocabulary = body, served.vocabulary
        wanted = [body.prompt_logprobs, body.logprobs if body.echo else None]
        scored = max((count for count in wanted if count is not None), default=None)
        if scored is not None and body.stream:
            raise refused("stream", True, "scores of a prompt come with the whole answer; send false")
        if not (prompts := body.prompts):
            raise refused("prompt", [], "it holds no prompt; send at least one")
        if (body.logprobs or 0) > served.engine.config.top_logprobs:
            raise refused("logprobs", body.logprobs, f"send at most {served.engine.config.top_logprobs}")
        ids = [self._ids(prompt) for prompt in prompts]
        most = 16 if body.max_tokens is None else body.max_tokens
        self.asked: Asked = asked(body, served, limits, ids, most, body.logprobs or 0, scored)
        self._texts = [p if isinstance(p, str) else self._shown(p) for p in prompts] if body.echo else []
        self._head = Head("text_completion", "cmpl", served.name)
        # Where each token begins in what is told: those that are hidden take no room there.
        self._written = [0] * len(self.asked.requests)
        self._spellers = [Speller(self._vocabulary, self.asked.ends.hidden) for _ in self.asked.requests]
        self._last_scores: Sequence[Scored | None] = ()

    def _ids(self, prompt: str | list[int]) -> Sequence[int]:
        """A text as it stands, without a token that begins it: whoever wants one sends ids."""
        if not isinstance(prompt, str):
            if odd := [token for token in prompt if not 0 <= token < self._vocabulary.vocab_size]:
                raise refused("prompt", odd[0], f"ids are from 0 to {self._vocabulary.vocab_size - 1}")
            return prompt
        return self._vocabulary.encode(prompt)

    def _shown(self, ids: Sequence[int]) -> str:
        return self._vocabulary.decode([token for token in ids if token not in self.asked.ends.hidden])

    def first(self) -> list[dict[str, Any]]:
        """What a stream begins with."""
        echoed = range(len(self.asked.requests)) if self.body.echo or self.body.return_token_ids else ()
        return [self._head(choices=[self._choice(index, Piece(), begins=True)]) for index in echoed]

    def chunk(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        """A piece in a stream."""
        return [self._head(choices=[self._choice(index, piece, begins=False)])]

    def last(self, made: Sequence[int]) -> dict[str, Any]:
        """What a stream ends with, if it was asked for."""
        return self._head(choices=[], usage=usage(self.asked, made))

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """All answers."""
        choices = [self._choice(index, piece, begins=True) for index, piece in enumerate(pieces)]
        return self._head(choices=choices, usage=usage(self.asked, [len(piece.tokens) for piece in pieces]))

    def _choice(self, index: int, piece: Piece, begins: bool) -> dict[str, Any]:
        prompt = self.asked.requests[index].prompt
        echo = begins and self.body.echo
        text = (self._texts[index // self.asked.choices] if echo else "") + piece.text
        choice = {"index": index, "text": text, "finish_reason": finish_reason(piece), "stop_reason": piece.stop}
        choice["logprobs"] = None
        if self.body.logprobs is not None:
            scored = list(zip(prompt, self._scores(index, piece))) if echo else []
            choice["logprobs"] = self._logprobs(index, scored, piece.tokens, self.body.logprobs)
        if self.body.prompt_logprobs is not None and begins:
            scores, top = self._scores(index, piece), self.body.prompt_logprobs
            choice["prompt_logprobs"] = prompt_scores(self._vocabulary, prompt, scores, top)
        if self.body.return_token_ids:
            choice["prompt_token_ids"] = list(prompt) if begins else None
            choice["token_ids"] = [token.id for token in piece.tokens]
        return choice

    def _scores(self, index: int, piece: Piece) -> Sequence[Scored | None]:
        """How the prompt was taken: its first choice has that, and the others come after it."""
        if piece.prompt_logprobs:
            self._last_scores = piece.prompt_logprobs
        return self._last_scores

    def _logprobs(
        self, index: int, prompt: list[tuple[int, Scored | None]], tokens: Sequence[Token], count: int
    ) -> dict[str, Any]:
        """OpenAI's `logprobs`, with the `count` likeliest of each place."""
        by_id = bool(self.body.return_tokens_as_token_ids)
        names, scores, tops, offsets = [], [], [], []
        scored = [(token, one.logprob, one.top) if one else (token, None, ()) for token, one in prompt]
        for token, logprob, top in (*scored, *((token.id, token.logprob, token.top) for token in tokens)):
            name = spell(self._vocabulary, token, by_id)
            likeliest = {spell(self._vocabulary, other, by_id): score for other, score in top[:count]}
            names.append(name)
            scores.append(logprob)
            tops.append(None if logprob is None else {**likeliest, name: logprob})
            offsets.append(self._written[index])
            self._written[index] += len(self._spellers[index]([token]))
        return {"tokens": names, "token_logprobs": scores, "top_logprobs": tops, "text_offset": offsets}
