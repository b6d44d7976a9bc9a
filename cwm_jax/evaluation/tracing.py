"""Predicted traces of any model: from a context and frames that are given, to a trace and how it ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cwm_jax.evaluation.models import Ask, Model, Said
from cwm_jax.tracing import Frame, Isolation, Trace, record_many
from cwm_jax.tracing.language import EVENT_TOKENS, source_lines
from cwm_jax.tracing.trace import START_MARKER_PATTERN, Event

Start = tuple[str, tuple[Frame, ...]]  # a context, and the frames that stand already


class Draw(NamedTuple):
    """How frames are drawn: temperature 0 takes the likeliest, 1 the model's own distribution."""

    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """A predicted trace, and what it comes to.

    Attributes:
      trace: the frames given and those predicted.
      value: what the entry returns; None where the prediction does not get there.
      reason: why it does not.
      tokens: that were predicted.
      confidence: probability of the text of `value` given all before, where the model tells.
    """

    trace: Trace
    value: str | None = None
    reason: str = ""
    tokens: int = 0
    confidence: float | None = None

    @property
    def frames(self) -> tuple[Frame, ...]:
        return self.trace.frames


def starting_frame(context: str) -> Frame:
    """The call frame of a marked function without parameters."""
    number = next(i for i, line in enumerate(context.split("\n"), start=1) if START_MARKER_PATTERN.search(line))
    return Frame("call", source_lines(context)[number - 1], locals=(), line=number)


@lru_cache(maxsize=2)
def true_traces(contexts: tuple[str, ...], isolation: Isolation) -> list[Trace]:
    """What the programs really do; the last answers are kept, as several modes ask for them."""
    return list(record_many(contexts, isolation=isolation, together=True))


def predicted(
    model: Model,
    starts: Sequence[Start],
    max_tokens: int,
    *,
    step: bool = False,
    first: Event | None = None,
    draws: Sequence[Draw] = (),
) -> Iterator[Outcome]:
    """How the model goes on from each start; one that its form cannot hold has the reason, and no frame.

    Args:
      step: the next frame is the return of the call that stands last, and only that one is wanted.
      first: the event of the next frame, and only that one is wanted; None leaves it open, up to the end of the trace.
      draws: how each is drawn; all greedily if empty.
    """
    form, event = model.form, "return" if step else first
    asks: list[Ask | str] = []
    heads: list[list[str]] = []
    for (context, frames), draw in zip(starts, draws or [Draw()] * len(starts)):
        head = [EVENT_TOKENS[event]] if event else []
        try:
            head = form.prefix(context, frames) + head
            stop = form.frame_ends if event else ()
            prompt = (*form.context(context), *head)
            asks.append(Ask(prompt, max_tokens, draw.temperature, seed=draw.seed, stop=stop))
        except ValueError as error:
            asks.append(f"cannot be written: {error}")
        heads.append(head)
    answers = model.complete([ask for ask in asks if isinstance(ask, Ask)])
    for (context, _), ask, head in zip(starts, asks, heads):
        if isinstance(ask, str):
            yield Outcome(Trace(context, (), complete=False, verdict="malformed", reason=ask), reason=ask)
        else:
            yield _outcome(model, context, head, next(answers), event)


def _outcome(model: Model, context: str, head: list[str], said: Said, event: Event | None) -> Outcome:
    trace = model.form.trace(context, [*head, *said.pieces])
    if said.reason:
        return Outcome(trace, None, said.reason)
    last = trace.frames[-1] if trace.frames else None
    returns = last is not None and last.event == "return" and last.value is not None
    if not (trace.complete or (event == "return" and returns)):
        cut = "cut at the longest answer" if said.finish == "length" else f"cannot be read: {trace.reason}"
        return Outcome(trace, None, cut, said.tokens)
    if not returns:
        return Outcome(trace, None, "does not end in a return", said.tokens)
    if len(trace.frames) > 1 and trace.frames[-2].event == "exception":
        return Outcome(trace, None, f"says that it raises {trace.frames[-2].value}", said.tokens)
    return Outcome(trace, last.value, "", said.tokens, said.confidence(model.form.control_symbols))
