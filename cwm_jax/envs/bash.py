"""Environments in which the agent works in a shell: sums that it computes there, and problems that it programs there.

Facts §6.8 and §6.9; the release has neither environment, so their prompts are our own.
"""

import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from cwm_jax.envs import plugins
from cwm_jax.envs.answers import only_block
from cwm_jax.envs.contest import Language, Problem, check_compiler, judge, problems
from cwm_jax.envs.dialog import Dialog, FormatError, Left, Said
from cwm_jax.envs.env import Task, Transition
from cwm_jax.envs.tasks import check, is_held_out, rows
from cwm_jax.sandbox import Limits
from cwm_jax.sandbox.shell import LIMITS, Ended, Shell
from cwm_jax.text.chat import Call
from cwm_jax.text.vocabulary import Vocabulary

_PYTHON = f"{sys.base_prefix}/bin/python3"
_PLUGINS = plugins.__file__
_BASH = ("bash",)
_ALL = ("bash", "edit", "create")

_ENDED = {
    Ended.TIME: "it took more than {seconds:g} seconds",
    Ended.DEATH: "it ended its shell",
    Ended.FLOOD: "it wrote too much",
}
_AFRESH = (  # stands first: what stands last may be cut
    "[This command ended the session: {why}. The next one begins in the first folder, with the files that are there; "
    "variables and processes are gone.]\n"
)


def open_shell(files: Mapping[str, str], limits: Limits) -> Shell:
    """A shell in which `use` works; its sandbox starts with the first call."""
    return Shell(files, limits, readable=(_PLUGINS,))


def use(shell: Shell, call: Call, seconds: float) -> str:
    """What a tool says.

    Args:
      shell: of `open_shell`.
      call: of `bash`, `edit` or `create`.
      seconds: that it may take.

    Raises:
      SandboxMissing, SandboxError: the sandbox is not installed, or did not start; no fault of the agent.
    """
    command = call.body
    if call.name != "bash":
        end = f"END_{secrets.token_hex(8)}"
        command = f"{_PYTHON} -I {_PLUGINS} {call.name} <<'{end}'\n{call.body}\n{end}"
    output = shell.run(command, seconds)
    if output.ended is None:
        return output.text.removesuffix("\n")
    return _AFRESH.format(why=_ENDED[output.ended].format(seconds=seconds)) + output.text


@dataclass(frozen=True)
class BashCalculator:
    """Two turns: the agent calls bash to compute a sum, difference or product, then says the number.

    Outcomes: `pass`, all is right; `format`, each action keeps the rules; `tool_used`, bash was called first; `score`,
    the share of the three that hold, with the right number for the first: partly right is better than wrong.

    Attributes:
      count: problems, those held out among them; no two are alike.
      largest: number in them.
      seed: of the problems.
      held_out: share of the problems that is kept for measuring, whatever the seed.
      max_tokens: of an action.
      seconds: that the call may take.

    Raises:
      ValueError: there are hardly as many problems as `count`.
    """

    count: int = 1000
    largest: int = 99
    seed: int = 0
    held_out: float = 0.1
    max_tokens: int = 256
    seconds: float = 10.0

    def __post_init__(self):
        if not 0 < self.count <= 3 * (self.largest + 1) ** 2 // 2:
            raise ValueError(
                f"BashCalculator.count={self.count}, largest={self.largest}: at most half of all problems may be "
                "asked; lower count, or raise largest"
            )

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "CalculatorEnv":
        return CalculatorEnv(self, vocabulary, held_out)


@dataclass
class _Sum:
    """An episode of `CalculatorEnv`."""

    answer: int
    left: Left
    shell: Shell
    called: bool = False


class CalculatorEnv:
    """The environment of `BashCalculator`; arguments as of its `open`."""

    name = "bash_calculator"
    instant = False
    _system = "You can call one tool, bash, once:\n<tool: bash>\necho $((1 + 2))\n</tool>"
    _ask = "What is {sum}? Compute it with bash, then answer with the number alone."

    def __init__(self, config: BashCalculator, vocabulary: Vocabulary | None, held_out: bool):
        self._config, self._held_out = config, held_out
        self._dialog = Dialog(vocabulary, config.max_tokens)
        self.stop_ids, self.vocab_size = self._dialog.stop_ids, self._dialog.vocab_size

    def tasks(self) -> list[Task]:
        config, rng, drawn = self._config, Random(self._config.seed), {}
        while len(drawn) < config.count:
            one, other, sign = rng.randint(0, config.largest), rng.randint(0, config.largest), rng.choice("+-*")
            drawn[f"{one} {sign} {other}"] = {"+": one + other, "-": one - other, "*": one * other}[sign]
        return [
            Task(text, {"sum": text, "answer": answer})
            for text, answer in drawn.items()
            if is_held_out(text, config.held_out) == self._held_out
        ]

    def start(self, task: Task) -> tuple[_Sum, Transition]:
        prompt = self._dialog.opening(self._system, self._ask.format(sum=task.args["sum"]))
        state = _Sum(task.args["answer"], Left(2, 3 * self._config.max_tokens), open_shell({}, LIMITS))
        return state, Transition(prompt)

    def step(self, state: _Sum, action: Sequence[int]) -> Transition:
        state.left.turns -= 1
        state.left.tokens -= len(action)
        try:
            said = self._dialog.said(action, () if state.called else _BASH)
        except FormatError as error:
            return self._end(state, None, str(error))
        if said.call is None:
            return self._end(state, said)
        state.called = True
        told = use(state.shell, said.call, self._config.seconds)
        return Transition(self._dialog.result(action, said.call.name, told, state.left))

    def _end(self, state: _Sum, said: Said | None, reason: str = "") -> Transition:
        right = said is not None and said.text.strip() == str(state.answer)
        held = [right, said is not None, state.called]
        names = ("pass", "format", "tool_used")
        outcomes = dict(zip(names, map(float, (all(held), *held[1:])))) | {"score": sum(held) / len(held)}
        return Transition(over=True, outcomes=outcomes, info={"reason": reason})

    def max_action(self, state: _Sum) -> int:
        return self._config.max_tokens

    def close(self, state: _Sum) -> None:
        state.shell.close()


