"""Contest problems: the real compiler and the real sandbox, solutions that are right, wrong and up to no good."""

import json
import time
from pathlib import Path

import pytest
from contest_solutions import SOLUTIONS

from cwm_jax.envs import contest, piped
from cwm_jax.envs.contest import CompilerMissing, Contest, Test, judge, problems
from cwm_jax.sandbox import Limits, SandboxError
from cwm_jax.text import special_tokens
from cwm_jax.text.chat import REASONING
from cwm_jax.text.vocabulary import train_vocabulary

PATH = "experiments/rl/problems.jsonl"
PROBLEMS = {problem.name: problem for problem in problems(PATH)}
DOUBLE = [Test("1\n", "2\n"), Test("-4\n", "-8\n"), Test("50\n", "100\n")]
FAST = Limits(wall_seconds=3, cpu_seconds=2)


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary([REASONING] * 3, 400, [*special_tokens.CWM_IDS])


def test_the_problems_are_as_many_as_they_should_be():
    assert len(PROBLEMS) == 12 and PROBLEMS.keys() == SOLUTIONS.keys()
    assert all(len(problem.tests) >= 3 for problem in PROBLEMS.values())


@pytest.mark.parametrize("name", PROBLEMS)
def test_two_solutions_written_apart_agree_with_every_test(name):
    for language, code in zip(("python", "cpp"), SOLUTIONS[name]):
        judged = judge(code, language, PROBLEMS[name].tests, Limits())
        assert judged.passed == judged.total == len(PROBLEMS[name].tests) and judged.reason == "", (language, judged)


def test_the_share_of_tests_and_the_first_that_fails_are_told():
    judged = judge("print(abs(2 * int(input())))", "python", DOUBLE, FAST)
    assert judged[:2] == (2, 3) and judged.failed == 1 and judged.compiled
    assert judged.reason == "Test 2 fails: the output is wrong.\nInput:\n-4\n\nExpected:\n-8\n\nOutput:\n8\n"


@pytest.mark.parametrize(("output", "right"), [
    ("1 2\n3\n", True), ("1 2\n3", True), ("1 2  \n3\t\n\n\n", True), ("1 2\r\n3\r\n", True),
    ("1  2\n3\n", False), (" 1 2\n3\n", False), ("1 2\n\n3\n", False), ("1 2 3\n", False), ("", False),
])  # fmt: skip
def test_only_space_at_the_ends_of_lines_is_nobodys_business(output, right):
    assert judge(f"print({output!r}, end='')", "python", [Test("", "1 2\n3\n")], FAST).passed == right


@pytest.mark.parametrize(("language", "code", "said"), [
    ("python", "n = int(input(\nprint(n * 2)", "SyntaxError"),
    ("python", "x = '\0'", "null bytes"),
    ("cpp", "int main() { retrun 0; }", "error: 'retrun' was not declared"),
    ("cpp", "int f() { return 1; }", "main"),  # does not link
    ("cpp", '#include "/etc/shadow"\nint main() {}', "fatal error"),
    ("cpp", "#include </dev/zero>\nint main() {}", ""),
    ("cpp", "template<int n> struct A : A<n+1> {}; A<0> a; int main() {}", "template"),
])  # fmt: skip
def test_what_does_not_compile_says_why_in_short(language, code, said):
    judged = judge(code, language, DOUBLE, FAST)
    assert judged[:2] == (0, 3) and not judged.compiled and judged.failed is None
    assert said in judged.reason.replace("‘", "'").replace("’", "'") and len(judged.reason) < 600, judged.reason


