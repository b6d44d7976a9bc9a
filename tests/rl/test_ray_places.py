"""On a cluster each role goes to the machine that was started for it; roles of two hosts outlive one of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cwm_jax.rl.cli import load
from cwm_jax.rl.ray_places import places_of

NODES = {
    "first": {"learner": 2},
    "second": {"learner": 2},
    "third": {"sampler-0": 2},
    "fourth": {"sampler-0": 2},
    "environments": {"environments": 1},
}


@pytest.fixture
def nodes():
    """A cluster of six machines, each of processes of its own; they by name."""
    from ray.cluster_utils import Cluster

    memory = 80 << 20
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False},
    )
    found = {"head": cluster.head_node}
    for name, resources in NODES.items():
        found[name] = cluster.add_node(num_cpus=1, resources=resources, object_store_memory=memory)
    yield found
    cluster.shutdown()


def raylet(process: int) -> int:
    """Who started a worker: the raylet of its machine."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_each_role_goes_to_its_machine_and_outlives_a_host(nodes, tmp_path, request):
    command = [
        sys.executable, "-m", "cwm_jax", "rl", "--gin_file=experiments/tiny/reverse.gin", "--out", str(tmp_path),
        "--address", nodes["head"].address, "--gin.Rl.mesh=@learner/MeshShape()", "--gin.learner/MeshShape.replica=2",
        "--gin.Rl.inference_mesh=@host/MeshShape()", "--gin.host/MeshShape.tensor=2", "--gin.Reverse.letters=5",
        "--gin.Rl.ttl=10.0", "--gin.Rl.steps=10", "--gin.Rl.checkpoint_every=3", "--gin.Examining.tasks=8",
        "--gin.Reverse.instant=False",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    request.addfinalizer(process.kill)
    ledger, roles, until = tmp_path / "ledger.jsonl", tmp_path / "board" / "roles.json", time.monotonic() + 1800
    while not ledger.exists() or ledger.read_text().count('"consumed": ["') < 4:
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < until
        time.sleep(0.1)
    pids = json.loads(roles.read_text())
    owners = {one.all_processes["raylet"][0].process.pid: name for name, one in nodes.items()}
    places = {role: owners[raylet(pid)] for role, pid in pids.items()}
    assert {places.pop("learner"), places.pop("learner-1")} == {"first", "second"}
    assert {places.pop("sampler-0"), places.pop("sampler-0-1")} == {"third", "fourth"}
    assert places == {"board": "head", "env": "environments"}

    for lost in ("sampler-0-1", "learner-1"):
        os.kill(pids[lost], signal.SIGKILL)
    said, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, said[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["steps"] == 10 and results["identity"]["residual"] == 0
    assert results["versions"]["epochs"] == 2
    died = results["restarts"]  # whoever loses another may die of it by itself
    assert {"learner-1": 1, "sampler-0-1": 1}.items() <= died.items() and max(died.values()) == 1, died


def test_samplers_of_one_host_ask_for_any_machine_of_that_kind(monkeypatch):
    import ray

    machines = [{"learner": 1.0}, {"sampler": 1.0}, {"environments": 1.0}]
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": one} for one in machines])
    places = places_of(load(["experiments/tiny/reverse.gin"], ["Rl.samplers=2"]), "head:6379")
    assert places.samplers == [[{"resources": {"sampler": 1}}]] * 2 and places.pools == 2


def test_here_roles_ask_for_nothing():
    assert places_of(load(["experiments/tiny/reverse.gin"], []), None) == (1, [{}], [[{}]], {}, {})


def test_a_cluster_without_a_learner_says_what_to_start(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1.0, "sampler": 1.0}}])
    with pytest.raises(ValueError, match="no machine there has the resource 'learner'; start Ray"):
        places_of(load(["experiments/tiny/reverse.gin"], []), "head:6379")
