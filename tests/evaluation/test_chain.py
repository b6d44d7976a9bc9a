"""The whole chain in miniature, as `make chain` calls it: a handful of steps each, and the table at the end."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cwm_jax.data.corpus import read_shard, shard_path
from cwm_jax.envs.env import Score, Task, Transition
from cwm_jax.evaluation.chain import STAGES, Measure
from cwm_jax.report.chain import overview
from cwm_jax.text.load import VOCABULARY, load_vocabulary
from cwm_jax.tracing.compact import Compact
from cwm_jax.worldmodel.models.local import LocalModel

ROOT = Path(__file__).parents[2]
MODEL = ("ModelConfig.layers=1", "ModelConfig.d_model=32", "ModelConfig.q_heads=1", "ModelConfig.kv_heads=1",
         "ModelConfig.head_dim=32", "ModelConfig.d_ff=32", "MeshShape.replica=1")  # fmt: skip
CORPUS = ("strawberry=4", "inputs=1", "shards=1", "tests=8", "step_over=1.0")  # few enough to be known by heart
PRETRAIN, MIDTRAIN, SFT, RL = 4, 120, 60, 2
TINY_RL = (
    "Rl.checkpoint_every=20", "Examining.tasks=2", "Batching.tokens=2048", "Batching.rows=2", "Sampling.groups=4",
    "Admission.groups=1", "Batching.groups=1", "EngineConfig.slots=16",
)  # fmt: skip


def at_once(gin: str, programs: Path) -> str:
    """An experiment that reinforces answers at once to the programs of a file: thoughts take longer to learn."""
    lines = [line for line in gin.splitlines() if not line.startswith("Generated.")]
    names = [f"ProgramFile.{name} = '{programs}'" for name in ("path", "held_out")]
    text = "\n".join([*lines, "OutputPrediction.programs = @ProgramFile()", *names, ""])
    return text.replace("ReasonedOutput", "OutputPrediction").replace("max_tokens = 768", "max_tokens = 24")


def command_lines(makefile: str, target: str) -> list[str]:
    """What a target calls, without what sets up."""
    body = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    return [line.strip().removeprefix("$(BIN)/python ") for line in body.splitlines()]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The folder of a chain, and a function that calls the command of the Makefile with this in it."""
    out = tmp_path_factory.mktemp("chain")

    def call(what: str, *overrides: str, fails: str = "", replaced: Path | None = None) -> str:
        line = next(one for one in command_lines((ROOT / "Makefile").read_text(), "chain") if what in one)
        arguments = line.replace("$(CHAIN)", str(out)).split()
        arguments = [f"--gin_file={replaced}" if replaced and "gin_file" in one else one for one in arguments]
        flags = [f"--gin.{override}" for override in overrides]
        done = subprocess.run(
            [sys.executable, *arguments, *flags], cwd=ROOT, capture_output=True, text=True, timeout=600
        )
        assert (done.returncode != 0) == bool(fails) and fails in done.stderr, done.stderr + done.stdout
        return done.stdout

    call("prepare", *(f"CorpusConfig.{one}" for one in CORPUS), "Lessons.vocabulary_size=480",
         "sft/TraceLesson.share=1.0")  # fmt: skip
    size = load_vocabulary(out / "data" / VOCABULARY).vocab_size
    curve = ("WarmupCosine.warmup=8192", f"WarmupCosine.horizon={PRETRAIN * 512 + MIDTRAIN * 1024}")

    def train(stage: str, steps: int, tokens: int, *more: str) -> None:
        rows = (f'PreparedRows.folder="{out}/data/{stage}"', f"PreparedRows.vocabulary_size={size}")
        length = (f"Experiment.steps={steps}", f"StreamConfig.tokens_per_batch={tokens}")
        call(f"chain/{stage}.gin", *MODEL, *rows, *length, *more)

    train("pretrain", PRETRAIN, 512, *curve)
    train("midtrain", MIDTRAIN, 1024, *curve, f'Continue.run="{out}/pretrain"', f"Continue.steps={PRETRAIN}",
          f"Continue.tokens={PRETRAIN * 512}")  # fmt: skip
    train("sft", SFT, 1024, f'Weights.folder="{out}/midtrain"', "Muon.peak_lr=0.02", "Muon.adam_lr=0.003")
    call("evaluate", fails="lacks the results of rl")
    known = dict.fromkeys(episode.source for episode in read_shard(shard_path(out / "data", 0)).episodes)
    rows = [json.dumps({"name": str(number), "context": source}) for number, source in enumerate(known)]
    (out / "known.jsonl").write_text("\n".join(rows))
    (out / "rl.gin").write_text(at_once((ROOT / "experiments/chain/rl.gin").read_text(), out / "known.jsonl"))
    call("chain/rl.gin", f'Rl.checkpoint="{out}/sft"', f"Rl.steps={RL}", *TINY_RL, replaced=out / "rl.gin")
    return out, call


