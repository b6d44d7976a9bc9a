"""Imagination saves executions, and nothing else changes: what passes has really passed."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.envs.env import PassOnly, Task, Transition
from cwm_jax.envs.imagined import Attempt, Imagined, Memory, Prediction, Remembered
from cwm_jax.envs.inputs import Called, Came, InputPrediction
from cwm_jax.envs.reverse import ANSWER, BEGIN, END, Reverse
from cwm_jax.envs.traces import Generated
from cwm_jax.inference.request import Completion, Token
from cwm_jax.rl.rollout import Act, Drawing, rollout
from cwm_jax.text.vocabulary import train_vocabulary

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import imagined as benchmark

SIZE, RIGHT, WRONG, CAUGHT = 20, 7, 18, 19
GUESSES = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@dataclass(frozen=True)
class Guess:
    """A hidden number; the agent hears how many guesses it has left. Its own environment, which counts episodes."""

    attempts: int = 6
    broken: bool = False
    open_now: list = field(default_factory=list, compare=False)
    name, stop_ids, vocab_size, instant = "guess", (), SIZE, True

    def open(self, vocabulary, held_out=False):
        return self

    def tasks(self):
        return [Task("only")]

    def start(self, task):
        state = SimpleNamespace(left=self.attempts)
        self.open_now.append(state)
        return state, Transition((17,))

    def step(self, state, action):
        assert state in self.open_now and state.left
        state.left -= 1
        right = float(list(action) == [RIGHT])
        over = bool(right) or state.left == 0
        outcomes = {"pass": right, "score": right, "left": float(state.left)}
        status = "broken" if self.broken else "ok"
        return Transition(
            () if over else (WRONG, state.left), over, outcomes, status=status, info={"said": list(action)}
        )

    def max_action(self, state):
        return 1

    def close(self, state):
        self.open_now.remove(state)


@dataclass(frozen=True)
class Says:
    """A predictor without memory: one that lies says that all fails, else it is perfect."""

    lies: bool = False
    observation: tuple[int, ...] = (CAUGHT, CAUGHT)
    instant = True

    def open(self, env, vocabulary):
        return self

    def __call__(self, attempt):
        return Prediction(float(attempt.action == (RIGHT,) and not self.lies), self.observation)

    def learn(self, attempt, transition):
        pass


def play(env, actions, turns=None, task=None):
    """The trajectory of an agent that says these, token by token if numbers."""
    said = [[action] if isinstance(action, int) else list(action) for action in actions]
    one = rollout(env, task or env.tasks()[0], PassOnly(), Drawing(max_turns=turns or len(said)), name="one", member=0,
                  seed=0, version=lambda: 0, vocab_size=env.vocab_size)  # fmt: skip
    given, script = None, iter(said)
    try:
        while True:
            asked = one.send(given)
            given = asked.call() if isinstance(asked, Act) else _complete(asked, next(script))
    except StopIteration as end:
        return end.value


def _complete(asked, ids):
    return Completion(asked, tuple(Token(token, -0.5, 0) for token in ids), "stop")


def told(trajectory):
    return [context.tokens.tolist() for context in trajectory.contexts]


@given(guesses=GUESSES, lies=st.booleans(), check=st.floats(0, 1))
def test_at_threshold_one_all_is_executed(guesses, lies, check):
    plain = play(Guess(), guesses)
    wrapped = play(Imagined(Guess(), Says(lies), 1.0, check=check).open(None), guesses)
    assert told(wrapped) == told(plain) and wrapped.reward == plain.reward
    assert wrapped.outcomes == plain.outcomes | {
        "real": len(plain.turns), "imagined": 0, "saved": 0, "checked": 0, "wrong": 0, "inexact": 0
    }  # fmt: skip


@given(guesses=GUESSES)
def test_a_perfect_predictor_saves_what_fails_and_nothing_else(guesses):
    plain = play(Guess(), guesses)
    wrapped = play(Imagined(Guess(), Says(), 0.5, attempts=6, check=0.0).open(None), guesses)
    assert wrapped.outcomes["pass"] == plain.outcomes["pass"] and wrapped.reward == plain.reward
    assert wrapped.outcomes["real"] == wrapped.outcomes["pass"]
    assert wrapped.outcomes["saved"] == wrapped.outcomes["imagined"] == len(plain.turns) - wrapped.outcomes["pass"]


@given(guesses=GUESSES)
def test_a_liar_is_found_out_by_checks_of_which_the_agent_hears_nothing(guesses):
    blind, seen = (
        play(Imagined(Guess(), Says(lies=True), 0.5, attempts=6, check=check).open(None), guesses) for check in (0, 1)
    )
    assert told(blind) == told(seen) and blind.reward == seen.reward == -1
    assert seen.outcomes["wrong"] == guesses.count(RIGHT) and blind.outcomes["wrong"] == 0
    assert seen.outcomes["inexact"] == len(guesses) - guesses.count(RIGHT)  # it goes on, but does not say that
    assert seen.outcomes["real"] == seen.outcomes["checked"] == len(guesses) == blind.outcomes["saved"]
    assert seen.outcomes["saved"] == blind.outcomes["real"] == 0


def test_a_true_observation_is_exact():
    env = Imagined(Guess(), Says(observation=(WRONG, 5)), 0.5, check=1.0).open(None)
    assert play(env, [1]).outcomes["inexact"] == 0


def test_after_the_last_attempt_to_imagine_all_is_executed():
    found = play(Imagined(Guess(), Says(lies=True), 0.5, attempts=2, check=0.0).open(None), [1, 2, RIGHT])
    assert found.outcomes["pass"] == 1 and found.outcomes["real"] == 1 and found.outcomes["saved"] == 2
    assert found.info == {"said": [RIGHT], "imagined": [0, 1]}


def test_a_check_does_again_what_was_done_before_and_closes_what_it_opened():
    config = Guess()
    predictor = Remembered().open(config, None)

    @dataclass(frozen=True)
    class Late(Says):
        def __call__(self, attempt):
            return Prediction(0.0, (WRONG, 4)) if attempt.action == (2,) else None

        def learn(self, attempt, transition):
            predictor.learn(attempt, transition)

    found = play(Imagined(config, Late(), 0.5, check=1.0).open(None), [1, 2, RIGHT])
    # 1 for real; for the check 1 and 2 in another episode, which hears what was imagined; then the right one.
    assert found.outcomes["real"] == 4 and found.outcomes["checked"] == 1 and found.outcomes["inexact"] == 0
    assert not config.open_now
    assert predictor(Attempt(Task("only"), (17, 1, WRONG, 5), (2,))) == Prediction(0.0, (WRONG, 4))


def test_a_check_that_breaks_is_none():
    config = Guess(broken=True)
    env = Imagined(config, Says(), 0.5, check=1.0).open(None)
    state, _ = env.start(env.tasks()[0])
    done = env.step(state, [1])
    assert done.outcomes["checked"] == 0 and done.outcomes["real"] == 1 and done.outcomes["saved"] == 0
    assert done.outcomes["pass"] == 0 and done.status == "ok"  # the agent's episode goes on


def test_the_share_that_is_checked_is_that_of_the_configuration():
    env = Imagined(Guess(), Says(lies=True), 0.5, attempts=10**6, check=0.3).open(None)
    state, _ = env.start(Task("only"))
    rng = Random(0)
    last = [env.step(state, [rng.randrange(10) for _ in range(8)]) for _ in range(2000)][-1]
    assert last.outcomes["checked"] == pytest.approx(600, abs=80)
    assert last.outcomes["checked"] + last.outcomes["saved"] == last.outcomes["imagined"] == 2000


def test_what_a_group_has_seen_to_fail_is_not_run_again():
    env = Imagined(Reverse(letters=5, length=2, count=1), check=0.0).open(None)
    assert env.instant and env.name == "imagined-reverse"
    letters = env.tasks()[0].args["text"]
    right, false = [*(3 + letter for letter in letters[::-1]), END], [3, END]
    first, second, third = (play(env, actions) for actions in ([false], [false, right], [right]))
    assert [one.outcomes["real"] for one in (first, second, third)] == [1, 1, 1]
    assert second.outcomes["saved"] == 1 and second.outcomes["pass"] == third.outcomes["pass"] == 1
    prompt = [BEGIN, *(3 + letter for letter in letters), ANSWER]
    assert told(second) == [[*prompt, *false, *prompt, *right]]  # the end has no words, so it is asked once more


def test_memory_tells_histories_apart_and_forgets_the_oldest():
    memory = Memory(2)
    attempts = [Attempt(Task("one"), (number,), (1,)) for number in range(3)]
    for attempt in attempts:
        memory.learn(attempt, Transition(attempt.history, outcomes={"pass": 1.0}))
    assert [memory(attempt) for attempt in attempts] == [None, Prediction(1.0, (1,)), Prediction(1.0, (2,))]


@given(guesses=GUESSES)
def test_imagined_words_can_be_kept_from_a_loss_on_what_was_really_said(guesses):
    @dataclass(frozen=True)
    class Sometimes(Says):
        def __call__(self, attempt):
            return Prediction(0.0, self.observation) if attempt.action[0] % 2 else None

    real = sum(guess % 2 == 0 for guess in guesses) + 1
    env = Imagined(Guess(attempts=real), Sometimes(), 0.5, attempts=6, check=0.0).open(None)
    found = play(env, [*guesses, 0])
    (context,) = found.contexts
    observed = ~context.agent
    ends = [turn.start for turn in found.turns[1:]] + [len(context.tokens)]
    numbers = [number for number, turn in enumerate(found.turns) if context.tokens[turn.start] % 2]
    assert found.info["imagined"] == numbers
    for number in numbers:
        observed[found.turns[number].end : ends[number]] = False
    assert CAUGHT not in context.tokens[observed]
    assert np.isin(context.tokens[~context.agent & ~observed], CAUGHT).all()


@pytest.mark.parametrize("knobs", [{"threshold": 1.1}, {"check": -0.1}, {"attempts": -1}])
def test_impossible_settings_are_refused(knobs):
    with pytest.raises(ValueError, match=next(iter(knobs))):
        Imagined(Guess(), **knobs)


CONTEXT = "\ndef f(a, b=0):\n    return a + b\ndef main():  # << START_OF_TRACE\n    return f(2, 3)\n"


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary([CONTEXT, "# f(?) returns 5\nf(1, 4) raises TypeError('')"] * 20, 330, ())


@dataclass(frozen=True)
class Only:
    """One program."""

    isolation = Generated.isolation

    def contexts(self, held_out):
        yield "only", CONTEXT


@pytest.mark.parametrize(("text", "came"), [
    ("2, 3", "returns 5"),
    ("5", "returns 5"),
    ("b=9, a=-4", "returns 5"),
    ("1, 1", "returns 2"),
    ("'1', 1", """raises TypeError('can only concatenate str (not "int") to str')"""),
    ("", "raises TypeError(\"f() missing 1 required positional argument: 'a'\")"),
    ("'<|end_of_text|>'", "cannot be run"),
    ("2, 3) + (0", "is not written in literals"),
    ("2, 3)\n#", "is not written in literals"),
    ("2, 2  # << START_OF_TRACE", "returns 4"),
    ("__import__('os').getpid()", "is not written in literals"),
    ("*[2, 3]", "is not written in literals"),
    ("2,, 3", "is not written in literals"),
    ("(" * 5000, "is not written in literals"),
])  # fmt: skip
def test_an_input_is_judged_by_running_it(vocabulary, text, came):
    env = InputPrediction(Only(), attempts=2).open(vocabulary)
    state, began = env.start(env.tasks()[0])
    assert vocabulary.decode(began.observation[1:]) == "\ndef f(a, b=0):\n    return a + b\n# f(?) returns 5\nf("
    done = env.step(state, [*vocabulary.encode(text), vocabulary.eos_id])
    right = came == "returns 5"
    assert done.info == {"came": came, "wanted": "5"} and done.over == right
    assert done.outcomes == {"pass": right, "score": right, "format": came != "is not written in literals"}
    if not right:
        assert vocabulary.decode(done.observation) == f") {came}\nf("
        assert env.step(state, vocabulary.encode(text)).over  # as it may be cut, and the last attempt


def test_programs_that_do_not_return_one_call_are_refused(vocabulary):
    with pytest.raises(ValueError, match="return FUNCTION"):
        Called.of("def main():  # << START_OF_TRACE\n    x = 1\n    return f(x)\n")
    with pytest.raises(ValueError, match="return FUNCTION"):
        Called.of("x = 1\n")
    with pytest.raises(ValueError, match="vocabulary"):
        InputPrediction().open(None)
    with pytest.raises(ValueError, match="attempts"):
        InputPrediction(attempts=0)


def test_every_generated_program_has_an_input_that_passes(vocabulary):
    env = InputPrediction(Generated(count=3, held_out=0)).open(vocabulary)
    for task in env.tasks():
        hidden = task.args["context"].rpartition("return ")[2].strip().partition("(")[2][:-1]
        assert play(env, [[*vocabulary.encode(hidden), vocabulary.eos_id]], task=task).outcomes["pass"] == 1


def test_an_input_is_imagined_by_what_was_seen(vocabulary):
    env = Imagined(InputPrediction(Only(), attempts=3), check=0.0).open(vocabulary)
    said = [[*vocabulary.encode(text), vocabulary.eos_id] for text in ("1, 1", "1, 4")]
    first, second = play(env, said), play(env, said)
    assert told(first) == told(second)  # what was seen is what is said again
    assert first.outcomes["real"] == 2 and second.outcomes["real"] == second.outcomes["saved"] == 1


def test_what_a_call_comes_to_is_told_in_the_words_of_the_environment(vocabulary):
    env = InputPrediction(Only()).open(vocabulary)
    assert vocabulary.decode(env.reply(Called.of(CONTEXT), Came("returns", "7"))) == ") returns 7\nf("


def test_the_benchmark_comes_to_its_bound_with_the_truth_and_has_the_shape_of_the_others(vocabulary):
    env = InputPrediction(Generated(count=0, held_out=4), benchmark.CANDIDATES).open(vocabulary, held_out=True)
    proposed = {task.name: benchmark.candidates(task) for task in env.tasks()}
    assert all(len(set(texts)) == len(texts) > 0 for texts in proposed.values())
    contexts = [Called.of(t.args["context"]).again(text) for t in env.tasks() for text in proposed[t.name]]
    truth = benchmark.WorldModel({context: benchmark.Foreseen(env.run(context), 1.0, 1.0) for context in contexts})
    every, perfect = (
        benchmark.totals(Imagined(benchmark.Shared(env), truth, threshold, 9, 1.0), vocabulary, proposed, 4)
        for threshold in (1.0, 0.5)
    )
    assert perfect["pass"] == every["pass"] and perfect["wrong"] == perfect["inexact"] == every["imagined"] == 0
    assert perfect["imagined"] == every["real"] - every["pass"] and perfect["imagined"] == perfect["checked"]
    keys = {"case", "ours", "theirs", "peer", "unit", "ratio", "goal", "bound"}
    assert benchmark.row("some", 2.0, 4.0, "other", "executions").keys() == keys
