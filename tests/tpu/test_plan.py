"""The plan against what was compiled, against arithmetic by hand, and against its own simulation."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cwm_jax import config
from cwm_jax.__main__ import main
from cwm_jax.rl import cli
from cwm_jax.rl.board import Admission
from cwm_jax.rl.planning import RlPlan
from cwm_jax.rl.simulate import Episodes, LogNormal, Publishing, Samplers, System, mean, simulate
from cwm_jax.tpu.plan import COMPARED, Slices, drawing, expected, learner_seconds, make_plan, steady, system
from cwm_jax.training.experiment import Experiment

CWM = "experiments/cwm_32b/rl.gin"
QUICK = ["--gin.RlPlan.simulated=6", "--gin.Episodes.turns=2"]


@pytest.fixture(scope="module")
def cwm() -> RlPlan:
    return cli.load_plan([CWM], [])


@pytest.mark.parametrize("path", sorted(Path("experiments/aot").glob("*.json")), ids=lambda path: path.stem)
def test_a_step_takes_as_long_as_the_compiled_one(path):
    report = json.loads(path.read_text())
    experiment = config.load([f"experiments/{report['experiment'].replace('-', '/')}.gin"], [], Experiment)
    seconds = learner_seconds(experiment, experiment.data.vocabulary_size, report["sequence"])
    assert seconds == pytest.approx(report["step_seconds"], rel=0.005)


def test_a_sampler_holds_and_reads_what_the_compiled_one_does(cwm):
    report = json.loads(Path("experiments/aot/serving/cwm_32b-rl.v5p-2x2x1.json").read_text())
    drawn = drawing(cwm)
    assert drawn.weights / 4 / 2**30 == pytest.approx(report["weights_gib"], rel=0.01)
    assert drawn.cache / 4 / 2**30 == pytest.approx(report["cache_gib"], rel=0.01)
    assert drawn.base * cwm.weights_share == pytest.approx(report["at_least_ms"] / 1e3, rel=0.01)


def test_memory_by_hand(cwm):
    """What `Sampling` says there is room for, and once more the largest matrix of all layers, 6144 by 21504."""
    drawn = drawing(cwm)
    assert cwm.rl.sampling.weight_sets == 2 and drawn.stack == 64 * 6144 * 21_504 * 2
    told = make_plan(replace(cwm, simulated=4))["sampler"]
    whole = 2 * drawn.weights + 64 * 6144 * 21_504 * 2 + drawn.cache
    assert told["hbm_gib"] == pytest.approx(whole / 4 / 2**30, rel=1e-3) and told["fits"]


def test_keys_and_values_of_an_episode_by_hand(cwm):
    """Episodes of 16,384 tokens: a global layer sees half of them in the mean, a local one 6,144."""
    plan = replace(cwm, episodes=Episodes(LogNormal(16_384.0)), cache_share=1.0)
    moved = (17 * 8192 + 47 * 6144) * 4096
    assert drawing(plan).each == pytest.approx(moved / (4 * 2765e9))
    assert drawing(plan).context == pytest.approx(8192)


def test_publications_by_hand(cwm):
    p = system(cwm).publishing
    assert p.write == pytest.approx(65.16e9 / (64 * 1.5e9), rel=1e-3), "64 hosts write together"
    assert p.load == pytest.approx(65.16e9 / 4e9, rel=1e-3), "one host reads all"
    crowded = replace(cwm, storage=replace(cwm.storage, all_read=1e11))
    assert system(crowded).publishing.load == pytest.approx(65.16e9 * 167 / 1e11, rel=1e-3)


def test_what_is_planned_is_what_runs(cwm):
    """One file: `rl` reads it too, and the plan has its meshes, groups and lengths from there alone."""
    assert cli.load([CWM], []) == cwm.rl
    assert (system(cwm).admission, system(cwm).samplers.count) == (cwm.rl.admission, cwm.rl.samplers)
    assert (cwm.inference.engine, cwm.inference.mesh) == (cwm.rl.engine, cwm.rl.inference_mesh)


def test_slices_of_a_name():
    assert (Slices.of("v5p:4x8x8/131k").chips, Slices.of("v5p:4x8x8/131k").hosts) == (256, 64)
    assert (Slices.of("2xtpu7x:4x4x8").chips, Slices.of("v5p:2x2x1/serve").hosts) == (256, 1)


HOST = Samplers(count=12, groups=6, slots=24, threads=24, base=0.02, each=0.002, read=0.0002)
EPISODES = Episodes(LogNormal(400.0, 0.8), drawn=0.5, turns=5, latency=LogNormal(0.5, 0.8), members=4, kept=0.7)
REGIMES = {  # seconds of a step, staleness, and what limits
    "samplers": (1.0, 20, Publishing(write=1.0, poll=1.0, load=2.0, swap=0.1)),
    "learner": (40.0, 2, Publishing(write=1.0, poll=1.0, load=2.0, swap=0.1)),
    "admission": (1.0, 2, Publishing(write=1.0, poll=1.0, load=2.0, swap=0.1)),
    "publications": (1.0, 30, Publishing(write=25.0, poll=1.0, load=2.0, swap=0.1)),
}


@pytest.mark.parametrize("limit", REGIMES)
def test_arithmetic_and_simulation_agree_whatever_the_limit_is(limit):
    train, staleness, publishing = REGIMES[limit]
    s = System(160, 80, train, Admission(staleness, groups=8), HOST, EPISODES, publishing)
    told, ran = expected(s), simulate(s)
    assert told.bound == limit
    assert told.interval == pytest.approx(ran.interval, rel=0.1)
    assert told.learner == pytest.approx(ran.learner, rel=0.1)
    assert told.oldest == pytest.approx(mean(ran.oldest), rel=0.1)
    assert told.reach == pytest.approx(ran.reach, rel=0.2)
    if told.host.episode > told.interval / 2:
        assert told.versions == pytest.approx(mean(ran.versions), rel=0.1)


def test_a_host_by_littles_law():
    always = Episodes(LogNormal(100.0), turns=1, latency=LogNormal(10.0), members=2)
    host = Samplers(groups=3, slots=8, threads=8, base=0.1)
    alone = steady(host, always)
    # Six episodes, 10 s drawing and 10 s acting each: three draw at a time.
    assert (alone.slots, alone.episode, alone.group, alone.groups) == pytest.approx((3, 20, 20, 3 / 20))
    crowded = steady(replace(host, slots=2), always)
    assert (crowded.slots, crowded.groups) == pytest.approx((2, 2 / 10 / 2))
    assert crowded.group == pytest.approx(3 / crowded.groups), "the third group waits"
    half = steady(host, always, rate=0.05)
    assert (half.groups, half.slots, half.group) == pytest.approx((0.05, 1, 20))


def test_balance_keeps_the_learner_busy(cwm):
    s = system(cwm)
    assert expected(s).bound == "learner" and expected(s).learner == 1.0
    fewer = replace(s, samplers=replace(s.samplers, count=s.samplers.count - 1))
    assert expected(fewer).bound == "samplers"


def test_the_verb_prints_and_writes_the_plan(tmp_path, capsys):
    out = tmp_path / "plan.json"
    assert main(["plan", f"--gin_file={CWM}", *QUICK, "--gin.Rl.samplers=4", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "16 to draw: 4 samplers of v5p:2x2x1" in " ".join(said.split()) and "65.2 GB a publication" in said
    report = json.loads(out.read_text())
    assert report["bound"] == "samplers" and report["compared"].keys() == set(COMPARED)
    assert report["chips"] == {"learner": 256, "samplers": 16, "of_a_sampler": "v5p:2x2x1", "environment_nodes": 3}
    assert report["publication"]["bytes"] == 2 * 32_581_097_472


def test_a_sampler_that_is_too_small_is_no_success(capsys):
    crammed = ["--gin.Rl.inference_mesh='v5e:2x4/serve'", "--gin.Rl.samplers=2", "--gin.RlPlan.simulated=4"]
    assert main(["plan", f"--gin_file={CWM}", *QUICK, *crammed]) == 1
    assert "too much" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("Rl.mesh=@MeshShape()", "be a name of model.meshes"),
        ("RlPlan.vocabulary_size=None", "needs the vocabulary of a model"),
        ("Rl.samplers=0", "must be at least 1"),
        ("Learning.publish_every=70", "wait for ever"),
        ("Admission.groups=50", "lower the groups"),
        ("Batching.tokens=3_000_000", "let the two agree"),
    ],
)
def test_what_cannot_be_planned_is_refused(override, complaint, capsys):
    assert main(["plan", f"--gin_file={CWM}", f"--gin.{override}", "--gin.RlPlan.simulated=4"]) == 2
    assert complaint in capsys.readouterr().err
