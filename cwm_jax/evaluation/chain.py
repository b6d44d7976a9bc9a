"""A chain of runs measured: what each stage changed, on programs that none of its stages saw.

    out/data/                            what `prepare` made of `Lessons`; its tests are the programs
    out/pretrain/, midtrain/, sft/, rl/  the runs, the last one of reinforcement learning
    out/measured/STAGE.json              what was measured of each, not measured again unless it changes
    out/results.json, report.html        the table

Every stage is asked for traces, for outputs at once, for outputs after thinking, and for what the last stage was
rewarded for, in the environments that rewards come from: they run the programs.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from cwm_jax.checkpoints.fingerprint import fingerprint
from cwm_jax.data.corpus import TESTS
from cwm_jax.data.manifest import Manifest
from cwm_jax.envs.env import Env, Reward, Score, Task
from cwm_jax.envs.traces import OutputPrediction, ReasonedOutput, TracePrediction
from cwm_jax.evaluation.scores import interval
from cwm_jax.files import in_use, write_json
from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Request
from cwm_jax.model.transformer import rebuilder
from cwm_jax.report.chain import write_chain_report
from cwm_jax.report.progress import progress
from cwm_jax.rl import cli as rl_cli
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.policy import PolicyReader
from cwm_jax.text.load import VOCABULARY, load_vocabulary
from cwm_jax.text.vocabulary import Vocabulary
from cwm_jax.tracing.sources import program
from cwm_jax.training.trained import Trained, trained

STAGES = ("pretrain", "midtrain", "sft", "rl")


@dataclass(frozen=True)
class Measure:
    """One way of asking.

    Attributes:
      name: in results.
      env: where it is asked, opened.
      reward: what the answers are worth there.
      temperature: at which they are drawn; 0 takes the likeliest token.
    """

    name: str
    env: Env
    reward: Reward
    temperature: float = 0.0

    def ask(self, engine: Engine, tasks: Sequence[Task]) -> list[dict[str, Any]]:
        """What came of each task that the environment takes: `pass`, `reward` and the `ids` of the answer.

        The environment ends with the first answer.
        """
        taken = [began for began in map(self.env.start, tasks) if not began[1].over]
        asked = (
            Request(
                transition.observation, self.env.max_action(state), self.temperature, seed=number,
                stop_ids=self.env.stop_ids,
            )
            for number, (state, transition) in enumerate(taken)
        )  # fmt: skip
        told = []
        with progress(f"asking: {self.name}", len(taken), unit="programs") as bar:
            for (state, _), answer in zip(taken, engine.generate(asked), strict=True):
                outcomes = self.env.step(state, answer.ids).outcomes
                worth = self.reward(outcomes, len(answer.ids))
                told.append({"pass": outcomes["pass"], "reward": worth, "ids": answer.ids})
                bar.update(len(told))
        return told


def evaluate_chain(out: Path) -> dict[str, Any]:
    """Measures the stages, or those that changed since, and writes and returns the results.

    Raises:
      FileNotFoundError: a stage has not been run.
      ValueError: the stages differ in their vocabularies, the last one does not reinforce a `ReasonedOutput`,
        `OutputPrediction` or `TracePrediction`, or another process works in the folder.
    """
    out = Path(out)
    if missing := [stage for stage in STAGES if not (out / stage / "results.json").exists()]:
        raise FileNotFoundError(f"{out} lacks the results of {', '.join(missing)}; run the chain with `make chain`")
    with in_use(out):
        rl = rl_cli.load([str(out / "rl" / "config.gin")], [])
        vocabulary = load_vocabulary(out / "data" / VOCABULARY)
        tasks = unseen(out / "data" / TESTS / "new_programs.jsonl", rl)
        measures = measures_of(rl, vocabulary)
        stages = [_stage(out, stage, rl, vocabulary, measures, tasks) for stage in STAGES]
        results = {"stages": stages, "example": tasks[0].args["context"], "minutes": _minutes(out, stages)}
        write_json(out / "results.json", results)
        write_chain_report(results, out)
    return results


def unseen(tests: Path, rl: Rl) -> list[Task]:
    """The test programs, which no stage of `train` saw, without those that reinforcement learning may draw."""
    (environment,) = rl.environments
    drawn = environment.env.open(rl.start.vocabulary, held_out=False).tasks()
    seen = {program.fingerprint(task.args["context"]) for task in drawn}
    items = map(json.loads, tests.read_text().splitlines())
    return [
        Task(one["name"], {"context": one["context"]})
        for one in items
        if program.fingerprint(one["context"]) not in seen
    ]


def measures_of(rl: Rl, vocabulary: Vocabulary) -> list[Measure]:
    """What is measured: three ways of asking, of which the likeliest answers count, and that which is rewarded."""
    (environment,) = rl.environments
    env = environment.env
    if not isinstance(env, TracePrediction | OutputPrediction | ReasonedOutput):
        raise ValueError(f"Environment.env={env} is not of programs; bind Environment.env = @ReasonedOutput()")
    told = {"programs": env.programs, "form": env.form, "max_frames": env.max_frames}
    kinds = {
        "trace": TracePrediction(**told, max_tokens=env.max_tokens),
        "output": OutputPrediction(**told),
        "reasoned": ReasonedOutput(**told, max_tokens=env.max_tokens),
    }
    greedy = [Measure(name, kind.open(vocabulary, held_out=True), Score()) for name, kind in kinds.items()]
    rewarded = env.open(vocabulary, held_out=True)
    return [*greedy, Measure("reward", rewarded, environment.reward, rl.examining.temperature)]


def reinforced(run: Path, rl: Rl) -> Trained:
    """What a run of `rl` published last; raises FileNotFoundError where there is nothing."""
    start, policies = rl.start, PolicyReader(run, "evaluation")
    if (newest := policies.newest()) is None:
        raise FileNotFoundError(f"{run} has published no weights; run it again")
    try:
        params = policies.load(newest, rl.shapes(start.vocabulary.vocab_size, None))
    finally:
        policies.leave()
    return Trained(start.model, start.vocabulary, rl.learning.batching.length, newest.step, params)


def _stage(
    out: Path, stage: str, rl: Rl, vocabulary: Vocabulary, measures: Sequence[Measure], tasks: Sequence[Task]
) -> dict[str, Any]:
    """What is told of a stage; its measurements from the file, if they are of these weights and programs."""
    run, path = out / stage, out / "measured" / f"{stage}.json"
    weights = reinforced(run, rl) if stage == STAGES[-1] else trained(run)
    if weights.vocabulary.fingerprint != vocabulary.fingerprint:
        raise ValueError(f"{run} has another vocabulary than {out / 'data'}; run the chain again in a new folder")
    mark = _mark(weights, rl, tasks)
    if not path.exists() or (told := json.loads(path.read_text()))["mark"] != mark:
        told = {"mark": mark} | measured(weights, rl.engine, measures, tasks)
        write_json(path, told)
    results = json.loads((run / "results.json").read_text())
    minutes = results["minutes"]["train"] if isinstance(results["minutes"], dict) else results["minutes"]
    tokens = results["tokens"] if "tokens" in results else sum(results["staleness"]["tokens_by_age"])
    return {"stage": stage, "steps": weights.step, "minutes": minutes, "tokens": tokens} | {
        key: told[key] for key in ("n", "seconds", "scores", "example")
    }


def _mark(weights: Trained, rl: Rl, tasks: Sequence[Task]) -> str:
    """Another one for other weights, other programs, or another way of asking."""
    marks = jax.device_get(jax.tree.leaves(fingerprint(weights.params)))
    told = [list(map(int, marks)), weights.vocabulary.fingerprint, [task.args for task in tasks]]
    shaping = json.dumps(told) + repr((rl.environments, rl.examining.temperature, rl.engine))
    return hashlib.sha256(shaping.encode()).hexdigest()


def measured(weights: Trained, engine: EngineConfig, measures: Sequence[Measure], tasks: Sequence[Task]) -> dict:
    """Scores by measure, each with its 95 % interval where it is a share; the first program's answers; seconds."""
    began = time.monotonic()
    host = Engine(rebuilder(weights.model, weights.vocabulary.vocab_size), weights.params, engine)
    told = {measure.name: measure.ask(host, tasks) for measure in measures}
    n = min(map(len, told.values()))
    scores = {}
    for name, some in told.items():
        passed = sum(int(one["pass"]) for one in some)
        scores[name] = {
            "pass": passed / len(some),
            "interval": interval(passed, len(some)),
            "reward": sum(one["reward"] for one in some) / len(some),
            "tokens": sum(len(one["ids"]) for one in some) / len(some),
        }
    example = {name: weights.vocabulary.decode(some[0]["ids"]) for name, some in told.items()}
    return {"n": n, "seconds": time.monotonic() - began, "scores": scores, "example": example}


def _minutes(out: Path, stages: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What each part took, the preparation and the measurements too."""
    found = {"prepare": Manifest.read(out / "data" / STAGES[0]).seconds / 60}
    found |= {stage["stage"]: stage["minutes"] for stage in stages}
    found["measure"] = sum(stage["seconds"] for stage in stages) / 60
    return found | {"total": sum(found.values())}
