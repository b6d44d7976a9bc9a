"""Objective and figures of rows that are cut over devices are those of whole rows."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding

from cwm_jax.model.sharding import MeshShape, ShardingRules
from cwm_jax.rl.objective import GeometricMean, Objective, ProbabilityDifference, SequenceMean, Terms, TokenMean, by_age

OBJECTIVES = {
    "as CWM": Objective(),
    "by sequence": Objective(counts=GeometricMean(0.9, 1.1), mean=SequenceMean()),
    "by token": Objective(counts=ProbabilityDifference(), mean=TokenMean()),
}


@pytest.mark.parametrize("mesh", [MeshShape(context=4), MeshShape(replica=2, context=2)], ids=str)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_cut_rows_give_what_whole_ones_do(name, mesh):
    rng, shape = np.random.default_rng(0), (2, 16)
    logs = [rng.normal(-1, 0.1, shape).astype(np.float32) for _ in range(3)]
    rest = [rng.normal(size=shape).astype(np.float32), (rng.random(shape) < 0.7).astype(np.float32)]
    arrays = [*logs, *rest, np.repeat([[1] * 9 + [2] * 7], 2, axis=0), rng.integers(0, 9, shape), np.zeros(shape)]

    def values(*arrays):
        return OBJECTIVES[name](Terms(*arrays[:6]), arrays[7]), by_age(Terms(*arrays[:6]), arrays[6])

    whole = jax.jit(values)(*arrays)
    mesh = mesh.build()
    with jax.set_mesh(mesh):
        place = NamedSharding(mesh, ShardingRules().spec("batch", "sequence"))
        cut = jax.jit(values)(*(jax.device_put(array, place) for array in arrays))
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5), cut, whole)
