"""Predicting what programs do: whole traces, or only what the marked function returns, with or without thoughts before.
Rewards come from running them.

The prompt is a program as a world model reads it, so a checkpoint of traces can be reinforced as it is.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from cwm_jax.data.corpus import FAMILIES
from cwm_jax.data.lessons import symbols
from cwm_jax.envs.env import Task, Transition
from cwm_jax.text.pieces import pieces_of_ids
from cwm_jax.text.special_tokens import THINKING_END, THINKING_START
from cwm_jax.text.vocabulary import Vocabulary
from cwm_jax.tracing import Isolation, Limits, Recorder, Trace
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.language import EVENT_TOKENS

_LEARN, _HELD_OUT = 10**7, 10**9 + 10**6  # first seeds: `train` takes those from 0 on, its tests those from 10**9 on
_KEPT = 256  # traces that are remembered, for the members of a group


class Programs(Protocol):
    """Where programs come from; a frozen dataclass."""

    isolation: Isolation

    def contexts(self, held_out: bool) -> Iterator[tuple[str, str]]:
        """`(name, context)` of each: source text in which one `def` line is marked. Names are unlike each other."""


@dataclass(frozen=True)
class Generated:
    """Programs drawn from a family, unlike those of `train` and of its tests, in seeds.

    Attributes:
      family: `strawberry`, `composed` or `methods`.
      count: to learn from.
      held_out: to measure with; none has the normalised syntax tree of one to learn from.
      seed: of all.
    """

    family: str = "composed"
    count: int = 2000
    held_out: int = 128
    seed: int = 0
    isolation = Isolation.LIMITS_ONLY  # our own programs

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ValueError(f"Generated.family={self.family!r} is unknown; there are {', '.join(FAMILIES)}")

    def contexts(self, held_out: bool) -> Iterator[tuple[str, str]]:
        first, count = (_HELD_OUT, self.held_out) if held_out else (_LEARN, self.count)
        known = {program.fingerprint for _, program in self._drawn(_LEARN, self.count)} if held_out else set()
        for number, program in self._drawn(first, count):
            if program.fingerprint not in known:
                yield f"{self.family} {number}", program.contexts()[0]

    def _drawn(self, first: int, count: int):
        for number in range(first, first + count):
            yield number, FAMILIES[self.family].generate(Random(f"{self.seed} {self.family} {number}"), 1)


@dataclass(frozen=True)
class ProgramFile:
    """Programs of a file of JSON lines with `name` and `context`.

    Attributes:
      path: of those to learn from.
      held_out: of those to measure with.
    """

    path: str
    held_out: str
    isolation = Isolation.BUBBLEWRAP

    def contexts(self, held_out: bool) -> Iterator[tuple[str, str]]:
        path = Path(self.held_out if held_out else self.path)
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            try:
                item = json.loads(line)
                yield str(item["name"]), item["context"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: no object with `name` and `context`: {error!r}") from None


@dataclass(frozen=True)
class TracePrediction:
    """The agent says every frame of a run. Outcomes: `pass`, all right; `score`, the share before the first wrong one.

    Attributes:
      programs: that are run.
      form: how a trace is written.
      max_tokens: of an answer.
      max_frames: of a run; the tasks whose runs are longer, or do not end in a return, fail and are not learnt from.
    """

    programs: Generated | ProgramFile = field(default_factory=Generated)
    form: Compact = field(default_factory=Compact)
    max_tokens: int = 768
    max_frames: int = 64

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "TraceEnv":
        return TraceEnv("trace", self, vocabulary, held_out)


@dataclass(frozen=True)
class OutputPrediction:
    """The agent says what the marked function returns, and no frame before. Outcomes: `pass`, and `score`, the same.

    Attributes:
      programs, form, max_tokens, max_frames: as of `TracePrediction`.
    """

    programs: Generated | ProgramFile = field(default_factory=Generated)
    form: Compact = field(default_factory=Compact)
    max_tokens: int = 64
    max_frames: int = 1000

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "OutputEnv":
        return OutputEnv("output", self, vocabulary, held_out)


@dataclass(frozen=True)
class ReasonedOutput:
    """The agent thinks, in plain English, and then says what the marked function returns, and no frame before.

    Outcomes: `pass`; `score`, the same; `format`: it ended its thoughts once, and a return frame follows.

    Attributes:
      programs, form, max_tokens, max_frames: as of `TracePrediction`.
    """

    programs: Generated | ProgramFile = field(default_factory=Generated)
    form: Compact = field(default_factory=Compact)
    max_tokens: int = 768
    max_frames: int = 64

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "ReasonedEnv":
        return ReasonedEnv("reasoned", self, vocabulary, held_out)


@dataclass
class _State:
    """An episode: its program, the pieces of its trace that stand already, and the trace itself."""

    given: list[str]
    actual: Trace


class TraceEnv:
    """The environment of `TracePrediction`: one action, then the end.

    Args:
      name: of the environment.
      config: of it.
      vocabulary: of the model.
      held_out: with the programs kept for measuring.

    Raises:
      ValueError: there is no vocabulary, or it lacks a control symbol.
    """

    instant = False  # it runs programs

    def __init__(
        self,
        name: str,
        config: TracePrediction | OutputPrediction | ReasonedOutput,
        vocabulary: Vocabulary | None,
        held_out: bool,
    ):
        self._symbols, self._stops = self._said_in(config.form)
        if vocabulary is None or (missing := set(self._symbols) - set(vocabulary.control_tokens)):
            lacks = "there is none" if vocabulary is None else f"this one lacks {', '.join(sorted(missing)[:3])}"
            raise ValueError(f"the environment {name!r} needs the vocabulary of a model of traces: {lacks}")
        self.name, self.vocab_size = name, vocabulary.vocab_size
        self._config, self._vocabulary = config, vocabulary
        self.stop_ids = tuple({vocabulary.eos_id, *map(vocabulary.token_id, self._stops)})
        self._held_out = held_out
        self._recorder = Recorder(Limits(max_frames=config.max_frames), config.programs.isolation)
        self._traces: dict[str, Trace] = {}
        self._lock = threading.Lock()

    def tasks(self) -> list[Task]:
        return [Task(name, {"context": context}) for name, context in self._config.programs.contexts(self._held_out)]

    def start(self, task: Task) -> tuple[_State, Transition]:
        context = task.args["context"]
        actual = self._trace(context)
        if actual.verdict != "returned":
            return _State([], actual), Transition((self._vocabulary.bos_id,), over=True, status=actual.verdict)
        given, last = self._given(actual)
        ids = self._vocabulary.encode_segments([*self._config.form.context(context), *given, *last])
        if ids[:1] != [self._vocabulary.bos_id]:
            ids.insert(0, self._vocabulary.bos_id)
        return _State(given, actual), Transition(tuple(ids))

    def step(self, state: _State, action: Sequence[int]) -> Transition:
        said = pieces_of_ids(self._vocabulary, self._symbols, ((token, 0.0) for token in action))
        return Transition(over=True, outcomes=self._outcomes(state, [piece for piece, _ in said]))

    def max_action(self, state: _State) -> int:
        return self._config.max_tokens

    def close(self, state: _State) -> None:
        pass

    def _trace(self, context: str) -> Trace:
        """The program run, or remembered from when it was."""
        with self._lock:
            if context not in self._traces:
                if len(self._traces) >= _KEPT:
                    self._traces.pop(next(iter(self._traces)))
                self._traces[context] = self._recorder.record(context)
            return self._traces[context]

    def _told(self, state: _State, said: Sequence[str]) -> Trace:
        return self._config.form.trace(state.actual.context, [*state.given, *said])

    def _said_in(self, form: Compact) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The control symbols of prompts and actions, and those that end an action."""
        return form.control_symbols, ()

    def _given(self, actual: Trace) -> tuple[list[str], list[str]]:
        """The pieces of the trace that a prompt ends with, and what stands behind them that is no part of it."""
        return [], []

    def _outcomes(self, state: _State, said: Sequence[str]) -> dict[str, float]:
        """What the pieces of an action are worth."""
        told, actual = self._told(state, said), state.actual.frames
        right = next((n for n, (one, other) in enumerate(zip(told.frames, actual)) if one != other), len(told.frames))
        right = min(right, len(actual))
        passed = told.complete and right == len(told.frames) == len(actual)
        score = right / max(len(told.frames), len(actual), 1)
        return {"pass": float(passed), "score": score if not passed else 1.0}


