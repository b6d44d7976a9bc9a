"""What is asked of the engine, and what it answers."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Reason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Request:
    """A prompt to continue.

    Attributes:
      prompt: token ids, at least one.
      max_tokens: most tokens of the answer; 0 only scores the prompt.
      temperature: what logits are divided by before a token is drawn; 0 takes the likeliest.
      top_p: tokens are drawn from the likeliest ones that together have this probability.
      seed: token i of the answer is drawn with randomness of (seed, i) alone, so what else runs changes nothing.
      stop_ids: each ends the answer, of which it is the last token.
      forced: (index in the answer, id): tokens given, not drawn, such as the event that a debugger wants next; their
        log-probability is the model's all the same.
      top_logprobs: so many of the likeliest tokens are told beside each.
      on_swap: what becomes of it when weights are swapped: `keep` what caches hold of it (paper §6.4; PipelineRL),
        `recompute` that, or `pin` it: the weights that were there when it came make all of its tokens.
      version: of the weights that make the tokens of what is pinned, if not the present ones; the engine holds them.
      lineage: requests of one name go on from what caches hold of each other's tokens, whatever weights made it: the
        turns of one trajectory. All requests share what weights of the present version alone made of their prompts.
      prompt_logprobs: the prompt's tokens are scored, too, each beside so many of the likeliest; None: they are not.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop_ids: tuple[int, ...] = ()
    forced: tuple[tuple[int, int], ...] = ()
    top_logprobs: int = 0
    on_swap: Literal["keep", "recompute", "pin"] = "keep"
    version: int | None = None
    lineage: str = ""
    prompt_logprobs: int | None = None

    def __post_init__(self):
        if not self.prompt:
            raise ValueError("Request.prompt is empty; begin with at least one token")
        if self.max_tokens < 0:
            raise ValueError(f"Request.max_tokens={self.max_tokens} must not be negative")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"Request.temperature={self.temperature} must be 0 (greedy) or more")
        if self.version is not None and self.on_swap != "pin":
            raise ValueError(f"Request.version={self.version} is for what is pinned; Request.on_swap={self.on_swap!r}")
        if self.lineage and self.on_swap == "recompute":
            raise ValueError(f"Request.lineage={self.lineage!r} goes on from older weights; on_swap is 'recompute'")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"Request.top_p={self.top_p} must be above 0 and at most 1")


class Token(NamedTuple):
    """One token of an answer.

    Attributes:
      id: the token.
      logprob: its natural log-probability under the model at temperature 1, whatever it was drawn with.
      version: of the weights that it comes from.
      top: the likeliest tokens with their log-probabilities, best first.
    """

    id: int
    logprob: float
    version: int
    top: tuple[tuple[int, float], ...] = ()


class Scored(NamedTuple):
    """A token of a prompt, as the model takes it.

    Attributes:
      logprob: its natural log-probability given all before it.
      rank: 1 for what greedy decoding would have taken, 2 for what it would have taken else, and so on.
      version: of the weights that it comes from.
      top: the likeliest tokens with their log-probabilities, best first.
    """

    logprob: float
    rank: int
    version: int
    top: tuple[tuple[int, float], ...] = ()


class Finish(NamedTuple):
    """The end of an answer.

    Attributes:
      reason: `stop` after one of the `stop_ids`, `length` after `max_tokens`, or `cancelled`.
      prompt_logprobs: of each token of the prompt, None for the first; empty unless they were asked for.
    """

    reason: Reason
    prompt_logprobs: tuple[Scored | None, ...] = ()


@dataclass(frozen=True)
class Completion:
    """A whole answer.

    Attributes:
      request: what was asked.
      tokens: what came out.
      finish: why it ended.
      prompt_logprobs: as in `Finish`.
    """

    request: Request
    tokens: tuple[Token, ...]
    finish: Reason
    prompt_logprobs: tuple[Scored | None, ...] = ()

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


class QueueFull(Exception):
    """So many requests wait that no more are taken; ask again later."""