def test_every_stage_goes_on_from_the_last_and_the_table_tells_what_it_changed(chain):
    out, call = chain
    printed = call("evaluate")
    results = json.loads((out / "results.json").read_text())
    assert [stage["stage"] for stage in results["stages"]] == list(STAGES)
    # The optimiser's steps are counted on through pre- and mid-training.
    assert [stage["steps"] for stage in results["stages"]] == [PRETRAIN, MIDTRAIN, SFT, RL]
    for stage in results["stages"]:
        assert stage["n"] >= 4 and stage["minutes"] > 0 and stage["tokens"] > 0
        for score in stage["scores"].values():
            low, high = score["interval"]
            assert 0 <= low <= score["pass"] <= high <= 1 and 0 <= score["reward"] <= 1
        assert set(stage["scores"]) == set(stage["example"]) == {"trace", "output", "reasoned", "reward"}
    minutes = dict(results["minutes"])
    assert minutes.pop("total") == pytest.approx(sum(minutes.values()))
    for row in overview(results):
        assert all(cell in printed for cell in row[1:])
    page = (out / "report.html").read_text()
    assert "what each stage changed" in page and all(row[0] in page for row in overview(results))


def test_a_stage_is_used_and_measured_as_any_run(chain):
    out, _ = chain
    model = LocalModel(out / "midtrain")
    assert model.form == Compact() and model.longest == 1024
    command = [sys.executable, "-m", "cwm_jax", "evaluate", "--out", str(out / "midtrain")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "midtrain" / "results.json").read_text())
    tests = out / "data" / "tests"
    assert results["new_programs"]["n"] == len((tests / "new_programs.jsonl").read_text().splitlines())


def test_what_was_measured_is_not_measured_again(chain):
    out, call = chain
    call("evaluate")
    before = {path.name: path.stat().st_mtime_ns for path in (out / "measured").iterdir()}
    first = (out / "results.json").read_text()
    (out / "results.json").unlink()
    call("evaluate")
    assert {path.name: path.stat().st_mtime_ns for path in (out / "measured").iterdir()} == before
    assert (out / "results.json").read_text() == first


def test_what_the_suite_does_not_take_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "cwm_jax", "evaluate", "--suite", "chain", "--limit", "3"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "--out" in done.stderr


class Parrot:
    """An environment whose right answer is its prompt's last token; one of its tasks it does not take."""

    name, stop_ids, vocab_size, instant = "parrot", (9,), 10, True

    def start(self, task):
        return task.args["token"], Transition((1, task.args["token"]), over=task.args["token"] == 0)

    def step(self, state, action):
        assert isinstance(action, tuple)
        return Transition(over=True, outcomes={"pass": float(action[0] == state), "score": 0.5})

    def max_action(self, state):
        return 1


def test_a_measure_asks_each_program_once_and_in_order():
    asked = []

    def generate(requests):
        for request in requests:
            asked.append(request)
            yield SimpleNamespace(ids=(request.prompt[-1] if request.prompt[-1] < 4 else 7,))

    tasks = [Task(str(token), {"token": token}) for token in (3, 0, 5, 2)]
    told = Measure("parrot", Parrot(), Score(), 1.0).ask(SimpleNamespace(generate=generate), tasks)
    assert [one["pass"] for one in told] == [1.0, 0.0, 1.0] and [one["reward"] for one in told] == [0.5] * 3
    assert [one["ids"] for one in told] == [(3,), (7,), (2,)]
    assert [request.seed for request in asked] == [0, 1, 2] and {request.temperature for request in asked} == {1.0}
