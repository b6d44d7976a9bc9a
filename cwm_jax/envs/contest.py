"""Contest problems: programs in Python and C++ that read standard input, judged by tests in a sandbox (facts §6.9)."""

import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from cwm_jax.envs.answers import after_thought, only_block
from cwm_jax.envs.env import Task, Transition
from cwm_jax.envs.piped import Ran, run
from cwm_jax.envs.talk import Talk
from cwm_jax.envs.tasks import check, is_held_out, rows
from cwm_jax.sandbox import Limits, python_paths
from cwm_jax.text.vocabulary import Vocabulary

Language = Literal["python", "cpp"]

_ASKED = {"python": ("Python", "python"), "cpp": ("C++", "cpp")}  # name, and word of the block
_STANDARD = "Your code should read from and write to standard io."
_AGAIN = "Correct your solution, and give the whole of it again in one block."
_COMPILING = Limits(wall_seconds=60, cpu_seconds=40, memory_mb=2048, file_mb=64)
_COMPILE = "g++ -std=c++20 -O2 -fmax-errors=1 -x c++ - -o program && cat program"
_PARSE = "import sys; compile(sys.stdin.buffer.read(), 'solution.py', 'exec')"
_SHOWN = 512  # characters of what a program or a compiler says (as released)
# Calls the function that a signature names; its arguments and its value are JSON.
_CALL = """
import json, sys
print(json.dumps({function}(*map(json.loads, sys.stdin.read().splitlines()))))
"""


class CompilerMissing(RuntimeError):
    """There is no C++ compiler; the message holds the command that installs it."""


class Test(NamedTuple):
    """What a solution reads, and what it then has to write."""

    stdin: str
    stdout: str
    __test__ = False  # pytest takes it for one of its own


@dataclass(frozen=True)
class Problem:
    """A problem of a contest.

    Attributes:
      name: no other problem has it.
      statement: what is asked.
      tests: all that a solution has to pass.
      signature: the first line, or lines, of the Python function to write, where that is asked instead of a program; a
        test's input then holds an argument a line, and its output the value, all JSON.
      examples: how many tests, the first ones, an agent may be told of.
    """

    name: str
    statement: str
    tests: tuple[Test, ...]
    signature: str = ""
    examples: int = 1


class Judged(NamedTuple):
    """What came of a solution.

    Attributes:
      passed: tests.
      total: tests.
      reason: what was wrong first, for the agent and for people; empty if nothing was.
      compiled: whether it could be run at all.
      failed: number of the first test that it failed, from 0; None if there is none.
    """

    passed: int
    total: int
    reason: str = ""
    compiled: bool = True
    failed: int | None = None


def problems(path: str | Path) -> list[Problem]:
    """Problems of a file of JSON lines: `name`, `statement`, `tests` (objects with `stdin` and `stdout`); `signature`
    and `examples` where wanted.

    Raises:
      ValueError: a line is no problem; it names the line, the field and what to write.
      OSError: the file cannot be read.
    """
    found = []
    for place, row in rows(path, {"statement": str, "tests": list}):
        options = {field: kind for field, kind in (("signature", str), ("examples", int)) if field in row}
        check(place, row, options)
        for number, test in enumerate(row["tests"]):
            check(f"{place}: `tests[{number}]`", test, {"stdin": str, "stdout": str})
        tests = tuple(Test(test["stdin"], test["stdout"]) for test in row["tests"])
        if not tests:
            raise ValueError(f"{place}: `tests` is empty, so everything would pass; write at least one test")
        if row.get("signature") and not _function(row["signature"]):
            raise ValueError(f"{place}: `signature` defines no function; write `def NAME(…):`, in a class if need be")
        found.append(Problem(row["name"], row["statement"], tests, **{field: row[field] for field in options}))
    return found