@dataclass(frozen=True)
class AgenticCode:
    """The agent works on a problem in a shell as long as it likes; its solution is the one block of its last answer.

    A row of the file is one of `contest.problems`, and may have `files`, an object of texts by path, in the agent's
    folder from the beginning, and `hint`, a text. Examples are there too, as `examples/1.in` and `examples/1.out`.
    Tests are run where the agent never was.

    A task has arguments that a curriculum may set: `plugins`, whether there are the tools edit and create besides bash;
    and `hint`, whether the hint of the row is shown, or another text that is.

    Outcomes: `pass`, all tests are; `score`, the share of them; `format`, the rules were kept throughout; `compile`;
    `tools`, calls of tools; `cut`, 1 where turns or tokens were over before an answer.

    Attributes:
      path: file of the problems.
      languages: `python`, `cpp`, or both, each a task of its own; problems with a signature are asked in Python alone.
      strict: whether what breaks a rule of format ends the episode (CWM trains so), or is told (and examines so).
      held_out: share of the problems that is kept for measuring, chosen by their names.
      max_turns: of an episode.
      max_context: tokens of an episode.
      max_action: tokens of an action.
      max_observation: tokens of what a tool says.
      seconds: that a call of a tool may take.
      limits: of each run of a test.
      shell: limits of a session of the shell.

    Raises:
      ValueError: a language is unknown.
    """

    path: str
    languages: tuple[Language, ...] = ("python",)
    strict: bool = True
    held_out: float = 0.1
    max_turns: int = 128
    max_context: int = 131_072
    max_action: int = 65_536
    max_observation: int = 32_768
    seconds: float = 120.0
    limits: Limits = field(default_factory=Limits)
    shell: Limits = LIMITS

    def __post_init__(self):
        if not self.languages or not {*self.languages} <= _BLOCKS.keys():
            raise ValueError(f"AgenticCode.languages={self.languages!r}: name some of {', '.join(_BLOCKS)}")

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> "AgenticEnv":
        return AgenticEnv(self, vocabulary, held_out)


_BLOCKS = {"python": ("Python", ("python", "py", "python3")), "cpp": ("C++", ("cpp", "c++", "cc"))}

_SHELL = (
    "You work in a Linux container without a network, in a shell that keeps its state from call to call. A call that "
    "takes more than {seconds:g} seconds, ends the shell or writes too much ends the session: files stay, the rest is "
    "gone. There are {turns} turns and {tokens} tokens in all.\n\n"
    "You have these tools. Call at most one of them in an answer.\n\n{tools}"
)
_TOOLS = {
    "bash": "Runs commands, which may be many lines and ask nobody anything:\n<tool: bash>\nls\npwd\n</tool>",
    "edit": (
        "Replaces lines of a file; those to search for have to stand in it exactly so, and once:\n"
        "<tool: edit>\npath/of/file\n<<<<<<< SEARCH\nold lines\n=======\nnew lines\n>>>>>>> REPLACE\n</tool>"
    ),
    "create": "Makes a file, in a folder that is there:\n<tool: create>\npath/of/file\nall its lines\n</tool>",
}
_ASK = (
    "Solve this problem in {language}.\n\n{statement}\n\n{how} Try it with your tools. When you are sure of your "
    "solution, answer without a call, with the whole of it in exactly one block:\n```{word}\nYOUR CODE\n```"
)
_PIPED = "The program reads standard input and writes standard output."
_CALLED = "Write what begins with this signature:\n{signature}\n"
_NO_BLOCK = "Your last answer has to hold its solution in exactly one block of {language}; or else call a tool."


@dataclass
class _Work:
    """An episode of `AgenticEnv`."""

    problem: Problem
    language: Language
    tools: tuple[str, ...]
    left: Left
    shell: Shell
    calls: int = 0
    errors: int = 0

    def outcomes(self, passed: int = 0, compiled: bool = False, **more: float) -> dict[str, float]:
        total = len(self.problem.tests)
        return {
            "pass": float(passed == total), "score": passed / total, "format": float(not self.errors),
            "compile": float(compiled), "tools": float(self.calls), **more,
        }  # fmt: skip


