"""Real executions that imagination saves, at which success, and how often it is wrong: a world model as the predictor.

    python benchmarks/imagined.py [--quick] [--out FILE] [--run D]

The environment is `InputPrediction` on composed programs of seeds that are in no training or test set. A proposer
without skill changes arguments of the hidden call at random; its candidates are the same in every case, and an episode
ends with the first that really passes, or with the last. Executing every candidate is compared with leaving out those
of which the model of the run is sure that they fail: its greedy trace of the candidate returns something else, and the
probability of that whole trace is above the threshold. `sure of the value alone` takes the probability of the returned
value, given the trace before, in its place. `bound` is what a perfect predictor comes to.

Wrong is an imagined failure that in truth passes, inexact one that fails with something else than was imagined; to know
them, all that was imagined is executed in a run of its own. Success may stay the same all the same: a later candidate
may pass.

With one execution a task, the first candidate is executed, or the first that the model is not sure to fail.
"""

import ast
import math
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

from result import flags, row, tell

from cwm_jax.envs.env import EnvConfig, PassOnly, Task, Transition
from cwm_jax.envs.imagined import Attempt, Imagined, Prediction, Remembered
from cwm_jax.envs.inputs import Called, Came, InputEnv, InputPrediction
from cwm_jax.envs.traces import Generated
from cwm_jax.inference.request import Completion, Token
from cwm_jax.rl.rollout import Act, Drawing, rollout
from cwm_jax.text.vocabulary import Vocabulary
from cwm_jax.tracing.sources.inputs import mutated
from cwm_jax.worldmodel.models.local import LocalModel
from cwm_jax.worldmodel.models.model import Ask, Model

CANDIDATES = 6  # a task
THRESHOLDS = (0.0, 0.2, 0.5, 0.8, 0.95)


@dataclass(frozen=True)
class Foreseen:
    """What a model says that comes of a program.

    Attributes:
      came: that.
      trace: probability of the whole trace.
      value: of the value in it, given all before.
    """

    came: Came
    trace: float
    value: float


def foresee(model: Model, contexts: list[str]) -> dict[str, Foreseen | None]:
    """By context what comes of it; None where the model does not come to an end."""
    found: dict[str, Foreseen | None] = {}
    asks = [Ask(tuple(model.form.context(context)), model.longest) for context in contexts]
    for context, said in zip(contexts, model.complete(asks)):
        trace = model.form.trace(context, said.pieces)
        found[context] = None
        if trace.complete and trace.frames and trace.frames[-1].event == "return":
            before = trace.frames[-2] if len(trace.frames) > 1 else None
            raised = before is not None and before.event == "exception"
            came = Came("raises", before.value) if raised else Came("returns", trace.frames[-1].value)
            value = said.confidence(model.form.control_symbols) or 0.0
            found[context] = Foreseen(came, math.exp(sum(said.logprobs)), value)
    return found


@dataclass(frozen=True)
class WorldModel:
    """A world model as a `PredictorConfig`.

    Attributes:
      foreseen: what it says of every program that may be tried, all asked at once.
      sure: of what its probability is, `trace` or `value`.
    """

    foreseen: dict[str, Foreseen | None]
    sure: str = "trace"

    def open(self, env: InputEnv, vocabulary: Vocabulary | None) -> "Oracle":
        return Oracle(self, env)


class Oracle:
    """The predictor of `WorldModel`."""

    instant = True

    def __init__(self, config: WorldModel, env: InputEnv):
        self._config, self._env = config, env

    def __call__(self, attempt: Attempt) -> Prediction | None:
        called = Called.of(attempt.task.args["context"])
        foreseen = self._config.foreseen.get(called.again(self._env.text(attempt.action)))
        if foreseen is None:
            return None
        if foreseen.came == self._env.run(attempt.task.args["context"]):
            return Prediction(1.0)  # nothing speaks for a failure, however unsure it is
        return Prediction(1 - getattr(foreseen, self._config.sure), self._env.reply(called, foreseen.came))

    def learn(self, attempt: Attempt, transition: Transition) -> None:
        pass  # its weights learn, if at all, from trajectories


@dataclass(frozen=True)
class Shared:
    """An `EnvConfig` of an environment that is open, so that what it ran once it need not run again."""

    env: InputEnv

    def open(self, vocabulary: Vocabulary | None, held_out: bool = False) -> InputEnv:
        return self.env


