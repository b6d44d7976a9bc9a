"""Mathematics: what counts as an answer, and what counts as right."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.envs import maths
from cwm_jax.envs.maths import Arithmetic, Maths, equal
from cwm_jax.sandbox import Limits, SandboxError
from cwm_jax.text import special_tokens
from cwm_jax.text.chat import REASONING
from cwm_jax.text.vocabulary import train_vocabulary

PATH = "experiments/rl/maths.jsonl"
CONTROL = [*special_tokens.CWM_IDS]


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary([REASONING] * 3, 400, CONTROL)


def answer(env, vocabulary, task, text):
    state, _ = env.start(task)
    return env.step(state, [*vocabulary.encode(text), vocabulary.token_id("<|eot_id|>")])


def test_the_prompt_is_that_of_the_release(vocabulary):
    env = Maths(PATH, held_out=0).open(vocabulary)
    state, began = env.start(next(task for task in env.tasks() if task.name == "circle"))
    assert vocabulary.decode(began.observation) == (
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{REASONING}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nA circle has a circumference of $10\\pi$. What is its area?\n\n"
        "Wrap your answer in $\\boxed{}$.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>\n"
    )
    assert not began.over and env.max_action(state) == 65_536


@pytest.mark.parametrize(("text", "form", "right"), [
    ("16.\n</think>\nIt is $\\boxed{16}$.", 1, 1),
    ("\\boxed{3}?\n</think>\n$\\boxed{16}$", 1, 1),  # the box in the thought is nobody's business
    ("</think>\\boxed{ 16.0 }", 1, 1),
    ("</think>\\boxed{17}", 1, 0),
    ("</think>\\boxed{}", 1, 0),
    ("$\\boxed{16}$", 0, 0),
    ("</think></think>$\\boxed{16}$", 0, 0),
    ("</think>$\\boxed{16}$ or $\\boxed{17}$", 0, 0),
    ("</think>16", 0, 0),
    ("</think>\\boxed{16", 0, 0),
    ("", 0, 0),
])  # fmt: skip
def test_one_end_of_thought_and_one_box_after_it_are_an_answer(vocabulary, text, form, right):
    env = Maths(PATH, held_out=0).open(vocabulary)
    task = next(task for task in env.tasks() if task.name == "rope")
    done = answer(env, vocabulary, task, text)
    assert done.over and done.outcomes == {"pass": right, "score": right, "format": form}


@pytest.mark.parametrize(("right", "wrong"), [
    ("0.5", "2"), (r"\sqrt{8}", "8"), ("1+x", "1-x"), ("(0,4]", "[0,4]"), (r"\{5,2\}", r"\{5\}"),
])  # fmt: skip
def test_the_same_may_be_written_in_other_ways(right, wrong):
    wanted = {
        "0.5": r"\frac{1}{2}",
        r"\sqrt{8}": r"2\sqrt 2",
        "1+x": "x + 1",
        "(0,4]": "(0, 4]",
        r"\{5,2\}": r"\{2,5\}",
    }
    assert equal(wanted[right], right) and not equal(wanted[right], wrong)


@pytest.mark.parametrize("answer", [
    "7$ $5", "7} 5", r"7\]\[5", "7, 5", "7 or 5", "5 = 7", r"7 \therefore 5", "7 final answer is 5. I hope", "7\n\n5",
    "7}$ so the answer is $5", "7 or $5$; exit(0)", "__import__('os')._exit(0)", '"right"',
])  # fmt: skip
def test_a_box_that_holds_more_than_the_answer_is_wrong(answer):
    assert not equal("5", answer)


def test_what_keeps_the_verifier_busy_is_wrong_in_bounded_time(monkeypatch):
    monkeypatch.setattr(maths, "_VERIFYING", Limits(wall_seconds=3, memory_mb=2048))
    began = time.monotonic()
    assert not equal("3", "10^{10^{10^{10}}}") and not equal("3", "9999999999!")
    assert time.monotonic() - began < 10


def test_a_verifier_that_does_not_start_is_no_fault_of_the_answer(monkeypatch):
    monkeypatch.setattr(maths, "_VERIFY", maths._VERIFY.replace("math_verify", "no_such_module"))
    with pytest.raises(SandboxError, match="no_such_module"):
        equal("5", "x")


@given(st.fractions(max_denominator=999), st.integers(-9, 9))
def test_plain_numbers_need_no_verifier(number, other):
    assert equal(str(number), f"{number.numerator * 3}/{number.denominator * 3}")
    assert equal(str(other), f"{other}.0") and not equal(str(other), str(other + 1))


def test_every_problem_has_an_answer_that_can_be_read():
    rows = [json.loads(line) for line in Path(PATH).read_text().splitlines()]
    assert len(rows) == 20
    for row in rows:
        if not row["answer"].isdigit():  # in other words, so that texts alone would not do
            assert equal(row["answer"], row["answer"] + r"\,"), row


def test_made_up_problems_are_learnt_from_or_held_out_never_both(vocabulary):
    config = Arithmetic(count=400, terms=3, largest=20, held_out=0.25)
    learn, measure = config.open(vocabulary).tasks(), config.open(vocabulary, held_out=True).tasks()
    other = Arithmetic(count=400, terms=3, largest=20, held_out=0.25, seed=1).open(vocabulary).tasks()
    names = {task.name for task in measure}
    assert len(learn) + len(measure) == 400 and 60 < len(measure) < 140
    assert names.isdisjoint(task.name for task in [*learn, *other])
    assert config.open(vocabulary).tasks() == learn != other


def test_made_up_problems_are_right(vocabulary):
    env = Arithmetic(count=50).open(vocabulary)
    for task in env.tasks():
        one, sign, two = task.name.split()
        value = {"+": int(one) + int(two), "-": int(one) - int(two), "*": int(one) * int(two)}[sign]
        assert answer(env, vocabulary, task, f"</think>$\\boxed{{{value}}}$").outcomes["pass"] == 1
        assert answer(env, vocabulary, task, f"</think>$\\boxed{{{value + 1}}}$").outcomes["pass"] == 0


@pytest.mark.parametrize("wrong", [{"count": 0}, {"terms": 1}, {"largest": 0}, {"count": 500, "largest": 9}])
def test_more_problems_than_there_are_cannot_be_asked(wrong):
    with pytest.raises(ValueError, match="lower count"):
        Arithmetic(**wrong)


@pytest.mark.parametrize(("line", "message"), [
    ("{", r":2: no JSON"),
    ("[]", r":2: list, no object; write one with name, problem, answer"),
    ('{"name": "b", "problem": "1?"}', r":2: the field `answer` is missing"),
    ('{"name": "b", "problem": "1?", "answer": 1}', r":2: the field `answer` is of type int; write .* type str"),
    ('{"name": "a", "problem": "1?", "answer": "1"}', r":2: the name 'a' stands in an earlier line"),
])  # fmt: skip
def test_a_line_that_is_no_problem_is_named(vocabulary, tmp_path, line, message):
    path = tmp_path / "maths.jsonl"
    path.write_text('{"name": "a", "problem": "1+1?", "answer": "2"}\n' + line)
    with pytest.raises(ValueError, match=message):
        Maths(str(path)).open(vocabulary)


def test_a_vocabulary_without_turns_is_refused():
    with pytest.raises(ValueError, match="eot_id"):
        Arithmetic().open(train_vocabulary(["some text"], 300, []))
    with pytest.raises(ValueError, match="needs the vocabulary of a model"):
        Arithmetic().open(None)
