"""TPU generations, and named topologies of them such as `v5p:4x8x8`."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cwm_jax.tpu import libtpu


@dataclass(frozen=True)
class Chip:
    """One generation, per chip. Figures are those of its maker's documentation, except where said.

    Attributes:
      name: as in a topology's name.
      peak: bf16 FLOP/s.
      hbm_gib: what the compiler lets a program use (read off its own error message), GiB.
      hbm_bandwidth: bytes/s.
      ici_bandwidth: bytes/s that a ring over one axis of the torus moves past a chip, both directions together.
      axes: dimensions of the torus.
      mxu: rows and columns of the matrix unit; a head narrower than that leaves part of it idle.
      devices: JAX devices in one chip.
      config: the compiler's name for the way cores make devices.
    """

    name: str
    peak: float
    hbm_gib: float
    hbm_bandwidth: float
    ici_bandwidth: float
    axes: int
    mxu: int
    devices: int = 1
    config: str = "default"


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 30.75, 1228e9, 90e9, axes=3, mxu=128, config="megacore"),
        Chip("v5e", 197e12, 15.75, 819e9, 90e9, axes=2, mxu=128),
        Chip("v5p", 459e12, 95.74, 2765e9, 180e9, axes=3, mxu=128, config="megacore"),
        Chip("v6e", 918e12, 31.25, 1638e9, 180e9, axes=2, mxu=256),
        Chip("tpu7x", 2307e12, 189.5, 7380e9, 200e9, axes=3, mxu=256, devices=2),
    )
}


@dataclass(frozen=True)
class Topology:
    """A slice of chips: `shape` of them along the axes of the torus."""

    chip: Chip
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, name: str) -> "Topology":
        """The topology of a name such as `v5p:4x8x8` or `v5e:2x4`.

        Raises:
          ValueError: there is no such chip, or the shape does not fit it.
        """
        chip, _, shape = name.partition(":")
        if chip not in CHIPS:
            raise ValueError(f"topology {name!r}: there is no chip {chip!r}; write one of {', '.join(CHIPS)}")
        chip, example = CHIPS[chip], "x".join("448"[: CHIPS[chip].axes])
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape) or shape.count("x") + 1 != chip.axes:
            raise ValueError(f"topology {name!r}: write {chip.axes} sizes, such as {chip.name}:{example}")
        sizes = tuple(map(int, shape.split("x")))
        if math.prod(sizes) > 1 and any(size % 2 for size in sizes[:2]):
            raise ValueError(f"topology {name!r}: the first two sizes must be even, as a host holds 2x2 chips")
        return cls(chip, sizes)

    def __str__(self) -> str:
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def devices(self) -> int:
        return self.chips * self.chip.devices

    def describe(self) -> list[Any]:
        """The devices as the compiler knows them; none of them is there.

        Raises:
          ValueError: libtpu is not installed, or refuses the topology.
        """
        from jax.experimental import topologies

        libtpu.compile_only()
        host = {"chips_per_host_bounds": (1, 1, 1)} if self.chips == 1 else {}
        try:
            described = topologies.get_topology_desc(str(self), "tpu", chip_config_name=self.chip.config, **host)
        except RuntimeError as error:
            raise ValueError(f"topology {self}: {error}; the compiler is libtpu, see requirements-tpu.txt") from None
        return described.devices

    def bandwidth(self, coordinates: Sequence[Sequence[int]]) -> float:
        """Bytes/s at which a chip takes part in a collective of the chips at `coordinates`.

        Each axis of the torus along which the chips differ is a ring of its own. Without a way round, half as fast:
        two-dimensional slices close a ring of 16, three-dimensional ones all axes when made of cubes of 4x4x4.
        """
        axes = [axis for axis, positions in enumerate(zip(*coordinates)) if len(set(positions)) > 1]
        cubes = all(size % 4 == 0 for size in self.shape)
        closed = [cubes if self.chip.axes == 3 else self.shape[axis] == 16 for axis in axes]
        return self.chip.ici_bandwidth * sum(1.0 if ring else 0.5 for ring in closed)


def coordinates(devices: Sequence[Any]) -> np.ndarray:
    """Where the chips of these devices are, [devices, axes]."""
    return np.array([device.coords for device in devices])
