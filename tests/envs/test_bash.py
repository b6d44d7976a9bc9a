"""Environments with a shell, played by an agent that says what was written down for it, in real sandboxes."""

import json

import pytest

from cwm_jax.envs import plugins
from cwm_jax.envs.bash import AgenticCode, BashCalculator
from cwm_jax.envs.env import PassOnly, Task
from cwm_jax.inference.request import Completion, Request, Token
from cwm_jax.rl.rollout import Drawing, Failed, rollout
from cwm_jax.sandbox import Limits, SandboxMissing
from cwm_jax.text import special_tokens
from cwm_jax.text.chat import REASONING
from cwm_jax.text.vocabulary import train_vocabulary

CONTROL = [*special_tokens.CWM_IDS]
EOT = "<|eot_id|>"


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary([REASONING] * 3, 500, CONTROL)


def bash(command, name="bash"):
    return f"Hm.\n</think>\n<tool: {name}>\n{command}\n</tool>"


def play(env, vocabulary, task, texts):
    """What the environment says after each of these actions, as text, and its last transition."""
    state, said = env.start(task)
    heard = [vocabulary.decode(said.observation)]
    try:
        for text in texts:
            assert not said.over
            said = env.step(state, [*vocabulary.encode(text), vocabulary.token_id(EOT)])
            heard.append(vocabulary.decode(said.observation))
    finally:
        env.close(state)
    return heard, said


SUM = Task("6 * 7", {"sum": "6 * 7", "answer": 42})


@pytest.mark.parametrize("texts, outcomes", [
    ([bash("echo $((6 * 7))"), "So.</think>42\n"], (1, 1, 1, 1)),
    ([bash("echo $((6 * 7))"), "So.</think>41"], (0, 2 / 3, 1, 1)),
    ([bash("exit"), "So.</think>42"], (1, 1, 1, 1)),
    (["So.</think>42"], (0, 2 / 3, 1, 0)),
    (["42"], (0, 0, 0, 0)),
    ([bash("echo 1"), "42"], (0, 1 / 3, 0, 1)),
    ([bash("echo 1"), bash("echo 42")], (0, 1 / 3, 0, 1)),
    ([bash("echo 1"), "</think>The answer is 42"], (0, 2 / 3, 1, 1)),
    ([bash("x", "edit")], (0, 0, 0, 0)),
])  # fmt: skip
def test_a_sum_in_two_turns(vocabulary, texts, outcomes):
    heard, said = play(BashCalculator().open(vocabulary), vocabulary, SUM, texts)
    names = ("pass", "score", "format", "tool_used")
    assert said.over and tuple(said.outcomes[name] for name in names) == pytest.approx(outcomes)
    assert "What is 6 * 7?" in heard[0] and heard[0].endswith("<think>\n")
    if texts[0] == bash("echo $((6 * 7))"):
        assert "tool: bash<|end_header_id|>\n\n<output>\n42\n</output>" in heard[1] and "turns: 1" in heard[1]


def test_sums_are_right_and_those_held_out_are_others(vocabulary):
    config = BashCalculator(count=300, largest=20)
    learnt, kept = (config.open(vocabulary, held_out).tasks() for held_out in (False, True))
    assert len(learnt) + len(kept) == 300 == len({task.name for task in learnt + kept}) and kept
    assert all(task.args["answer"] == eval(task.args["sum"]) for task in learnt)
    assert learnt == config.open(vocabulary).tasks()
    with pytest.raises(ValueError, match="count=300, largest=9"):
        BashCalculator(count=300, largest=9)


DOUBLE = {
    "name": "double", "statement": "Read a number and print twice that.", "hint": "Multiply by two.",
    "tests": [{"stdin": "2\n", "stdout": "4\n"}, {"stdin": "5\n", "stdout": "10\n"}],
    "files": {"notes/read.me": "Twice!\n"},
}  # fmt: skip
HALF = {
    "name": "half", "statement": "Halve a number.", "signature": "def half(number):",
    "tests": [{"stdin": "4", "stdout": "2.0"}, {"stdin": "1", "stdout": "0.5"}],
}  # fmt: skip
RIGHT = "print(2 * int(input()))"
BLOCK = "<<<<<<< SEARCH\n{}\n=======\n{}\n>>>>>>> REPLACE"
ANSWER = "Done.</think>It is this:\n```python\n{code}\n```"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    path.write_text("\n".join(map(json.dumps, (DOUBLE, HALF))))
    return str(path)


