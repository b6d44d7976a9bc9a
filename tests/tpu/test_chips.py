"""Chips and topologies, with the compiler's own word where it is installed."""

import os
import subprocess
import sys

import pytest

from cwm_jax.tpu.chips import CHIPS, Topology, coordinates


@pytest.mark.parametrize(
    ("name", "chips", "devices"),
    [("v4:2x2x1", 4, 4), ("v5e:2x4", 8, 8), ("v5p:4x8x8", 256, 256), ("v6e:16x16", 256, 256), ("tpu7x:2x2x1", 4, 8),
     ("v5e:1x1", 1, 1)],
)  # fmt: skip
def test_the_compiler_agrees_on_devices(name, chips, devices):
    pytest.importorskip("libtpu")
    topology = Topology.parse(name)
    assert (str(topology), topology.chips, topology.devices) == (name, chips, devices)
    described = topology.describe()
    assert len(described) == devices
    assert len({tuple(place) for place in coordinates(described)}) == chips


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("v3:8x8", "no chip 'v3'; write one of v4, v5e"),
        ("v5p", "write 3 sizes, such as v5p:4x4x8"),
        ("v5p:16x16", "write 3 sizes"),
        ("v5e:4x4x4", "write 2 sizes, such as v5e:4x4"),
        ("v6e:0x4", "write 2 sizes"),
        ("v6e:3x3", "must be even"),
    ],
)
def test_bad_names_say_what_to_write(name, complaint):
    with pytest.raises(ValueError, match=complaint):
        Topology.parse(name)


def test_without_the_compiler_the_user_is_told_what_to_install():
    program = """
import sys
sys.modules["libtpu"] = None
from cwm_jax.tpu.chips import Topology
Topology.parse("v5e:2x2").describe()
"""
    env = {name: value for name, value in os.environ.items() if name != "TPU_LIBRARY_PATH"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=env)
    assert "ValueError: topology v5e:2x2" in done.stderr and "requirements-tpu.txt" in done.stderr


def test_bandwidth_grows_with_the_axes_and_halves_without_a_way_round():
    ring = CHIPS["v5p"].ici_bandwidth
    cubes, flat = Topology.parse("v5p:4x8x8"), Topology.parse("v5p:2x2x1")
    assert cubes.bandwidth([(0, 0, 0), (1, 0, 0)]) == ring
    assert cubes.bandwidth([(0, 0, 0), (1, 0, 0), (0, 3, 0), (0, 0, 5)]) == 3 * ring
    assert flat.bandwidth([(0, 0, 0), (0, 1, 0)]) == ring / 2
    assert Topology.parse("v5e:8x16").bandwidth([(0, 0), (1, 1)]) == 1.5 * CHIPS["v5e"].ici_bandwidth
