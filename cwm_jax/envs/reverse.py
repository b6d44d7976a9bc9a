"""Reverse a text: the toy that shows that everything learns. Its tokens are its own, so no vocabulary is needed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import ClassVar

from cwm_jax.envs.env import Task, Transition
from cwm_jax.text.vocabulary import Vocabulary

BEGIN, ANSWER, END = 0, 1, 2  # then come the letters
_FIRST = 3
_HELD_OUT = 10**9  # seeds of tasks to learn from lie below


@dataclass
class _State:
    letters: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Reverse:
    """BEGIN, some letters, ANSWER; the agent says them backwards, then END. Its own `EnvConfig`.

    Held-out texts are drawn from all there are; a long text is hardly one to learn from.

    Attributes:
      letters: different ones.
      length: of a text.
      count: tasks.
      seed: of the tasks.
      instant: as of an `Env`; False has it run where others do that take time.
    """

    letters: int = 5
    length: int = 3
    count: int = 64
    seed: int = 0
    instant: bool = True
    name: ClassVar[str] = "reverse"
    stop_ids: ClassVar[tuple[int, ...]] = (END,)

    @property
    def vocab_size(self) -> int:
        return _FIRST + self.letters

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "Reverse":
        return replace(self, seed=self.seed + held_out * _HELD_OUT)

    def tasks(self) -> list[Task]:
        rng = Random(self.seed)
        texts = [[rng.randrange(self.letters) for _ in range(self.length)] for _ in range(self.count)]
        return [Task(f"{self.seed}/{number}", {"text": text}) for number, text in enumerate(texts)]

    def start(self, task: Task) -> tuple[_State, Transition]:
        letters = [_FIRST + letter for letter in task.args["text"]]
        return _State(letters), Transition((BEGIN, *letters, ANSWER))

    def step(self, state: _State, action: Sequence[int]) -> Transition:
        wanted = [*state.letters[::-1], END]
        right = sum(one == other for one, other in zip(wanted, action))
        score = right / max(len(wanted), len(action))
        return Transition(over=True, outcomes={"pass": float(list(action) == wanted), "score": score})

    def max_action(self, state: _State) -> int:
        return len(state.letters) + 2

    def close(self, state: _State) -> None:
        pass