def opened(path, vocabulary, **changes):
    changes = {"held_out": 0.0, "limits": Limits(wall_seconds=30), **changes}
    return AgenticCode(path, **changes).open(vocabulary)


def task(env, name="double/python", **args):
    (found,) = [task for task in env.tasks() if task.name == name]
    return found._replace(args=found.args | args)


def test_a_solution_is_written_tried_and_judged(path, vocabulary):
    env = opened(path, vocabulary)
    heard, said = play(env, vocabulary, task(env), [
        bash("cat notes/read.me; ls examples"),
        bash("s.py\nimport sys\nprint(3 * int(input()))", "create"),
        bash("python3 s.py <examples/1.in | diff - examples/1.out"),
        bash("s.py\n" + BLOCK.format("print(3 * int(input()))", "print(2 * int(input()))"), "edit"),
        bash("python3 s.py <examples/1.in | diff - examples/1.out && echo fine"),
        ANSWER.format(code=RIGHT),
    ])  # fmt: skip
    assert said.over and said.status == "ok"
    assert said.outcomes == {"pass": 1, "score": 1, "format": 1, "compile": 1, "tools": 5}
    assert "<output>\nTwice!\n1.in\n1.out\n</output>" in heard[1] and "turns: 127" in heard[1]
    assert "tool: create" in heard[2] and "s.py is made." in heard[2]
    assert "1c1\n< 6\n---\n> 4" in heard[3]
    assert "     1\timport sys\n     2\tprint(2 * int(input()))" in heard[4]
    assert "<output>\nfine\n</output>" in heard[5]


@pytest.mark.parametrize("answer, outcomes", [
    (ANSWER.format(code="print(4)"), (0, 0.5, 1, 1)),
    (ANSWER.format(code="print("), (0, 0, 1, 0)),
    (ANSWER.format(code="import os\nos.kill(os.getppid(), 9)"), (0, 0, 1, 1)),
    ("</think>```\nprint(2 * int(input()))\n```", (1, 1, 1, 1)),
    ("</think>no code", (0, 0, 0, 0)),
    ("</think>```cpp\nint main() {}\n```", (0, 0, 0, 0)),
    ("</think>```\n1\n```\n```\n2\n```", (0, 0, 0, 0)),
    ("no end of thought", (0, 0, 0, 0)),
    (bash("x", "submit"), (0, 0, 0, 0)),
])  # fmt: skip
def test_last_answers_where_rules_are_strict(path, vocabulary, answer, outcomes):
    env = opened(path, vocabulary)
    _, said = play(env, vocabulary, task(env), [answer])
    names = ("pass", "score", "format", "compile")
    assert said.over and tuple(said.outcomes[name] for name in names) == outcomes
    assert said.info["reason"] or outcomes[0]


def test_a_lenient_environment_tells_what_is_wrong(path, vocabulary):
    env = opened(path, vocabulary, strict=False)
    texts = ["no end", bash("x", "submit"), "</think>no code", ANSWER.format(code=RIGHT)]
    heard, said = play(env, vocabulary, task(env), texts)
    assert said.outcomes["pass"] == 1 and said.outcomes["format"] == 0
    assert "user<|end_header_id|>\n\nYour answer has to hold </think>" in heard[1] and heard[1].endswith("<think>\n")
    assert "no tool submit; you have bash, edit, create" in heard[2] and "turns: 126" in heard[2]
    assert "exactly one block of Python" in heard[3]


def test_a_function_is_called_by_its_tests(path, vocabulary):
    env = opened(path, vocabulary)
    heard, said = play(env, vocabulary, task(env, "half/python"), [
        ANSWER.format(code="def half(number):\n    return number / 2")
    ])  # fmt: skip
    assert said.outcomes["pass"] == 1 and "def half(number):" in heard[0]


def test_options_of_tasks(path, vocabulary):
    env = opened(path, vocabulary)

    def prompt(**args):
        state, said = env.start(task(env, **args))
        env.close(state)
        return vocabulary.decode(said.observation)

    assert "<tool: edit>" in prompt() and "Multiply" not in prompt() and "Look up." in prompt(hint="Look up.")
    assert "<tool: edit>" not in prompt(plugins=False) and "Multiply by two." in prompt(hint=True)
    _, said = play(env, vocabulary, task(env, plugins=False), [bash("a\nb", "create")])
    assert said.over and said.outcomes["format"] == 0


