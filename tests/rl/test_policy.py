"""Weights on their way from the learner to readers: whole, newest, never deleted under a reader, on any mesh."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cwm_jax.checkpoints.training import DamagedCheckpoint
from cwm_jax.model.sharding import MeshShape
from cwm_jax.rl.policy import Gone, Policies, PolicyReader, Publisher


def params(version, size=64):
    """Weights in which every number tells the version."""
    return {
        "a": jnp.full((size, 8), version, jnp.bfloat16),
        "blocks": {"b": jnp.full((4, 8, 16), -version, jnp.float32)},
    }


def abstract(tree):
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), tree)


def said(tree):
    """The version that all numbers tell."""
    (found,) = {*np.unique(np.asarray(tree["a"], np.float32)), *np.unique(-np.asarray(tree["blocks"]["b"]))}
    return int(found)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_what_is_published_is_what_readers_load(tmp_path):
    reader = PolicyReader(tmp_path, "host")
    assert reader.newest() is None
    with Publisher(tmp_path) as publisher:
        for step in (10, 20):
            publisher.publish(params(step), step)
    newest = reader.newest()
    assert (newest.version, newest.epoch, newest.step, newest.dtype) == (2, 1, 20, "bfloat16")
    assert newest.bytes == 64 * 8 * 2 + 4 * 8 * 16 * 4 and newest.name == "pub-000001-000000000002.json"
    assert said(reader.load(newest, abstract(params(0)))) == 20
    lease = json.loads((tmp_path / "board" / "lease-host.json").read_text())
    assert (lease["loading"], lease["using"]) == (2, None)
    reader.use(2)
    lease = json.loads((tmp_path / "board" / "lease-host.json").read_text())
    assert (lease["loading"], lease["using"]) == (None, 2)


def test_a_learner_that_starts_again_goes_on_counting(tmp_path):
    with Publisher(tmp_path) as publisher:
        for step in range(1, 6):
            publisher.publish(params(step), step)
    (tmp_path / "policy" / "9.orbax-checkpoint-tmp-1").mkdir()  # was being written when the learner died
    with Publisher(tmp_path, parent=3) as publisher:
        assert (publisher.epoch, publisher.version) == (2, 9)
        assert publisher.publish(params(4), 4) == 10
    newest = Policies(tmp_path).newest()
    assert (newest.epoch, newest.version, newest.parent, newest.step) == (2, 10, 3, 4)


def test_versions_go_unless_they_are_new_or_leased(tmp_path):
    clock = Clock()
    reader = PolicyReader(tmp_path, "slow", ttl=60.0, clock=clock)
    with Publisher(tmp_path, clock=clock) as publisher:
        publisher.publish(params(1), 1)
        publisher.wait()
        reader.load(reader.newest(), abstract(params(0)))
        reader.use(1)
        for step in range(2, 7):
            publisher.publish(params(step), step)
        publisher.wait()
        there = lambda: sorted(int(path.name) for path in (tmp_path / "policy").iterdir())  # noqa: E731
        assert there() == [1, 4, 5, 6]
        clock.now += 61  # it has not been heard of for long
        publisher.publish(params(7), 7)
        publisher.wait()
        assert there() == [5, 6, 7] and len(publisher.names()) == 3


def test_what_was_deleted_is_gone_and_no_error_of_the_reader(tmp_path):
    reader = PolicyReader(tmp_path, "late")
    with Publisher(tmp_path) as publisher:
        publisher.publish(params(1), 1)
        publisher.wait()
        old = reader.newest()
        for step in range(2, 6):
            publisher.publish(params(step), step)
    with pytest.raises(Gone):
        reader.load(old, abstract(params(0)))
    assert json.loads((tmp_path / "board" / "lease-late.json").read_text())["loading"] is None
    assert said(reader.load(reader.newest(), abstract(params(0)))) == 5


def test_what_is_not_announced_any_more_is_not_loaded_though_it_is_still_there(tmp_path):
    """Its lease may have come too late to be seen, and the folder go any moment."""
    reader = PolicyReader(tmp_path, "late")
    with Publisher(tmp_path) as publisher:
        publisher.publish(params(1), 1)
    newest = reader.newest()
    (tmp_path / "board" / newest.name).unlink()
    assert publisher.folder(1).exists()
    with pytest.raises(Gone, match="not announced any more"):
        reader.load(newest, abstract(params(0)))


def test_damage_on_the_way_is_noticed(tmp_path):
    reader = PolicyReader(tmp_path, "host")
    with Publisher(tmp_path) as publisher:
        publisher.publish(params(1), 1)
    path = tmp_path / "board" / reader.newest().name
    told = json.loads(path.read_text())
    told["fingerprints"]["a"] ^= 1
    path.write_text(json.dumps(told))
    with pytest.raises(DamagedCheckpoint, match="version 1: a is not as published"):
        reader.load(reader.newest(), abstract(params(0)))


@pytest.mark.parametrize(
    "here, there", [(MeshShape(fsdp=4, tensor=2), MeshShape(fsdp=8)), (MeshShape(fsdp=8), MeshShape(tensor=8))]
)
def test_a_reader_has_a_mesh_of_its_own(tmp_path, here, there):
    """Of T5: written by eight devices cut one way, read by eight cut another way, bit by bit the same."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(16, 8)).astype("float32"), "v": rng.normal(size=(8, 32)).astype("float32")}
    written, read = here.build(), there.build()
    place = lambda mesh: NamedSharding(mesh, PartitionSpec("fsdp", "tensor"))  # noqa: E731
    with jax.set_mesh(written), Publisher(tmp_path) as publisher:
        publisher.publish({name: jax.device_put(x, place(written)) for name, x in arrays.items()}, 1)
    reader = PolicyReader(tmp_path, "host")
    with jax.set_mesh(read):
        wanted = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(read)) for name, x in arrays.items()}
        loaded = reader.load(reader.newest(), wanted)
    for name, x in arrays.items():
        assert loaded[name].sharding.is_equivalent_to(place(read), 2)
        np.testing.assert_array_equal(np.asarray(loaded[name]), x)


