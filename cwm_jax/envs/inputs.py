"""Finding an input: a program and what it returned are told, and the agent says arguments that have it return that."""

import ast
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cwm_jax.envs.env import Task, Transition
from cwm_jax.envs.traces import Generated, ProgramFile
from cwm_jax.text.vocabulary import Vocabulary
from cwm_jax.tracing import Limits, record
from cwm_jax.tracing.trace import START_MARKER_PATTERN
from cwm_jax.tracing.wrap import wrap

_KEPT = 4096  # runs that are remembered


@dataclass(frozen=True)
class InputPrediction:
    """The agent says arguments with which a function returns what it did in a call that is not told.

    Outcomes: `pass`, its own call really returns that; `score`, the same; `format`, it said literals as arguments.

    Attributes:
      programs: whose marked function returns one call of another.
      attempts: calls that an agent may try; before the last it is told what came of each.
      max_tokens: of an answer.
      max_frames: of a run.
    """

    programs: Generated | ProgramFile = field(default_factory=Generated)
    attempts: int = 1
    max_tokens: int = 64
    max_frames: int = 1000

    def __post_init__(self):
        if self.attempts < 1 or self.max_tokens < 1:
            raise ValueError(
                f"InputPrediction.attempts={self.attempts} and max_tokens={self.max_tokens} must be at least 1"
            )

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "InputEnv":
        return InputEnv(self, vocabulary, held_out)


class Came(NamedTuple):
    """What came of a call.

    Attributes:
      how: `returns`, `raises`, or the verdict that cut the run short.
      value: that is returned or raised, as Python text.
    """

    how: str
    value: str = ""


class Called(NamedTuple):
    """A program whose marked function returns one call.

    Attributes:
      code: all before the marked function.
      function: that it calls.
    """

    code: str
    function: str

    @classmethod
    def of(cls, context: str) -> "Called":
        """Of a context; raises ValueError where its marked function does anything else."""
        marked = START_MARKER_PATTERN.search(context)
        start = context.rfind("\n", 0, marked.start()) + 1 if marked else 0
        match ast.parse(context[start:]).body:
            case [ast.FunctionDef(body=[ast.Return(ast.Call(func=ast.Name(id=function)))])]:
                return cls(context[:start], function)
        raise ValueError("the marked function does more than return one call; write `return FUNCTION(…)` as its body")

    def again(self, text: str) -> str | None:
        """The context of a call with other arguments; None if the text is not literals, and nothing else."""
        try:
            call = ast.parse(f"_({text}\n)", mode="eval").body
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                return None
            for value in (*call.args, *(keyword.value for keyword in call.keywords)):
                ast.literal_eval(value)
            return wrap(self.code, self.function, ast.unparse(call)[2:-1])
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            return None


@dataclass
class _State:
    """An episode: its program, what it is to return, and how many calls there may still be."""

    called: Called
    wanted: Came
    attempts: int


class InputEnv:
    """The environment of `InputPrediction`; arguments as of its `open`.

    Raises:
      ValueError: there is no vocabulary.
    """

    name = "input"
    instant = False  # it runs programs

    def __init__(self, config: InputPrediction, vocabulary: Vocabulary | None, held_out: bool):
        if vocabulary is None:
            raise ValueError("the environment 'input' needs the vocabulary of a model, and there is none")
        self.vocab_size, self.stop_ids = vocabulary.vocab_size, (vocabulary.eos_id,)
        self._config, self._vocabulary, self._held_out = config, vocabulary, held_out
        self._limits = Limits(max_frames=config.max_frames)
        self._ran: dict[str, Came] = {}
        self._lock = threading.Lock()

    def tasks(self) -> list[Task]:
        return [Task(name, {"context": context}) for name, context in self._config.programs.contexts(self._held_out)]

    def start(self, task: Task) -> tuple[_State, Transition]:
        """As of an `Env`; raises what `Called.of` raises."""
        called, wanted = Called.of(task.args["context"]), self.run(task.args["context"])
        state = _State(called, wanted, self._config.attempts)
        if wanted.how != "returns":
            return state, Transition((self._vocabulary.bos_id,), over=True, status=wanted.how)
        prompt = f"{called.code}# {called.function}(?) returns {wanted.value}\n{called.function}("
        return state, Transition((self._vocabulary.bos_id, *self._vocabulary.encode(prompt)))

    def step(self, state: _State, action: Sequence[int]) -> Transition:
        state.attempts -= 1
        context = state.called.again(self.text(action))
        came = Came("is not written in literals") if context is None else self.run(context)
        right = float(came == state.wanted)
        outcomes = {"pass": right, "score": right, "format": float(context is not None)}
        info = {"came": f"{came.how} {came.value}".strip(), "wanted": state.wanted.value}
        if right or state.attempts == 0:
            return Transition(over=True, outcomes=outcomes, info=info)
        return Transition(self.reply(state.called, came), outcomes=outcomes, info=info)

    def max_action(self, state: _State) -> int:
        return self._config.max_tokens

    def close(self, state: _State) -> None:
        pass

    def text(self, action: Sequence[int]) -> str:
        """What an action says, without the token that ended it."""
        return self._vocabulary.decode(action[:-1] if action and action[-1] in self.stop_ids else action)

    def reply(self, called: Called, came: Came) -> tuple[int, ...]:
        """Tokens that tell what came of a call and ask for another."""
        told = f"{came.how} {came.value}".strip()
        return tuple(self._vocabulary.encode(f") {told}\n{called.function}("))

    def run(self, context: str) -> Came:
        """What comes of a program, run or remembered from when it was."""
        with self._lock:
            if context not in self._ran:
                if len(self._ran) >= _KEPT:
                    self._ran.pop(next(iter(self._ran)))
                self._ran[context] = self._run(context)
            return self._ran[context]

    def _run(self, context: str) -> Came:
        try:
            trace = record(context, self._limits, self._config.programs.isolation)
        except ValueError:  # arguments that hold a control token of traces
            return Came("cannot be run")
        if trace.verdict == "returned":
            return Came("returns", trace.frames[-1].value)
        raised = next((frame.value for frame in reversed(trace.frames) if frame.event == "exception"), "")
        return Came("raises", raised) if trace.verdict == "raised" else Came(trace.verdict)
