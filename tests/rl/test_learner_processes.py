"""A learner of two processes: one of them decides, both come to what one process comes to by the same ledger."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from test_learning import ENV, EXPERIMENT, LEARNING, learn

from cwm_jax.model.sharding import MeshShape
from cwm_jax.model.transformer import init_params
from cwm_jax.rl.learner import Learner
from cwm_jax.rl.policy import PolicyReader

STEPS, ONE = 5, MeshShape()
LEARNER = """
import sys
from dataclasses import replace
sys.path.insert(0, sys.argv[2])
import jax
from cwm_jax.training.processes import join_processes
join_processes(4)
from test_learner_processes import STEPS, alone
from cwm_jax.model.sharding import MeshShape
alone(sys.argv[1], MeshShape(context=4), int(sys.argv[3]))
"""


def alone(run, mesh=ONE, steps=STEPS):
    """Learns from what is in the spool until there is no more to do, in this process or as one of several."""
    experiment, learning = replace(EXPERIMENT, mesh=mesh, steps=steps), replace(LEARNING, spool_steps=None)
    with jax.set_mesh(mesh.build()), Learner(experiment, learning, Path(run), ENV.vocab_size) as learner:
        while not learner.done:
            assert learner.tick() is not None


def two_processes(run, steps=STEPS):
    """The same by two processes of two devices each; what they said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    world = os.environ | {
        "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "PYTHONPATH": os.getcwd(), "XLA_FLAGS": "",
    }  # fmt: skip
    command = [sys.executable, "-c", LEARNER, str(run), str(Path(__file__).parent), str(steps)]
    processes = [
        subprocess.Popen(command, env=world | {"JAX_PROCESS_ID": str(n)}, stderr=subprocess.PIPE, text=True)
        for n in range(2)
    ]
    said = [process.communicate(timeout=1800)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(text[-3000:] for text in said)
    return said


def published(run):
    """What is told of the newest weights, and the weights."""
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: init_params(EXPERIMENT.model, ENV.vocab_size, 0))
    reader = PolicyReader(run, "test")
    newest = reader.newest()
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one), shapes)
    return newest, jax.device_get(reader.load(newest, shapes))


def forget(run, steps):
    """Leaves of a run its spool, and of the ledger the first steps."""
    for folder in ("state", "policy", "board"):
        shutil.rmtree(run / folder, ignore_errors=True)
    lines, kept = (run / "ledger.jsonl").read_text().splitlines(keepends=True), []
    for line in lines:
        if json.loads(line)["step"] > steps:
            break
        kept.append(line)
    (run / "ledger.jsonl").write_text("".join(kept))


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    """A run in whose spool is more than enough for the steps."""
    run = tmp_path_factory.mktemp("whole") / "run"
    learn(run, replace(EXPERIMENT, steps=STEPS + 3, checkpoint_every=100))
    forget(run, steps=2)
    return run


def test_two_processes_learn_what_one_does(spool, tmp_path):
    both, one = tmp_path / "both", tmp_path / "one"
    shutil.copytree(spool, both)
    two_processes(both)
    entries = [json.loads(line) for line in (both / "ledger.jsonl").read_text().splitlines()]
    assert max(entry["step"] for entry in entries) == STEPS, "three steps were decided by the two"
    told, params = published(both)
    assert (told.epoch, told.step) == (1, STEPS)
    shutil.copytree(both, one)
    forget(one, STEPS)
    alone(one)
    again, expected = published(one)
    assert (again.epoch, again.step, again.version) == (1, STEPS, told.version)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=2e-5), params, expected)


def test_two_processes_go_on_from_their_checkpoint_and_one_from_theirs(spool, tmp_path):
    """The state that two wrote is read by two, and by one: it is the same run."""
    shutil.copytree(spool, tmp_path / "run")
    two_processes(tmp_path / "run", steps=2)
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    two_processes(tmp_path / "run", steps=4)
    told, params = published(tmp_path / "run")
    assert (told.epoch, told.parent, told.step) == (2, 2, 4)
    (tmp_path / "other" / "ledger.jsonl").write_bytes((tmp_path / "run" / "ledger.jsonl").read_bytes())
    alone(tmp_path / "other", steps=4)
    again, expected = published(tmp_path / "other")
    assert (again.epoch, again.version) == (2, told.version)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=2e-5), params, expected)