READER = """
import sys, time
sys.path.insert(0, sys.argv[5])
from test_policy import abstract, params, said
from cwm_jax.rl.policy import Gone, PolicyReader
folder, name, seconds, ttl = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
reader = PolicyReader(folder, name, ttl=ttl)
print("begun", flush=True)
while True:
    if (newest := reader.newest()) is None:
        continue
    time.sleep(seconds)  # it is slow to begin
    try:
        print("loaded", newest.version, said(reader.load(newest, abstract(params(0)))), flush=True)
        reader.use(newest.version)
    except Gone:
        print("gone", newest.version, flush=True)
    if newest.version == 60:
        break
"""


def test_slow_readers_against_a_fast_publisher(tmp_path):
    """T4: nobody ever loads what is being deleted, and a reader that lost its lease just asks again."""
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    kinds = (("quick", 0.0, 60.0), ("slow", 0.3, 60.0), ("forgotten", 0.6, 0.001))
    readers = {}
    for name, seconds, ttl in kinds:
        command = [sys.executable, "-c", READER, tmp_path, name, str(seconds), str(ttl), Path(__file__).parent]
        readers[name] = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    for process in readers.values():
        assert process.stdout.readline() == "begun\n"
    with Publisher(tmp_path) as publisher:
        for version in range(1, 61):
            publisher.publish(params(version), version)
    for name, process in readers.items():
        lines = [line.split() for line in process.communicate(timeout=120)[0].splitlines()]
        assert process.returncode == 0, name
        loaded = [line[1:] for line in lines if line[0] == "loaded"]
        assert loaded and all(version == told for version, told in loaded)
        versions = [int(version) for version, _ in loaded]
        assert versions == sorted(versions) and versions[-1] == 60


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_policy import params
from cwm_jax.rl.policy import Publisher
with Publisher(sys.argv[1]) as publisher:
    print("begun", flush=True)
    step = 0
    while True:
        step += 1
        publisher.publish(params(publisher.version + 1, 20_000), step)
"""


def test_a_writer_killed_at_any_moment_leaves_nothing_torn(tmp_path):
    """Of T3: killed with `kill -9` again and again while it publishes, what is announced is always whole."""
    rng, seen, reader = Random(1), [0], PolicyReader(tmp_path, "reader")
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)]
    for turn in range(40):
        if turn >= 5 and max(seen) > 5:  # on a busy machine one is killed before it has published anything
            break
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "begun\n"
            until = time.monotonic() + rng.uniform(0.05, 1.0)
            while time.monotonic() < until:
                load(reader, seen)
            writer.send_signal(signal.SIGKILL)
        load(reader, seen)
    assert max(seen) > 5 and seen == sorted(seen)
    assert reader.names()[-1] >= "pub-000002"  # a new epoch for who starts behind announcements


def load(reader, seen):
    if (newest := reader.newest()) is not None:
        try:
            assert said(reader.load(newest, abstract(params(0, 20_000)))) == newest.version
        except Gone:
            return
        reader.use(newest.version)
        seen.append(newest.version)


def test_signs_of_life_of_several_threads_do_not_meet(tmp_path):
    """A host renews its lease while weights are loaded in the background, which does so as well."""
    reader = PolicyReader(tmp_path, "host")
    with ThreadPoolExecutor(4) as pool:
        renewals = [pool.submit(reader.renew) for _ in range(400)]
    assert [one.exception() for one in renewals] == [None] * 400
    assert [path.name for path in (tmp_path / "board").iterdir()] == ["lease-host.json"]