CHEATS = {
    "exit": "import sys; sys.exit(0)",
    "exit at once": "import os; os._exit(0)",
    "hang": "while True: pass",
    "sleep": "import time; time.sleep(99)",
    "endless output": "while True: print('2' * 9999)",
    "endless errors": "import sys\nwhile True: sys.stderr.write('x' * 9999)",
    "memory": "x = [0] * 10**10",
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "right, but with a status": "print(2 * int(input())); raise SystemExit(3)",
    "kills the shell it runs in": "import os; print(2 * int(input()), flush=True); os.kill(os.getppid(), 9)",
    "kills all it can": "import os; print(2 * int(input()), flush=True); os.kill(-1, 9)",
    "raises": "print(2 * int(input())); raise ValueError",
    "reads its own judge": "import glob; print(open(glob.glob('/tmp/*/*.jsonl')[0]).read())",
    "a huge hole": "import os; os.ftruncate(1, 10**12)",
    "no text": "import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\0')",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheats_fail_in_bounded_time(cheat):
    began = time.monotonic()
    judged = judge(CHEATS[cheat], "python", DOUBLE, FAST)
    assert judged.passed == 0 and judged.failed == 0 and judged.compiled
    assert time.monotonic() - began < 20 and len(judged.reason) < 3000


def test_what_one_test_writes_the_next_does_not_see(tmp_path):
    code = f"""
import os
found = [f for f in ("note", "/tmp/note", "/dev/shm/note", {str(tmp_path / "note")!r}) if os.path.exists(f)]
for place in ("note", "/tmp/note", "/dev/shm/note", {str(tmp_path / "note")!r}, __file__):
    try:
        open(place, "w").write("seen")
    except OSError:
        pass
print(2 * int(input()) if not found else found)
"""
    assert judge(code, "python", DOUBLE, FAST).passed == 3
    assert not (tmp_path / "note").exists()


def test_a_solution_may_say_much_about_its_work():
    code = "import sys\nsys.stderr.write('x' * 200_000)\nprint(2 * int(input()))"
    assert judge(code, "python", DOUBLE, FAST).passed == 3
    judged = judge(code + "\nint('seven')", "python", DOUBLE, FAST)
    assert "[...]" in judged.reason and judged.reason.endswith("'seven'") and len(judged.reason) < 700


def test_after_a_hang_the_other_tests_are_not_tried():
    code = "n = int(input())\nwhile n < 0: pass\nprint(2 * n)"
    judged = judge(code, "python", [*DOUBLE, *DOUBLE * 50], Limits(wall_seconds=1, cpu_seconds=20))
    assert judged.passed == 1 and judged.failed == 1 and "longer than 1 seconds" in judged.reason


def test_a_sandbox_that_does_not_start_is_nobodys_fault():
    with pytest.raises(SandboxError, match="does not start"):
        piped.run(["true"], b"", FAST, readable=["/no/such/path"])
    forged = piped.run(["/bin/sh", "-c", "echo 'bwrap: cannot start' >&2; exit 1"], b"", FAST)
    assert forged.status == 1


def test_without_a_compiler_it_is_told_what_to_install(monkeypatch, vocabulary):
    monkeypatch.setattr(contest.shutil, "which", lambda *_, **__: None)
    with pytest.raises(CompilerMissing, match=r"apt-get install g\+\+"):
        judge("int main() {}", "cpp", DOUBLE, FAST)
    with pytest.raises(CompilerMissing, match=r"apt-get install g\+\+"):
        Contest(PATH, languages=("cpp",)).open(vocabulary)


@pytest.mark.parametrize(("signature", "code", "right"), [
    ("def double(n: int) -> int:", "def double(n: int) -> int:\n    return 2 * n", True),
    ("class Solution:\n    def double(self, n):", "class Solution:\n    def double(self, n): return n + n", True),
    ("def double(n):", "def double(n): return n", False),
    ("def double(n):", "def halve(n): return 2 * n", False),
    ("def double(n):", "def double(n):\n    print(2 * n)\n    return 2 * n", False),
])  # fmt: skip
def test_functions_are_called_with_json(signature, code, right):
    assert judge(code, "python", DOUBLE, FAST, signature).passed == (3 if right else 0)


class Talking:
    """An episode, in text."""

    def __init__(self, env, vocabulary, name):
        self._env, self._vocabulary = env, vocabulary
        self.task = next(task for task in env.tasks() if task.name == name)
        self.state, self.said = env.start(self.task)
        self.prompt = vocabulary.decode(self.said.observation)

    def say(self, text, end="<|eot_id|>"):
        ids = [*self._vocabulary.encode(text), *([self._vocabulary.token_id(end)] if end else [])]
        self.said = self._env.step(self.state, ids)
        return self._vocabulary.decode(self.said.observation)


def block(code, language="python"):
    return f"I think.\n</think>\nHere it is:\n\n```{language}\n{code}\n```"


def test_the_prompt_is_that_of_the_release(vocabulary):
    env = Contest(PATH, ("python", "cpp"), held_out=0).open(vocabulary)
    assert len(env.tasks()) == 24 and env.max_action(None) == 65_536
    assert [vocabulary.decode([stop]) for stop in env.stop_ids] == ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]
    assert Talking(env, vocabulary, "count_letter/cpp").prompt == (
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{REASONING}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nProvide a C++ solution for the following competitive programming "
        f"question: {PROBLEMS['count_letter'].statement}.\nYour code should be enclosed in triple backticks like so: "
        "```cpp YOUR CODE HERE ```. Use the backticks for your code only. Your code should read from and write to "
        "standard io.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>\n"
    )
    assert "a Python solution" in Talking(env, vocabulary, "count_letter/python").prompt


def test_a_right_answer_passes_in_each_language(vocabulary):
    env = Contest(PATH, ("python", "cpp"), held_out=0).open(vocabulary)
    for language, code in zip(("python", "cpp"), SOLUTIONS["count_letter"]):
        talking = Talking(env, vocabulary, f"count_letter/{language}")
        assert talking.say(block(code, language)) == "" and talking.said.over
        assert talking.said.outcomes == {"pass": 1, "score": 1, "tests_passed": 5, "format": 1, "compile": 1}


