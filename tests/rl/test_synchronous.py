"""T8: without staleness all roles, files and swaps together come to the bits of a loop that has none of them."""

import jax
import jax.numpy as jnp
import numpy as np
from small_rl import small

from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Request
from cwm_jax.model.transformer import rebuilder
from cwm_jax.rl.batches import RolloutRows, judge, pack
from cwm_jax.rl.cli import synchronous
from cwm_jax.rl.in_one_process import run_together, together
from cwm_jax.rl.ledger import Ledger
from cwm_jax.rl.step import make_rl_step
from cwm_jax.rl.trajectory import Context, Group, Trajectory
from cwm_jax.training.state import init_state, optimizer_of

STEPS = 4
# Sums of one shape are rounded alike: one prompt at a time, none long enough to be found in a cache.
ALIKE = ("EngineConfig.rows=1", "EngineConfig.page=16", "EngineConfig.chunk=16")


def plain_group(engine, playground, task, uid, members, turns):
    """A group, from prompts to rewards, without rollouts, drivers or tickets."""
    env, reward = playground
    state, said = env.start(task)
    prompt = said.observation
    requests = [
        Request(
            prompt,
            env.max_action(state),
            1.0,
            seed=(int(uid[:12], 16) * members + member) * turns,
            stop_ids=env.stop_ids,
        )
        for member in range(members)
    ]
    made = []
    for member, answer in enumerate(engine.generate(requests)):
        worth = reward(env.step(env.start(task)[0], answer.ids).outcomes, len(answer.ids))
        asked, n = len(prompt), len(answer.ids)
        logprobs, versions = ([getattr(one, what) for one in answer.tokens] for what in ("logprob", "version"))
        context = Context.of(
            [*prompt, *answer.ids], [False] * asked + [True] * n, [0.0] * asked + logprobs, [-1] * asked + versions,
            [0.0] * (asked + n - 1) + [worth],
        )  # fmt: skip
        made.append(Trajectory((context,), member))
    return Group(uid, task.name, tuple(made))


def plain_loop(rl, ledger):
    """The reference: draw with the newest weights until there are groups enough, learn, again.

    Within a batch groups stand as the ledger has them: who comes first is the samplers' affair, not that of the loss.
    """
    (name, playground), *_ = rl.playgrounds().items()
    tasks = {task.name: task for task in playground.env.tasks()}
    order, vocab_size = rl.curriculum.order({name: list(tasks)}), rl.vocab_size(rl.playgrounds())
    experiment, batching = rl.training, rl.learning.batching
    rebuild = rebuilder(experiment.model, vocab_size)
    step = make_rl_step(
        rebuild, optimizer_of(experiment), experiment.rules, rl.learning.objective, experiment.guard, experiment.dtype
    )
    update, number = jax.jit(step), 0
    state = init_state(experiment, vocab_size, experiment.mesh_shape.build())
    engine = Engine(rebuild, jax.tree.map(jnp.copy, state.params), rl.engine, version=1)
    for version in range(1, rl.steps + 1):
        found = {}
        while len(found) < batching.groups:
            choice = order(number)
            number += 1
            group = plain_group(
                engine, playground, tasks[choice.task], choice.uid, rl.sampling.members, rl.drawing.max_turns
            )
            chosen, _ = judge(group, batching, version, vocab_size)
            if chosen:
                found[choice.uid] = chosen
        consumed = ledger.steps[version].consumed
        assert {*consumed} == found.keys(), f"step {version} took other groups"
        rows = pack([found[uid] for uid in consumed], batching.rows, batching.length)
        batch = RolloutRows(*map(jnp.asarray, rows))
        state, _ = update(state, batch, batch.logprobs, jnp.int32(version))
        engine.swap(jax.tree.map(jnp.copy, state.params), version + 1)
    return state.params


def test_the_roles_in_step_are_the_plain_loop(tmp_path):
    """With a barrier no swap meets an answer under way, so what it does to caches makes no difference."""
    found = {}
    for kv in ("recompute", "keep"):
        rl = synchronous(small(STEPS, 4, *ALIKE, kv=kv))
        with together(rl, tmp_path / kv) as roles:
            run_together(roles.learner, roles.samplers)
        found[kv] = jax.device_get(roles.learner.state.params)
        assert roles.board.accounts().holds
    with jax.set_mesh(rl.training.mesh_shape.build()):
        expected = jax.device_get(plain_loop(rl, Ledger(tmp_path / "keep" / "ledger.jsonl")))
    for params in found.values():
        jax.tree.map(np.testing.assert_array_equal, params, expected)
