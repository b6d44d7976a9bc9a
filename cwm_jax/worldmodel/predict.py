"""Predicting what a program does without running it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from cwm_jax.tracing import Frame, Trace
from cwm_jax.tracing.language import EVENT_TOKENS, TraceSyntaxError
from cwm_jax.tracing.trace import Event
from cwm_jax.worldmodel.models.model import Ask, Form, Model, Said, Spoken
from cwm_jax.worldmodel.predictors import Future, Predicted, Until

Start = tuple[str, tuple[Frame, ...]]  # a context, and the frames that stand already


class WorldModel:
    """A model as a `Predictor` and a `TracePredictor`.

    Attributes:
      model: goes on with what is asked of it.
    """

    what_if = True

    def __init__(self, model: Model):
        self.model = model

    def predict(self, contexts: Sequence[str]) -> Iterator[Trace]:
        """The predicted trace of each context, in order.

        A prediction that breaks off, for one when it is longer than the model's longest answer, or that cannot be
        written or read has `complete` False, verdict `malformed` and a reason.

        Args:
          contexts: sources with a marked entry.
        """
        starts = [(context, ()) for context in contexts]
        return (outcome.trace for outcome in predicted(self.model, starts, self.model.longest))

    def futures(
        self,
        context: str,
        frames: Sequence[Frame],
        *,
        first: Event | None = None,
        until: Until | None = None,
        samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Future]:
        """How the model goes on from given frames, as `Predictor` says; the samples are drawn together."""
        form = self.model.form
        given = form.prefix(context, frames) + ([EVENT_TOKENS[first]] if first else [])
        prompt = (*form.context(context), *given)
        asks = [Ask(prompt, self.model.longest, temperature, seed=seed + index) for index in range(samples)]
        with self.model.speak(asks) as answers:
            return [self._future(context, given, frames, first is not None, answer, until) for answer in answers]

    def _future(
        self,
        context: str,
        given: list[str],
        known: Sequence[Frame],
        asked: bool,
        answer: Spoken,
        until: Until | None,
    ) -> Future:
        """One future, read while it is made, and no further than `until` lets it come."""
        scores = [0.0] * len(given)  # log-probabilities of the pieces

        def pieces() -> Iterator[str]:
            yield from given
            for piece, score in answer:
                scores.append(score)
                yield piece

        def sure(places: Sequence[int]) -> float:
            return math.exp(sum(scores[place] for place in places))

        found: list[Predicted] = []
        complete, reason = False, ""
        try:
            for told in islice(self.model.form.told(context, pieces(), known), len(known), None):
                values = tuple((name, sure(places)) for name, places in told.values.items())
                found.append(Predicted(told.frame, sure(told.head), values, asked=asked and not found))
                if until is not None and until(found):
                    break
            else:
                complete = True
        except TraceSyntaxError as error:
            reason = str(error)
            if answer.finish == "length":
                reason = f"it takes more than {len(scores) - len(given):,} tokens, the longest answer of the model"
        return Future(tuple(found), complete, reason, sum(scores))


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
      pieces: all that spell it, those of given frames included.
      logprobs: natural log-probability of each piece, 0 of given ones; empty where the model tells none.
    """

    trace: Trace
    value: str | None = None
    reason: str = ""
    tokens: int = 0
    confidence: float | None = None
    pieces: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()

    @property
    def frames(self) -> tuple[Frame, ...]:
        return self.trace.frames

    def sure(self, form: Form) -> list[float]:
        """The probability of each frame given those before: of all that is said from where the one before is told.

        Given frames have 1; empty where the model tells none.
        """
        found, before = [], 0
        try:
            for told in form.told(self.trace.context, self.pieces) if self.logprobs else ():
                last = max(place for places in (told.head, *told.values.values()) for place in places)
                found.append(math.exp(sum(self.logprobs[before : last + 1])))
                before = max(before, last + 1)
        except TraceSyntaxError:
            pass  # the trace breaks off there
        return found


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
    pieces = (*head, *said.pieces)
    trace = model.form.trace(context, pieces)
    if said.reason:
        return Outcome(replace(trace, reason=said.reason), None, said.reason)
    if said.finish == "length" and not trace.complete:
        trace = replace(trace, reason=f"it takes more than {said.tokens:,} tokens, the longest answer of the model")
    logprobs = (*[0.0] * len(head), *said.logprobs) if said.logprobs else ()
    outcome = Outcome(trace, tokens=said.tokens, pieces=pieces, logprobs=logprobs)
    last = trace.frames[-1] if trace.frames else None
    returns = last is not None and last.event == "return" and last.value is not None
    if not (trace.complete or (event == "return" and returns)):
        cut = "cut at the longest answer" if said.finish == "length" else f"cannot be read: {trace.reason}"
        return replace(outcome, reason=cut)
    if not returns:
        return replace(outcome, reason="does not end in a return")
    if len(trace.frames) > 1 and trace.frames[-2].event == "exception":
        return replace(outcome, reason=f"says that it raises {trace.frames[-2].value}")
    return replace(outcome, value=last.value, confidence=said.confidence(model.form.control_symbols))
