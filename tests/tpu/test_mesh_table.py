"""The table of meshes fits the slices that it names, and CWM fits the meshes."""

from typing import get_args

import jax
import pytest

from cwm_jax import config
from cwm_jax.model.meshes import MESHES, MeshName
from cwm_jax.model.sharding import ShardingRules
from cwm_jax.model.transformer import ModelConfig, init_params
from cwm_jax.tpu.chips import CHIPS, Topology
from cwm_jax.training.experiment import Experiment

ROWS = {"131k": 256, "32k": 64, "": 1024}  # of a global batch of CWM's stages


@pytest.mark.parametrize("name", MESHES)
def test_a_mesh_has_as_many_devices_as_its_slices(name):
    slices, topology = (2, name[2:]) if name.startswith("2x") else (1, name)
    assert MESHES[name].devices == slices * Topology.parse(topology.split("/")[0]).devices
    assert MESHES[name].replica % slices == 0


@pytest.mark.parametrize("name", MESHES)
def test_the_released_model_can_be_cut_so(name):
    shapes = jax.eval_shape(
        lambda: init_params(config.load(["experiments/models/cwm_32b.gin"], [], ModelConfig), 128_256, 0)
    )
    sizes = dict(zip(("replica", "fsdp", "context", "tensor"), MESHES[name].sizes))
    mesh = jax.sharding.AbstractMesh(tuple(sizes.values()), tuple(sizes))
    ShardingRules().shardings(shapes, mesh)


def test_every_name_has_its_row():
    assert set(get_args(MeshName)) == set(MESHES)
    assert {name.removeprefix("2x").partition(":")[0] for name in MESHES} == set(CHIPS) - {"v4"}


def test_an_experiment_names_its_mesh():
    assert config.load([], ["Experiment.mesh='v5p:4x8x8/131k'"], Experiment).mesh_shape.context == 16
    with pytest.raises(config.ConfigError, match="does not fit"):
        config.load([], ["Experiment.mesh='v5p:4x8'"], Experiment)
