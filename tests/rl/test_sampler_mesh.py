"""T5: a sampler on a mesh of its own, another than the learner's, draws what one on a single device draws."""

from contextlib import nullcontext
from dataclasses import replace

import jax
import numpy as np
import pytest

from cwm_jax.model.sharding import MeshShape
from cwm_jax.model.transformer import init_params
from cwm_jax.rl.board import Board
from cwm_jax.rl.cli import load
from cwm_jax.rl.policy import Publisher
from cwm_jax.rl.roles import Context, SamplerRole
from cwm_jax.rl.spool import Spool

RL = load(
    ["experiments/tiny/reverse.gin"],
    [
        "Reverse.letters=5", "ModelConfig.q_heads=4", "ModelConfig.kv_heads=4", "Sampling.threads=0",
        "Sampling.poll=0.0", "Sampling.groups=2", "Examining.tasks=4", "EngineConfig.slots=16",
    ],
)  # fmt: skip


def publish(run, vocab_size: int) -> None:
    """Weights from a learner of two devices, twice: what the second are is drawn with."""
    mesh = MeshShape(fsdp=2).build()
    with jax.set_mesh(mesh), Publisher(run) as publisher:
        for seed in (1, 2):
            params = init_params(RL.model, vocab_size, seed)
            publisher.publish(jax.device_put(params, RL.rules.shardings(params, mesh)), step=seed)


def drawn(run, mesh: MeshShape):
    """The weights of the engine, the groups that it made of them, and what was measured."""
    rl = replace(RL, inference_mesh=mesh)
    playgrounds = rl.playgrounds()
    publish(run, rl.vocab_size(playgrounds))
    tasks = {name: [task.name for task in one.env.tasks()] for name, one in playgrounds.items()}
    board, spool = Board(run, rl.curriculum.order(tasks), rl.admission), Spool(run / "spool")
    mesh = rl.sampler_mesh()
    with jax.set_mesh(mesh) if mesh else nullcontext():
        sampler, _ = SamplerRole(rl, 0).host(Context(run, board, lambda: False), live=False)
        while len(spool.sealed()) < 3 or not list((run / "held_out").glob("*.json")):
            sampler.tick()
        sampler.leave()
    groups = {uid: spool.read(one).trajectories for uid, one in list(spool.sealed().items())[:3]}
    return sampler.engine, groups


def test_it_draws_the_same_on_four_devices(tmp_path):
    one, groups = drawn(tmp_path / "one", MeshShape())
    four, again = drawn(tmp_path / "four", MeshShape(tensor=4))
    assert one.version == four.version == 2
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(four._params)} == {4}
    gates = four._params["blocks"]["gate"][0]
    assert gates.addressable_shards[0].data.size * 4 == gates.size, "each device holds a part"
    assert four.cache.kv_P2GTK[0].sharding.spec[2] == "tensor"
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one._params), jax.device_get(four._params))
    shared = groups.keys() & again.keys()
    assert shared
    for uid in shared:
        for here, there in zip(groups[uid], again[uid]):
            assert [c.tokens.tolist() for c in here.contexts] == [c.tokens.tolist() for c in there.contexts]
            for mine, other in zip(here.contexts, there.contexts):
                np.testing.assert_allclose(mine.logprobs, other.logprobs, atol=1e-5)


def test_a_mesh_that_the_engine_cannot_use_is_refused():
    with pytest.raises(ValueError, match=r"Rl\.inference_mesh.*tensor alone"):
        replace(RL, inference_mesh=MeshShape(fsdp=2))