def judge(code: str, language: Language, tests: Sequence[Test], limits: Limits, signature: str = "") -> Judged:
    """Compiles a solution and runs each test, all in sandboxes; whatever it does there, it only passes or fails.

    Output is compared by lines, without space at their ends. After the first test that takes too long, the others are
    not run and count as failed: so a solution that hangs holds up one time limit, not one for each test.

    Args:
      code: the solution.
      language: its language.
      tests: what it has to pass.
      limits: of each run.
      signature: of the Python function to call; empty for a program.

    Raises:
      CompilerMissing: there is no g++.
      SandboxMissing, SandboxError: the sandbox is not installed, or did not start.
    """
    passed, reason, failed = 0, "", None
    with tempfile.TemporaryDirectory() as folder:
        if said := _build(code, language, signature, Path(folder)):
            return Judged(0, len(tests), said, compiled=False)
        argv = [sys.executable, "-s", f"{folder}/solution.py"] if language == "python" else [f"{folder}/program"]
        readable = [folder, *(python_paths() if language == "python" else [])]
        for number, test in enumerate(tests):
            ran = run(argv, test.stdin.encode(), limits, readable)
            if not (wrong := _wrong(ran, test, limits)):
                passed += 1
            elif failed is None:
                reason, failed = f"Test {number + 1} fails: {wrong}", number
            if ran.status is None:
                break
    return Judged(passed, len(tests), reason, failed=failed)


def _build(code: str, language: Language, signature: str, folder: Path) -> str:
    """Makes `solution.py` or `program` there, for any user to run; what the compiler says, empty if all is well."""
    source = code.encode()
    if language == "python":
        ran = run([sys.executable, "-s", "-c", _PARSE], source, _COMPILING, python_paths())
        call = _CALL.format(function=_function(signature)).encode() if signature else b""
        path, content = folder / "solution.py", source + call
    else:
        check_compiler()
        ran = run(["/bin/sh", "-c", _COMPILE], source, _COMPILING)
        path, content = folder / "program", ran.output
    path.write_bytes(content)
    path.chmod(0o755)
    folder.chmod(0o755)
    if ran.status == 0:
        return ""
    # Of Python the error stands last, of g++ first.
    said = _end(ran.errors) if language == "python" else ran.errors[:_SHOWN]
    return f"The code does not compile: {said.strip() or 'it takes too much time or memory'}"


def _wrong(ran: Ran, test: Test, limits: Limits) -> str:
    """What is wrong with a run of a test, with what is needed to understand it; empty if nothing is."""
    given = f"\nInput:\n{test.stdin[:_SHOWN]}"
    if ran.status is None:
        return f"it takes longer than {limits.wall_seconds:g} seconds.{given}"
    if ran.status != 0:
        return f"it ends with status {ran.status}.{given}\nErrors:\n{_end(ran.errors)}"
    said = ran.output.decode(errors="replace")
    if _lines(said) == _lines(test.stdout):
        return ""
    return f"the output is wrong.{given}\nExpected:\n{test.stdout[:_SHOWN]}\nOutput:\n{said[:_SHOWN]}"


def _lines(output: str) -> list[str]:
    return [line.rstrip() for line in output.rstrip().split("\n")]


def _end(text: str) -> str:
    return text if len(text) <= _SHOWN else f"[...]{text[-_SHOWN:]}"


def _function(signature: str) -> str:
    """What to call for a signature: its function, or the method of an object of its class; empty if it has neither."""
    function = re.search(r"def\s+(\w+)", signature)
    owner = re.search(r"class\s+(\w+)", signature)
    return f"{owner[1]}().{function[1]}" if function and owner else function[1] if function else ""


def check_compiler() -> None:
    """Makes sure of g++.

    Raises:
      CompilerMissing: there is none that the sandbox can reach.
    """
    if not shutil.which("g++", path="/usr/local/bin:/usr/bin:/bin"):
        raise CompilerMissing("g++ is not installed, and without it no C++ can be judged: apt-get install g++")


