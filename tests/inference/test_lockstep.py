"""An engine on two processes: both draw the same, swap between the same two steps, and draw what one process draws."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax

from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.engine import Engine
from cwm_jax.inference.lockstep import LeaderEngine, follow
from cwm_jax.inference.request import Request
from cwm_jax.model.sharding import MeshShape, ShardingRules
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder

MODEL = ModelConfig(layers=2, d_model=32, q_heads=2, kv_heads=2, head_dim=16, d_ff=64, local_window=16)
SHAPES = EngineConfig(slots=4, max_length=32, page=4, chunk=8, rows=2, steps=2, queue=16)
VOCAB = 8
PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from cwm_jax.training.processes import join_processes
join_processes(2)
from test_lockstep import run
run()
"""


def weights(mesh, version: int):
    """Of a version, cut over the mesh in force."""
    shapes = jax.eval_shape(lambda: init_params(MODEL, VOCAB, version))
    return jax.jit(lambda: init_params(MODEL, VOCAB, version), out_shardings=ShardingRules().shardings(shapes, mesh))()


class Made:
    """Weights that are made and not read. A `Loading`."""

    def __init__(self, engine, mesh):
        self._engine, self._mesh, self._version = engine, mesh, 0

    def begin(self, version):
        self._version = version

    def finish(self):
        self._engine.swap(weights(self._mesh, self._version), self._version)


def lead(engine, swap):
    """What comes out of each step, while requests come, are given up, and weights change twice."""
    for number in range(3):
        engine.submit(Request((1 + number, 2, 3), 20, 1.0, seed=number))
    turn = 0
    while engine.busy:
        turn += 1
        if turn in (4, 7):
            swap(turn)
        if turn == 5:
            engine.forget([1])
            engine.submit(Request((5, 6), 12, 1.0, seed=9))
        yield engine.step()


def told(steps) -> list:
    """For each step the number, token and version of what came out."""
    return [[(n, one.id, one.version) for n, one in step if hasattr(one, "id")] for step in steps]


def run() -> None:
    """Of one of two processes; prints."""
    mesh = MeshShape(tensor=2).build()
    with jax.set_mesh(mesh):
        engine = Engine(rebuilder(MODEL, VOCAB), weights(mesh, 0), SHAPES)
        loading = Made(engine, mesh)
        if jax.process_index() == 0:
            leading = LeaderEngine(engine)

            def swap(version):
                leading.tell("begin", version)
                leading.tell("finish")
                loading.begin(version)
                loading.finish()

            found = told(lead(leading, swap))
            leading.leave()
        else:
            found = told(follow(engine, loading))
    print(json.dumps(found), flush=True)


def test_two_processes_swap_at_the_same_step_and_draw_what_one_draws():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    world = os.environ | {
        "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "PYTHONPATH": os.getcwd(), "XLA_FLAGS": "",
    }  # fmt: skip
    command = [sys.executable, "-c", PROCESS, str(Path(__file__).parent)]
    processes = [
        subprocess.Popen(command, env=world | {"JAX_PROCESS_ID": str(n)}, stdout=subprocess.PIPE, text=True)
        for n in range(2)
    ]
    said = [process.communicate(timeout=1800)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    first, second = (json.loads(text.splitlines()[-1]) for text in said)
    assert first == second
    mesh = MeshShape(tensor=2).build()
    with jax.set_mesh(mesh):
        engine = Engine(rebuilder(MODEL, VOCAB), weights(mesh, 0), SHAPES)
        alone = told(lead(engine, lambda version: engine.swap(weights(mesh, version), version)))
    assert json.loads(json.dumps(alone)) == first
    assert {version for step in first for _, _, version in step} == {0, 4, 7}
    assert all(len({version for _, _, version in step}) == 1 for step in first if step), "never two at one step"
