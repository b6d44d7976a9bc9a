"""One mesh, one set of rules: which logical axis of an array lies on which axis of the mesh."""

import math
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

MESH_AXES = ("replica", "fsdp", "context", "tensor")


@dataclass(frozen=True)
class MeshShape:
    """Devices along each mesh axis; their product must be the number of devices.

    Attributes:
      replica: copies of the weights (one per slice or, on CPUs, one per core).
      fsdp: shards of weights and batch.
      context: shards of the sequence.
      tensor: shards of heads and feed-forward.
    """

    replica: int = 1
    fsdp: int = 1
    context: int = 1
    tensor: int = 1

    @property
    def devices(self) -> int:
        return self.replica * self.fsdp * self.context * self.tensor

    def build(self) -> Mesh:
        """The mesh over the first `devices` devices, its axes in explicit mode.

        Raises:
          ValueError: fewer devices than the shape asks for.
        """
        if jax.device_count() < self.devices:
            raise ValueError(f"MeshShape asks for {self.devices} devices, JAX sees {jax.device_count()}")
        shape = (self.replica, self.fsdp, self.context, self.tensor)
        devices = np.asarray(jax.devices()[: self.devices]).reshape(shape)
        return Mesh(devices, MESH_AXES, axis_types=(AxisType.Explicit,) * len(MESH_AXES))


@dataclass(frozen=True)
class ShardingRules:
    """Logical axis -> mesh axes. `None` means replicated.

    Defaults: the batch over replica and fsdp, sequences whole, weights replicated,
    which is right for a model that fits each device many times over.
    """

    batch: tuple[str, ...] = ("replica", "fsdp")
    sequence: tuple[str, ...] = ()

    def spec(self, *logical: str | None) -> P:
        """The partition spec of an array with these logical axes.

        Raises:
          ValueError: two axes of one array would lie on one mesh axis.
        """
        mesh_axes = [(getattr(self, name) or None) if name else None for name in logical]
        used = [axis for axes in mesh_axes if axes for axis in axes]
        if len(used) != len(set(used)):
            raise ValueError(f"axes {logical} collide on the mesh: {mesh_axes}")
        return P(*mesh_axes)

    def batch_shards(self, mesh: Mesh) -> int:
        """In how many parts the batch lies on `mesh`."""
        return math.prod(mesh.shape[axis] for axis in self.batch)
