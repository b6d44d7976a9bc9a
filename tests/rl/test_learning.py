"""The whole loop in one process: it learns, is the same every time, and goes on after a kill with the same bits."""

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from cwm_jax.envs.env import Score
from cwm_jax.envs.reverse import Reverse
from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.engine import Engine
from cwm_jax.model.sharding import MeshShape
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder
from cwm_jax.rl.batches import Batching
from cwm_jax.rl.board import Admission, Board
from cwm_jax.rl.curriculum import Order
from cwm_jax.rl.in_one_process import run_together
from cwm_jax.rl.learner import Learner, Learning
from cwm_jax.rl.ledger import Ledger
from cwm_jax.rl.loading import Loading
from cwm_jax.rl.objective import ConstantDivisor, Objective
from cwm_jax.rl.policy import PolicyReader
from cwm_jax.rl.rollout import Drawing
from cwm_jax.rl.sampler import Playground, Sampler, Sampling
from cwm_jax.rl.spool import Spool
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.optimizers import AdamW
from cwm_jax.training.schedules import WarmupConstantDecay

ENV = Reverse(letters=4, length=3, count=64)
MODEL = ModelConfig(layers=2, d_model=32, q_heads=2, kv_heads=2, head_dim=16, d_ff=64, local_window=16)
EXPERIMENT = Experiment(
    model=MODEL, optimizer=AdamW(peak_lr=5e-3, weight_decay=0.0), schedule=WarmupConstantDecay(warmup=1, decay=0.0),
    mesh=MeshShape(), steps=6, checkpoint_every=2,
)  # fmt: skip
LEARNING = Learning(Objective(mean=ConstantDivisor(1024)), Batching(tokens=192, rows=8, length=64))
SHAPES = EngineConfig(slots=16, max_length=32, page=4, chunk=8, rows=8, steps=2, queue=256)


def begin(run: Path, experiment=EXPERIMENT, staleness=1, seed=0, kv="keep", weight_sets=3):
    learner = Learner(experiment, LEARNING, run, ENV.vocab_size)
    board = Board(run, Order({ENV.name: [task.name for task in ENV.tasks()]}, seed), Admission(staleness, 8))
    engine = Engine(rebuilder(MODEL, ENV.vocab_size), init_params(MODEL, ENV.vocab_size, 7), SHAPES)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), learner.state.params
    )
    loading = Loading(engine, PolicyReader(run, "one"), shapes, in_background=False)
    sampler = Sampler(
        "one", engine, loading, board, Spool(run / "spool"), {ENV.name: Playground(ENV, Score())},
        Drawing(max_context=32, kv=kv), Sampling(members=8, groups=8, threads=0, poll=0.0, weight_sets=weight_sets),
        ENV.vocab_size, in_background=False,
    )  # fmt: skip
    return learner, sampler, board


def learn(run, experiment=EXPERIMENT, staleness=1):
    with jax.set_mesh(experiment.mesh_shape.build()):
        learner, sampler, board = begin(run, experiment, staleness)
        with learner:
            run_together(learner, [sampler])
        accounts = board.accounts()
        assert accounts.holds, accounts
        return jax.device_get(learner.state.params), board


def rewards(run):
    """The mean reward of the groups of each step."""
    spool, ledger = Spool(run / "spool"), Ledger(run / "ledger.jsonl")
    sealed = spool.sealed()
    means = []
    for entry in ledger.steps.values():
        there = [spool.read(sealed[uid]) for uid in entry.consumed if uid in sealed]
        if there:
            means.append(np.mean([one.reward for group in there for one in group.trajectories]))
    return means


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_run_is_the_same_every_time(tmp_path):
    first, _ = learn(tmp_path / "a")
    again, _ = learn(tmp_path / "b")
    same(first, again)
    lines = [(tmp_path / name / "ledger.jsonl").read_text() for name in "ab"]
    assert lines[0] == lines[1]


def test_a_learner_that_starts_again_comes_to_the_same_bits(tmp_path):
    """T7: from the checkpoint of step 2 the ledger's batches are done again, though the sampler is far beyond."""
    whole, _ = learn(tmp_path / "run", replace(EXPERIMENT, checkpoint_every=100))
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "run", copy)
    shutil.rmtree(copy / "state")
    with jax.set_mesh(EXPERIMENT.mesh_shape.build()):
        learner, _, board = begin(copy, replace(EXPERIMENT, checkpoint_every=100))
        with learner:
            assert learner.publisher.epoch == 2 and learner.step == 0
            while not learner.done:
                assert learner.tick() is not None  # nothing is waited for: all of it is in the ledger
        same(whole, jax.device_get(learner.state.params))
    assert board.accounts().holds


@pytest.mark.parametrize("most", [2, 3])
def test_no_more_sets_of_weights_than_there_is_memory_for(tmp_path, most):
    """Episodes that are pinned to older weights keep new ones from being loaded, and the run goes on all the same."""
    with jax.set_mesh(EXPERIMENT.mesh_shape.build()):
        learner, sampler, board = begin(tmp_path, staleness=4, kv="pin", weight_sets=most)
        load, seen = sampler.loading.begin, []

        def watched(publication):
            load(publication)
            seen.append(sampler.engine.weight_sets + 1)

        sampler.loading.begin = watched
        with learner:
            run_together(learner, [sampler])
    assert max(seen) == most and learner.done and board.accounts().holds


@pytest.mark.parametrize("staleness", [0, 4])
def test_it_learns_to_reverse(tmp_path, staleness):
    experiment = replace(EXPERIMENT, steps=60, checkpoint_every=1000)
    learn(tmp_path, experiment, staleness)
    curve = rewards(tmp_path)
    assert np.mean(curve[-5:]) > np.mean(curve[:5]) + 0.1
