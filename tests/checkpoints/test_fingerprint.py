"""The fingerprint of a training state, which tells damage from what was saved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cwm_jax.checkpoints.fingerprint import fingerprint
from cwm_jax.model.sharding import MeshShape


def tree(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w": jnp.asarray(rng.normal(size=(8, 4, 6)), "float32"),
        "half": jnp.asarray(rng.normal(size=(16, 8)), "bfloat16"),
        "count": jnp.int32(7),
    }


@pytest.mark.parametrize("shape", [MeshShape(replica=2), MeshShape(fsdp=4, tensor=2), MeshShape(fsdp=8)])
def test_it_is_the_same_on_every_mesh(shape):
    mesh = shape.build()
    places = {"w": PartitionSpec("fsdp"), "half": PartitionSpec("fsdp", "tensor"), "count": PartitionSpec()}
    with jax.set_mesh(mesh):
        spread = {name: jax.device_put(x, NamedSharding(mesh, places[name])) for name, x in tree().items()}
        found = jax.device_get(fingerprint(spread))
    assert found == jax.device_get(fingerprint(tree()))


def test_any_changed_bit_and_any_swap_change_it():
    before = np.array(tree()["w"])
    expected = int(fingerprint(jnp.asarray(before)))
    for bit in range(32):
        after = before.copy()
        after.view(np.uint32)[3, 2, 1] ^= np.uint32(1) << np.uint32(bit)
        assert int(fingerprint(jnp.asarray(after))) != expected
    after = before.copy()
    after[[0, 5]] = after[[5, 0]]
    assert int(fingerprint(jnp.asarray(after))) != expected