def test_languages_and_tasks_held_out(path, vocabulary):
    names = [task.name for task in opened(path, vocabulary, languages=("python", "cpp")).tasks()]
    assert names == ["double/python", "double/cpp", "half/python"]
    assert opened(path, vocabulary, held_out=1.0).tasks() == []
    assert len(AgenticCode(path, held_out=1.0).open(vocabulary, held_out=True).tasks()) == 2
    with pytest.raises(ValueError, match="'rust'"):
        AgenticCode(path, languages=("rust",))
    with pytest.raises(ValueError, match="vocabulary"):
        opened(path, None)


@pytest.mark.parametrize("field, value, reason", [
    ("files", [], "`files`"), ("files", {"a": 1}, "the field `a`"), ("files", {"../a": ""}, "relative path"),
    ("hint", 1, "`hint`"),
])  # fmt: skip
def test_rows_that_are_none_are_refused_by_line(tmp_path, vocabulary, field, value, reason):
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps({**DOUBLE, field: value}))
    with pytest.raises(ValueError, match=reason) as error:
        opened(path, vocabulary)
    assert f"{path}:1" in str(error.value)


def test_a_cpp_solution(path, vocabulary):
    env = opened(path, vocabulary, languages=("cpp",))
    code = "#include <iostream>\nint main() { long x; std::cin >> x; std::cout << 2 * x; }"
    heard, said = play(env, vocabulary, task(env, "double/cpp"), [
        bash(f"a.cpp\n{code}", "create"), bash("g++ a.cpp && ./a.out <examples/1.in"), f"</think>```cpp\n{code}\n```"
    ])  # fmt: skip
    assert "<output>\n4\n</output>" in heard[2] and said.outcomes["pass"] == 1


@pytest.mark.parametrize("command, why", [
    ("sleep 1000", "more than 2 seconds"), ("yes", "too much"), ("kill -9 $$", "it ended its shell"),
    ("head -c 1000000000 /dev/zero | tr '\\0' '\\377'", "too much"), ("b() { b | b & }; b; sleep 99", "more than 2"),
])  # fmt: skip
def test_faults_are_told_and_the_episode_goes_on(path, vocabulary, command, why):
    env = opened(path, vocabulary, seconds=2.0, max_observation=500)
    texts = [bash("echo 1 >kept"), bash(command), bash("pwd; ls -d kept; printf '\\377'"), ANSWER.format(code=RIGHT)]
    heard, said = play(env, vocabulary, task(env), texts)
    assert "<output>\n[This command ended the session: it" in heard[2] and why in heard[2]
    assert "<output>\n/sandbox\nkept\n\ufffd\n</output>" in heard[3]
    assert said.status == "ok" and said.outcomes["pass"] == 1


def test_turns_and_tokens_come_to_an_end(path, vocabulary):
    env = opened(path, vocabulary, max_turns=2)
    heard, said = play(env, vocabulary, task(env), [bash("true"), bash("true")])
    assert said.over and said.outcomes["cut"] == 1 and said.outcomes["pass"] == 0 and heard[2] == ""
    prompt = len(env.start(task(env))[1].observation)
    env = opened(path, vocabulary, max_context=prompt + 200, max_action=150)
    state, _ = env.start(task(env))
    assert env.max_action(state) == 150
    said = env.step(state, vocabulary.encode(bash("seq 1000")))
    assert said.over and said.outcomes["cut"] == 1
    env.close(state)


def drive(env, vocabulary, task, texts, reward=PassOnly()):  # noqa: B008
    """The trajectory of a rollout whose agent says these texts."""
    texts = iter(texts)
    steps = rollout(
        env, task, reward, Drawing(), name="x", member=0, seed=1, version=lambda: 0, vocab_size=vocabulary.vocab_size
    )
    answer, send = None, steps.send
    while True:
        try:
            wanted = send(answer)
        except StopIteration as end:
            return end.value
        send = steps.send
        if isinstance(wanted, Request):
            ids = [*vocabulary.encode(next(texts)), vocabulary.token_id(EOT)]
            assert len(ids) <= wanted.max_tokens
            answer = Completion(wanted, tuple(Token(token, -1.0, 0) for token in ids), "stop")
            continue
        try:
            answer = wanted.call()
        except Exception as error:
            answer, send = Failed(f"{type(error).__name__}: {error}"), steps.throw