def candidates(task: Task) -> list[str]:
    """Different arguments near those of the hidden call, as text."""
    call = ast.parse(task.args["context"]).body[-1].body[0].value
    hidden = [ast.unparse(argument) for argument in call.args]
    rng, found = Random(task.name), {}
    for _ in range(20 * CANDIDATES):
        some = [mutated(argument, rng) if rng.random() < 0.5 else argument for argument in hidden]
        if some != hidden and len(found) < CANDIDATES:
            found[", ".join(some)] = None
    return list(found)


def totals(config: EnvConfig, vocabulary: Vocabulary, proposed: dict[str, list[str]], count: int) -> dict[str, float]:
    """The outcomes of all episodes, added up."""
    env, found = config.open(vocabulary, held_out=True), {}
    for task in islice(env.tasks(), count):
        texts = iter(proposed[task.name])
        drawing = Drawing(max_turns=len(proposed[task.name]))
        one = rollout(env, task, PassOnly(), drawing, name=task.name, member=0, seed=0, version=lambda: 0,
                      vocab_size=env.vocab_size)  # fmt: skip
        given = None
        try:
            while True:
                asked = one.send(given)
                if isinstance(asked, Act):
                    given = asked.call()
                    continue
                ids = (*vocabulary.encode(next(texts)), vocabulary.eos_id)
                given = Completion(asked, tuple(Token(token, 0.0, 0) for token in ids), "stop")
        except StopIteration as end:
            for name, value in end.value.outcomes.items():
                found[name] = found.get(name, 0.0) + value
    return found


def rows(run: Path, count: int) -> list[dict]:
    model = LocalModel(run)
    vocabulary = model.vocabulary
    programs = Generated(count=0, held_out=count, seed=1)
    many, one = (
        Shared(InputPrediction(programs, attempts).open(vocabulary, held_out=True)) for attempts in (CANDIDATES, 1)
    )
    proposed = {task.name: candidates(task) for task in many.env.tasks()}
    contexts = [
        Called.of(task.args["context"]).again(text) for task in many.env.tasks() for text in proposed[task.name]
    ]
    foreseen = foresee(model, contexts)
    true = {context: Foreseen(many.env.run(context), 1.0, 1.0) for context in contexts}
    known = [context for context in contexts if foreseen[context]]
    exact = sum(foreseen[context].came == true[context].came for context in known) / len(contexts)
    what = f"{len(contexts)} candidates of {count} programs, what comes of them"
    found = [row(what, exact, None, None, "share right")]

    def imagined(env: Shared, predictor: WorldModel, threshold: float, check: float = 0.0) -> dict[str, float]:
        return totals(Imagined(env, predictor, threshold, CANDIDATES, check), vocabulary, proposed, count)

    blind = totals(Imagined(many, Remembered(), 1.0, 0, 0.0), vocabulary, proposed, count)
    perfect = imagined(many, WorldModel(true), 0.5)
    blind_one, perfect_one = (
        totals(Imagined(one, Remembered(), 1.0, 0, 0.0), vocabulary, proposed, count),
        imagined(one, WorldModel(true), 0.5),
    )
    every, first = "executing every candidate", "executing the first candidate"
    cases = [("trace", threshold) for threshold in THRESHOLDS] + [("value", 0.95)]
    for sure, threshold in cases:
        predictor = WorldModel(foreseen, sure)
        some, checked = imagined(many, predictor, threshold), imagined(many, predictor, threshold, 1.0)
        case = f"threshold {threshold}" + (", sure of the value alone" if sure == "value" else "")
        found += [
            row(f"{case}, real executions", some["real"], blind["real"], every, "executions", perfect["real"]),
            row(
                f"{case}, success", some["pass"] / count, blind["pass"] / count, every, "share", perfect["pass"] / count
            ),
        ]
        answered = checked["imagined"]
        for name in ("wrong", "inexact"):
            share = checked[name] / max(answered, 1)
            found.append(row(f"{case}, {name} of {answered:.0f} imagined", share, None, None, "share"))
        if threshold == 0.5:
            alone = imagined(one, predictor, threshold)
            bound = perfect_one["pass"] / count
            case = f"{case}, one execution a task, success"
            found.append(row(case, alone["pass"] / count, blind_one["pass"] / count, first, "share", bound))
    return found


def main() -> None:
    parser = flags(__doc__, "8 programs instead of 160")
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"), metavar="D", help="folder of a trained run")
    arguments = parser.parse_args()
    tell("imagined", rows(arguments.run, 8 if arguments.quick else 160), arguments.out)


if __name__ == "__main__":
    main()