@dataclass(frozen=True)
class Contest:
    """The agent solves a contest problem in one block of code.

    Outcomes: `pass`, all tests are; `score`, the share of them; `tests_passed`, their number; `format`, whether it
    answered with exactly one `</think>` and then exactly one block; `compile`. An answer of another format ends the
    episode.

    Attributes:
      path: file of the problems; see `problems`.
      languages: `python`, `cpp`, or both, each a task of its own; problems with a signature are asked in Python alone.
      attempts: answers that an agent may give; before the last, it is told what the compiler said, or how it failed one
        of the examples. An answer that passes the examples is the last.
      held_out: share of the problems that is kept for measuring, chosen by their names.
      max_tokens: of an answer.
      limits: of each run of a solution.
    """

    path: str
    languages: tuple[Language, ...] = ("python",)
    attempts: int = 1
    held_out: float = 0.1
    max_tokens: int = 65_536
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self):
        known = set(self.languages)
        if not known or not known <= _ASKED.keys() or len(known) < len(self.languages):
            raise ValueError(f"Contest.languages={self.languages!r}: name some of {', '.join(_ASKED)}, each once")
        if not (self.attempts > 0 and 0 <= self.held_out <= 1 and self.max_tokens > 0):
            raise ValueError(
                f"Contest.attempts={self.attempts}, held_out={self.held_out}, max_tokens={self.max_tokens}: "
                "attempts > 0, 0 <= held_out <= 1 and max_tokens > 0 must hold"
            )

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "ContestEnv":
        """See `EnvConfig`; raises `CompilerMissing`, too, rather than in every episode."""
        if "cpp" in self.languages:
            check_compiler()
        return ContestEnv(self, vocabulary, held_out)


@dataclass
class _State:
    """An episode: its problem, its language, and how many answers there may still be."""

    problem: Problem
    language: Language
    attempts: int


class ContestEnv:
    """The environment of `Contest`; arguments as of its `open`."""

    name = "contest"
    instant = False  # it runs programs

    def __init__(self, config: Contest, vocabulary: Vocabulary | None, held_out: bool):
        self._config, self._talk = config, Talk(vocabulary)
        self.stop_ids, self.vocab_size = self._talk.stop_ids, self._talk.vocab_size
        kept = [p for p in problems(config.path) if is_held_out(p.name, config.held_out) == held_out]
        self._problems = {problem.name: problem for problem in kept}

    def tasks(self) -> list[Task]:
        return [
            Task(f"{problem.name}/{language}", {"problem": problem.name, "language": language})
            for problem in self._problems.values()
            for language in self._config.languages
            if language == "python" or not problem.signature
        ]

    def start(self, task: Task) -> tuple[_State, Transition]:
        problem, language = self._problems[task.args["problem"]], task.args["language"]
        return _State(problem, language, self._config.attempts), Transition(self._talk.prompt(_ask(problem, language)))

    def step(self, state: _State, action: Sequence[int]) -> Transition:
        problem = state.problem
        state.attempts -= 1
        block = only_block(after_thought(self._talk.text(action)) or "")
        if block is None:
            return Transition(over=True, outcomes=_outcomes(Judged(0, len(problem.tests), compiled=False), False))
        judged = judge(block[1], state.language, problem.tests, self._config.limits, problem.signature)
        outcomes, info = _outcomes(judged, True), {"reason": judged.reason}
        told = not judged.compiled or (judged.failed is not None and judged.failed < problem.examples)
        if state.attempts == 0 or not told:
            return Transition(over=True, outcomes=outcomes, info=info)
        return Transition(self._talk.reply(action, f"{judged.reason}\n\n{_AGAIN}"), outcomes=outcomes, info=info)

    def max_action(self, state: _State) -> int:
        return self._config.max_tokens

    def close(self, state: _State) -> None:
        pass


def _ask(problem: Problem, language: Language) -> str:
    """The question as the release asks it of LiveCodeBench; the language is its only word that differs."""
    name, fence = _ASKED[language]
    how = f"Use the provided function signature: {problem.signature}" if problem.signature else _STANDARD
    return (
        f"Provide a {name} solution for the following competitive programming question: {problem.statement}.\n"
        f"Your code should be enclosed in triple backticks like so: ```{fence} YOUR CODE HERE ```. "
        f"Use the backticks for your code only. {how}"
    )


def _outcomes(judged: Judged, form: bool) -> dict[str, float]:
    return {
        "pass": float(judged.passed == judged.total),
        "score": judged.passed / judged.total,
        "tests_passed": float(judged.passed),
        "format": float(form),
        "compile": float(judged.compiled),
    }