class OutputEnv(TraceEnv):
    """The environment of `OutputPrediction`; see `TraceEnv`."""

    def _said_in(self, form: Compact) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return form.control_symbols, form.frame_ends

    def _given(self, actual: Trace) -> tuple[list[str], list[str]]:
        return [*self._config.form.prefix(actual.context, actual.frames[:1]), EVENT_TOKENS["return"]], []

    def _outcomes(self, state: _State, said: Sequence[str]) -> dict[str, float]:
        frames = self._told(state, said).frames
        value = frames[1].value if len(frames) > 1 else None
        right = float(value is not None and value == state.actual.frames[-1].value)
        return {"pass": right, "score": right}


class ReasonedEnv(TraceEnv):
    """The environment of `ReasonedOutput`; see `TraceEnv`."""

    def _said_in(self, form: Compact) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return symbols(form), ()

    def _given(self, actual: Trace) -> tuple[list[str], list[str]]:
        return self._config.form.prefix(actual.context, actual.frames[:1]), [THINKING_START]

    def _outcomes(self, state: _State, said: Sequence[str]) -> dict[str, float]:
        ends = [place for place, piece in enumerate(said) if piece == THINKING_END]
        told = self._told(state, said[ends[0] + 1 :]) if len(ends) == 1 else None
        readable = told is not None and told.complete and [frame.event for frame in told.frames] == ["call", "return"]
        right = float(readable and told.frames[1].value == state.actual.frames[-1].value)
        return {"pass": right, "score": right, "format": float(readable)}