def test_a_rollout_is_one_stretch_of_tokens_and_is_paid(path, vocabulary):
    env = opened(path, vocabulary)
    texts = [bash("exit"), ANSWER.format(code=RIGHT)]
    done = drive(env, vocabulary, task(env), texts)
    (context,) = done.contexts
    assert (done.status, done.reward, len(done.turns)) == ("ok", 1.0, 2)
    end = vocabulary.token_id(EOT)
    for turn, text in zip(done.turns, texts):
        assert list(context.tokens[turn.start : turn.end]) == [*vocabulary.encode(text), end]


def test_what_is_no_fault_of_the_agent_is_not_learnt_from(path, vocabulary, monkeypatch, tmp_path):
    env = opened(path, vocabulary)
    texts = [bash("true"), ANSWER.format(code=RIGHT)]

    class Nan(PassOnly):
        def __call__(self, outcomes, tokens, number=0):
            return float("nan")

    assert "nan" in drive(env, vocabulary, task(env), texts, Nan()).status
    monkeypatch.setenv("PATH", str(tmp_path))
    for some in (texts, texts[1:]):
        done = drive(env, vocabulary, task(env), some)
        assert SandboxMissing.__name__ in done.status and not any(context.rewards.any() for context in done.contexts)


@pytest.mark.parametrize("block, found", [
    (BLOCK.format("b", "x\ny"), "a\nx\ny\nc\na\n"),
    (BLOCK.format("a\nb", "z"), "z\nc\na\n"),
    ("<<<<<<< SEARCH\nb\n=======\n>>>>>>> REPLACE", "a\nc\na\n"),
    (BLOCK.format("a\n", "end\n"), "a\nb\nc\nend\n"),
])  # fmt: skip
def test_edits(tmp_path, block, found):
    file = tmp_path / "file"
    file.write_text("a\nb\nc\na\n")
    told = plugins.edit(f"{file}\n{block}")
    assert file.read_text() == found and "     1\t" in told


@pytest.mark.parametrize("body, reason", [
    (BLOCK.format("a", "x"), "stand in .* 2 times"), (BLOCK.format("A", "x"), "0 times"),
    (BLOCK.format(" b", "x"), "0 times"), ("b\n=======\nx", "one block"), ("", "one block"),
    (BLOCK.format("b", "x") + "\n" + BLOCK.format("c", "y"), "one block"),
    ("<<<<<<< SEARCH\n=======\nx\n>>>>>>> REPLACE", "nothing to search"),
    ("x\n" + BLOCK.format("b", "x"), "one block"),
])  # fmt: skip
def test_edits_that_are_refused(tmp_path, body, reason):
    file = tmp_path / "file"
    file.write_text("a\nb\nc\na\n")
    with pytest.raises(plugins.Refused, match=reason):
        plugins.edit(f"{file}\n{body}")
    assert file.read_text() == "a\nb\nc\na\n"
    with pytest.raises(plugins.Refused, match="no file"):
        plugins.edit(f"{file}x\n{BLOCK.format('a', 'b')}")


def test_an_edit_shows_eight_lines_around_it_and_keeps_other_bytes(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"\xff\r\n" + b"\n".join(b"%d" % n for n in range(2, 41)))
    told = plugins.edit(f"{file}\n{BLOCK.format('20', 'x')}").splitlines()
    assert (told[1], told[-1], len(told)) == ("    12\t12", "    28\t28", 18)
    assert file.read_bytes().startswith(b"\xff\r\n2\n") and file.read_bytes().endswith(b"\n40")


def test_creating(tmp_path):
    file = tmp_path / "file"
    plugins.create(f"{file}\na\n\n  b")
    assert file.read_text() == "a\n\n  b\n"
    with pytest.raises(plugins.Refused, match="there already"):
        plugins.create(f"{file}\nx")
    with pytest.raises(plugins.Refused, match="no folder"):
        plugins.create(f"{file}x/y\nx")
    plugins.create(str(tmp_path / "empty"))
    assert (tmp_path / "empty").read_text() == ""
