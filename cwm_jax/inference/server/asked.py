"""What a body asks of the engine, and what both kinds of answers share."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cwm_jax.inference.request import Request, Scored
from cwm_jax.inference.served import Limits, Served
from cwm_jax.inference.server.bodies import Sampling
from cwm_jax.inference.server.errors import ApiError, refused
from cwm_jax.inference.server.pieces import Ends, Piece, control_ids, own_ends
from cwm_jax.text.vocabulary import Vocabulary

_GREEDY = 1e-5  # below it dividing by the temperature leaves one token anyway, or overflows


@dataclass(frozen=True)
class Asked:
    """A body as requests, one for each choice of each prompt.

    Attributes:
      requests: those of one prompt together.
      ends: of every answer.
      choices: of each prompt.
    """

    requests: tuple[Request, ...]
    ends: Ends
    choices: int


def asked(
    body: Sampling,
    served: Served,
    limits: Limits,
    prompts: Sequence[Sequence[int]],
    most: int | None,
    top: int,
    scored: int | None,
) -> Asked:
    """The requests of a body.

    Choice i of every prompt is drawn with seed `seed + i`; without a seed, each prompt has one of its own.

    Args:
      body: the rest of what it asks for.
      prompts: ids of each.
      most: tokens of an answer; None for as many as there is room for, up to the default.
      top: likeliest tokens beside each.
      scored: likeliest tokens beside each of a prompt; None where prompts are not scored.

    Raises:
      ApiError: there is no room for it, or an id is none.
    """
    room, count, known = served.engine.config.max_length, body.n or 1, served.engine.config.top_logprobs
    if (body.prompt_logprobs or 0) > known:
        raise refused("prompt_logprobs", body.prompt_logprobs, f"send at most {known}")
    if count * len(prompts) > limits.answers:
        raise refused(
            "n", count, f"{len(prompts)} prompts times n is more than {limits.answers} answers; ask for fewer"
        )
    if odd := [token for token in body.stop_token_ids or () if not 0 <= token < served.vocabulary.vocab_size]:
        raise refused("stop_token_ids", odd[0], f"ids are from 0 to {served.vocabulary.vocab_size - 1}")
    temperature = 1.0 if body.temperature is None else body.temperature
    own = () if body.ignore_eos else own_ends(served.vocabulary)
    ids = tuple(dict.fromkeys(body.stop_token_ids or ()))
    stops = tuple(dict.fromkeys((*own, *ids)))
    if len(stops) > served.engine.config.stop_ids:
        raise refused("stop_token_ids", list(ids), f"send at most {served.engine.config.stop_ids - len(own)}")
    told = sum(map(len, prompts)) * (1 + (scored or 0))
    if scored is not None and told > limits.scores:
        raise refused(
            "prompt_logprobs", scored, f"that are {told:,} scores, at most {limits.scores:,} are told; ask less"
        )
    requests = []
    for prompt in prompts:
        if not prompt:
            raise refused("prompt", prompt, "it has no token; begin with at least one")
        left = room - len(prompt)
        wanted = min(left, served.max_tokens) if most is None else most
        if wanted > left or left < 0:
            raise ApiError(
                400,
                f"the prompt has {len(prompt)} tokens, max_tokens={wanted}, and a sequence at most {room} here; "
                "send a shorter prompt or ask for fewer tokens",
                "max_tokens",
                "context_length_exceeded",
            )
        seed = secrets.randbits(63) if body.seed is None else body.seed
        prompt = tuple(prompt)
        for choice in range(count):
            requests.append(
                Request(
                    prompt,
                    wanted,
                    temperature=temperature if temperature >= _GREEDY else 0.0,
                    top_p=1.0 if body.top_p is None else body.top_p,
                    seed=(seed + choice) % 2**64,
                    stop_ids=stops,
                    top_logprobs=top,
                    prompt_logprobs=scored if choice == 0 else None,
                )
            )
    hidden = control_ids(served.vocabulary) if body.skip_special_tokens else frozenset()
    return Asked(tuple(requests), Ends(own, ids, body.stops, hidden), count)


@dataclass(frozen=True)
class Head:
    """What every object of an answer begins with.

    Attributes:
      kind: its `object`.
      prefix: of its id.
      model: its name.
    """

    kind: str
    prefix: str
    model: str
    number: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def __call__(self, **rest: Any) -> dict[str, Any]:
        return {
            "id": f"{self.prefix}-{self.number}",
            "object": self.kind,
            "created": self.created,
            "model": self.model,
            **rest,
        }


def usage(asked: Asked, made: Sequence[int]) -> dict[str, int]:
    """OpenAI's `usage`: every prompt counts once.

    Args:
      made: tokens of each answer.
    """
    prompts = sum(len(request.prompt) for request in asked.requests[:: asked.choices])
    return {"prompt_tokens": prompts, "completion_tokens": sum(made), "total_tokens": prompts + sum(made)}


def prompt_scores(
    vocabulary: Vocabulary, prompt: Sequence[int], scores: Sequence[Scored | None], top: int
) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: of each token but the first, by id, how it and the `top` likeliest were taken."""

    def told(logprob: float, rank: int, token: int) -> dict[str, Any]:
        return {"logprob": logprob, "rank": rank, "decoded_token": vocabulary.decode([token])}

    found: list[dict[str, Any] | None] = []
    for token, one in zip(prompt, scores):
        if one is None:
            found.append(None)
            continue
        likeliest = enumerate(one.top[:top], start=1)
        place = {str(other): told(logprob, rank, other) for rank, (other, logprob) in likeliest}
        found.append({str(token): told(one.logprob, one.rank, token)} | place)
    return found


def finish_reason(piece: Piece) -> str | None:
    """OpenAI's word for the end of an answer."""
    return "stop" if piece.finish == "cancelled" else piece.finish
