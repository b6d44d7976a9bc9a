"""Problems of mathematics whose answer is boxed: from a file, or made up (facts §6.10)."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from cwm_jax.envs.answers import after_thought, only_box
from cwm_jax.envs.env import Task, Transition
from cwm_jax.envs.piped import run
from cwm_jax.envs.talk import Talk
from cwm_jax.envs.tasks import is_held_out, rows
from cwm_jax.sandbox import Limits, SandboxError, python_paths
from cwm_jax.text.vocabulary import Vocabulary

_ASK = "{problem}\n\nWrap your answer in $\\boxed{{}}$."  # as released
# The release gives its verifier a minute; half a second is enough for nearly all answers.
_VERIFYING = Limits(wall_seconds=20, cpu_seconds=10, memory_mb=2048)
# In a box and as LaTeX alone: looser ways of reading find an answer that a text holds beside wrong ones.
_VERIFY = r"""
import json, sys
from math_verify import LatexExtractionConfig, parse, verify
print("ready", flush=True)
right, answer = [
    parse(r"\boxed{%s}" % text, [LatexExtractionConfig()], parsing_timeout=None) for text in json.load(sys.stdin)
]
print("right" if verify(right, answer, timeout_seconds=None) else "wrong")
"""
_NUMBER = re.compile(r"[+-]?\d{1,99}(\.\d{1,99}|/[1-9]\d{0,99})?", re.ASCII)


@dataclass(frozen=True)
class Maths:
    """Problems of a file of JSON lines with `name`, `problem` and `answer`, LaTeX that `equal` reads.

    Attributes:
      path: of the file.
      held_out: share of the problems that is kept for measuring, chosen by their names.
      max_tokens: of an answer.
    """

    path: str
    held_out: float = 0.1
    max_tokens: int = 65_536

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "MathsEnv":
        found = [
            Task(row["name"], {"problem": row["problem"], "answer": row["answer"]})
            for _, row in rows(self.path, {"problem": str, "answer": str})
            if is_held_out(row["name"], self.held_out) == held_out
        ]
        return MathsEnv("maths", found, self.max_tokens, vocabulary)


@dataclass(frozen=True)
class Arithmetic:
    """Sums, differences and products of whole numbers, made up from a seed: no data is needed.

    Attributes:
      count: problems, those held out among them; no two are alike.
      terms: numbers in each.
      largest: number.
      seed: of the problems.
      held_out: share of the problems that is kept for measuring, whatever the seed.
      max_tokens: of an answer.

    Raises:
      ValueError: there are hardly as many problems as `count`.
    """

    count: int = 1000
    terms: int = 2
    largest: int = 99
    seed: int = 0
    held_out: float = 0.1
    max_tokens: int = 1024

    def __post_init__(self):
        there = (self.largest + 1) ** self.terms * 3 ** (self.terms - 1)
        if self.terms < 2 or self.largest < 1 or not 0 < 2 * self.count <= there:
            raise ValueError(
                f"Arithmetic.count={self.count}, terms={self.terms}, largest={self.largest}: at most half of all "
                "problems may be asked, of two terms or more; lower count, or raise the others"
            )

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "MathsEnv":
        rng, drawn = Random(self.seed), {}
        while len(drawn) < self.count:
            text = str(rng.randint(0, self.largest))
            for _ in range(self.terms - 1):
                text += f" {rng.choice('+-*')} {rng.randint(0, self.largest)}"
            drawn[text] = str(eval(text))
        found = [
            Task(text, {"problem": f"What is ${text.replace('*', chr(92) + 'cdot')}$?", "answer": answer})
            for text, answer in drawn.items()
            if is_held_out(text, self.held_out) == held_out
        ]
        return MathsEnv("arithmetic", found, self.max_tokens, vocabulary)


class MathsEnv:
    """The environment of both: one answer, then the end.

    Outcomes: `pass`, and `score`, the same: the answer is right; `format`: it has exactly one `</think>`, and after it
    exactly one box.

    Args:
      name: of the environment.
      found: its tasks.
      max_tokens: of an answer.
      vocabulary: of the model.

    Raises:
      ValueError: there is no vocabulary, or it has no tokens for turns.
    """

    instant = False  # the verifier may take long

    def __init__(self, name: str, found: list[Task], max_tokens: int, vocabulary: Vocabulary | None):
        self.name, self._tasks, self._max_tokens, self._talk = name, found, max_tokens, Talk(vocabulary)
        self.stop_ids, self.vocab_size = self._talk.stop_ids, self._talk.vocab_size

    def tasks(self) -> list[Task]:
        return list(self._tasks)

    def start(self, task: Task) -> tuple[str, Transition]:
        return task.args["answer"], Transition(self._talk.prompt(_ASK.format(problem=task.args["problem"])))

    def step(self, state: str, action: Sequence[int]) -> Transition:
        box = only_box(after_thought(self._talk.text(action)) or "")
        right = box is not None and equal(state, box)
        outcomes = {"pass": float(right), "score": float(right), "format": float(box is not None)}
        return Transition(over=True, outcomes=outcomes, info={"box": box, "right": state})

    def max_action(self, state: str) -> int:
        return self._max_tokens

    def close(self, state: str) -> None:
        pass


def equal(right: str, answer: str) -> bool:
    """Whether an answer is the right one, written in any way.

    Plain numbers, and texts that are the same, are compared here; all else by math-verify, in a sandbox, since what it
    reads may keep it busy for ever. What it cannot tell within its limits is wrong.

    Args:
      right: the right answer, LaTeX without dollar signs.
      answer: what was answered; a dot at its end is no part of it.

    Raises:
      SandboxMissing, SandboxError: the sandbox is not installed, or it or the verifier did not start.
    """
    right, answer = right.strip(), answer.strip().removesuffix(".")
    if right == answer:
        return True
    if _NUMBER.fullmatch(right) and _NUMBER.fullmatch(answer):
        return Fraction(right) == Fraction(answer)
    asked = json.dumps([right, answer]).encode()
    ran = run([sys.executable, "-s", "-c", _VERIFY], asked, _VERIFYING, python_paths())
    ready, _, verdict = ran.output.partition(b"\n")
    if ready != b"ready":
        raise SandboxError(f"math-verify does not start: {ran.errors or 'it takes too long'}")
    return ran.status == 0 and verdict == b"right\n"