class AgenticEnv:
    """The environment of `AgenticCode`; arguments as of its `open`."""

    name = "agentic_code"
    instant = False

    def __init__(self, config: AgenticCode, vocabulary: Vocabulary | None, held_out: bool):
        self._config, self._dialog = config, Dialog(vocabulary, config.max_observation)
        self.stop_ids, self.vocab_size = self._dialog.stop_ids, self._dialog.vocab_size
        if "cpp" in config.languages:
            check_compiler()
        kept = [p for p in problems(config.path) if is_held_out(p.name, config.held_out) == held_out]
        self._problems = {problem.name: problem for problem in kept}
        self._extras = dict(_extras(config.path, config.shell))

    def tasks(self) -> list[Task]:
        return [
            Task(f"{name}/{language}", {"problem": name, "language": language, "plugins": True, "hint": False})
            for name, problem in self._problems.items()
            for language in self._config.languages
            if language == "python" or not problem.signature
        ]

    def start(self, task: Task) -> tuple[_Work, Transition]:
        config, args = self._config, task.args
        problem, language = self._problems[args["problem"]], args["language"]
        files, hint = self._extras[problem.name]
        hint = hint if args.get("hint") is True else args.get("hint") or ""
        tools = _ALL if args.get("plugins", True) else _BASH
        prompt = self._dialog.opening(self._system(tools), _ask(problem, language, hint))
        left = Left(config.max_turns, config.max_context - len(prompt))
        shell = open_shell({**_examples(problem), **files}, config.shell)
        return _Work(problem, language, tools, left, shell), Transition(prompt)

    def step(self, state: _Work, action: Sequence[int]) -> Transition:
        state.left.turns -= 1
        state.left.tokens -= len(action)
        try:
            said = self._dialog.said(action, state.tools)
            if said.call is None:
                return self._judged(state, _solution(said, state.language))
        except FormatError as error:
            state.errors += 1
            if self._config.strict:
                return Transition(over=True, outcomes=state.outcomes(), info={"reason": str(error)})
            return self._go_on(state, self._dialog.reply(action, f"{error}\n\n{state.left}"))
        state.calls += 1
        told = use(state.shell, said.call, self._config.seconds)
        return self._go_on(state, self._dialog.result(action, said.call.name, told, state.left))

    def _go_on(self, state: _Work, observation: tuple[int, ...]) -> Transition:
        state.left.tokens -= len(observation)
        if state.left.turns < 1 or state.left.tokens < 1:
            return Transition(over=True, outcomes=state.outcomes(cut=1.0))
        return Transition(observation, outcomes=state.outcomes())

    def _judged(self, state: _Work, code: str) -> Transition:
        problem = state.problem
        judged = judge(code, state.language, problem.tests, self._config.limits, problem.signature)
        outcomes = state.outcomes(judged.passed, judged.compiled)
        return Transition(over=True, outcomes=outcomes, info={"reason": judged.reason})

    def max_action(self, state: _Work) -> int:
        return min(self._config.max_action, state.left.tokens)

    def close(self, state: _Work) -> None:
        state.shell.close()

    def _system(self, tools: Sequence[str]) -> str:
        told = "\n\n".join(f"## {name}\n{_TOOLS[name]}" for name in tools)
        config = self._config
        return _SHELL.format(seconds=config.seconds, turns=config.max_turns, tokens=config.max_context, tools=told)


def _extras(path: str | Path, limits: Limits) -> Iterator[tuple[str, tuple[dict[str, str], str]]]:
    """Files and hint of each problem of a file, by its name.

    Raises:
      ValueError: they are of a wrong type, or no shell could have the files; it names the line.
    """
    for place, row in rows(path, {}):
        options: dict[str, Any] = {"files": {}, "hint": "", **row}
        check(place, options, {"files": dict, "hint": str})
        check(f"{place}: `files`", options["files"], dict.fromkeys(options["files"], str))
        try:
            open_shell(options["files"], limits)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        yield row["name"], (options["files"], options["hint"])


def _examples(problem: Problem) -> dict[str, str]:
    files = {}
    for number, test in enumerate(problem.tests[: problem.examples], start=1):
        files |= {f"examples/{number}.in": test.stdin, f"examples/{number}.out": test.stdout}
    return files


def _ask(problem: Problem, language: Language, hint: str) -> str:
    name, words = _BLOCKS[language]
    how = _CALLED.format(signature=problem.signature) if problem.signature else _PIPED
    asked = _ASK.format(language=name, statement=problem.statement, how=how, word=words[0])
    return f"{asked}\n\nA hint:\n{hint}" if hint else asked


def _solution(said: Said, language: Language) -> str:
    """The code of a last answer.

    Raises:
      FormatError: it has not exactly one block, or one of another language.
    """
    name, words = _BLOCKS[language]
    block = only_block(said.text)
    if block is None or block[0].lower() not in ("", *words):
        raise FormatError(_NO_BLOCK.format(language=name))
    return block[1]