@pytest.mark.parametrize("text", [
    "```python\nprint(3)\n```",
    "</think>" + block("print(3)"),
    block("print(3)") + "\n```\nprint(4)\n```",
    "I think.\n</think>\nprint(3)",
    "I think.\n</think>\n```python\nprint(3)",
    "```python\nprint(3)\n```\n</think>\nAs above.",
    "",
])  # fmt: skip
def test_any_other_format_fails_and_ends_the_episode(vocabulary, text):
    talking = Talking(Contest(PATH, held_out=0, attempts=3).open(vocabulary), vocabulary, "count_letter/python")
    talking.say(text)
    assert talking.said.over and talking.said.status == "ok"
    assert talking.said.outcomes == {"pass": 0, "score": 0, "tests_passed": 0, "format": 0, "compile": 0}


def test_before_the_last_attempt_it_is_told_what_is_wrong(vocabulary):
    talking = Talking(Contest(PATH, held_out=0, attempts=3).open(vocabulary), vocabulary, "count_letter/python")
    told = talking.say(block("print(("))
    assert not talking.said.over and talking.said.outcomes["compile"] == 0
    assert told.startswith("<|start_header_id|>user<|end_header_id|>\n\nThe code does not compile:") and "'('" in told
    assert told.endswith("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>\n")
    told = talking.say(block("print(len(input()))"), end=None)  # cut, or just without an end
    assert told.startswith("<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nTest 1 fails: the output is wrong.")
    assert "strawberry" in told and "mississippi" not in told and not talking.said.over
    assert talking.say(block("print(7)")) == "" and talking.said.over and talking.said.outcomes["pass"] == 0


def test_what_the_examples_do_not_show_is_not_told(vocabulary):
    talking = Talking(Contest(PATH, held_out=0, attempts=3).open(vocabulary), vocabulary, "count_letter/python")
    assert talking.say(block("print(3)")) == "" and talking.said.over
    assert talking.said.outcomes["score"] == 0.2


def test_what_the_agent_said_is_not_encoded_again(vocabulary):
    """Letter by letter, as no encoding would be: the reply holds only what the environment says."""
    env = Contest(PATH, held_out=0, attempts=2).open(vocabulary)
    talking = Talking(env, vocabulary, "count_letter/python")
    letters = [token for letter in block("print(4)") for token in vocabulary.encode(letter)]
    told = env.step(talking.state, letters).observation
    assert vocabulary.decode(told).count("<think>") == 1 and "print(4)" not in vocabulary.decode(told)


def test_problems_are_learnt_from_or_held_out_never_both(vocabulary):
    config = Contest(PATH, held_out=0.4)
    learn, measure = config.open(vocabulary).tasks(), config.open(vocabulary, held_out=True).tasks()
    assert {task.name for task in learn}.isdisjoint(task.name for task in measure)
    assert len(learn) + len(measure) == 12 and learn and measure


def test_signatures_are_asked_in_python_alone(vocabulary, tmp_path):
    row = {"name": "double", "statement": "Double it", "tests": [{"stdin": "1", "stdout": "2"}], "examples": 0}
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps(row | {"signature": "def double(n):"}))
    env = Contest(str(path), ("python", "cpp"), held_out=0, attempts=2).open(vocabulary)
    assert [task.name for task in env.tasks()] == ["double/python"]
    talking = Talking(env, vocabulary, "double/python")
    assert "code only. Use the provided function signature: def double(n):<|eot_id|>" in talking.prompt
    talking.say(block("def double(n): return 2 * n"))
    assert talking.said.outcomes["pass"] == 1


GOOD = {"name": "a", "statement": "?", "tests": [{"stdin": "", "stdout": ""}]}


@pytest.mark.parametrize(("wrong", "message"), [
    ({"name": 3}, "the field `name` is of type int; write a value of type str"),
    ({"tests": []}, "`tests` is empty"),
    ({"tests": [{"stdin": ""}]}, r"`tests\[0\]`: the field `stdout` is missing"),
    ({"tests": ["1"]}, r"`tests\[0\]`: str, no object"),
    ({"signature": "double"}, "`signature` defines no function"),
    ({"examples": True}, "the field `examples` is of type bool"),
])  # fmt: skip
def test_a_line_that_is_no_problem_is_named(tmp_path, wrong, message):
    path = tmp_path / "problems.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(GOOD | {'name': 'b'} | wrong)}\n")
    with pytest.raises(ValueError, match=f"problems.jsonl:3: {message}"):
        problems(Path(path))


@pytest.mark.parametrize("wrong", [
    {"languages": ()}, {"languages": ("rust",)}, {"languages": ("cpp", "cpp")}, {"attempts": 0}, {"held_out": 1.5},
])  # fmt: skip
def test_a_configuration_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Contest(PATH, **wrong)
