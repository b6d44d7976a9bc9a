"""One mesh, one set of rules: which logical axis of an array lies on which axis of the mesh."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, reshard
from jax.sharding import PartitionSpec as P

MESH_AXES = ("replica", "fsdp", "context", "tensor")

# Logical axes of the weights, by name; those in `blocks` have a leading axis of layers, which lies whole.
WEIGHT_AXES: dict[str, tuple[str | None, ...]] = {
    "embed": ("embed_rows", "embed_columns"),
    "lm_head": ("embed", "vocab"),
    "wq": (None, "embed", "heads", None),
    "wk": (None, "embed", "heads", None),
    "wv": (None, "embed", "heads", None),
    "wo": (None, "heads", None, "embed"),
    "gate": (None, "embed", "ff"),
    "up": (None, "embed", "ff"),
    "down": (None, "ff", "embed"),
}


@dataclass(frozen=True)
class MeshShape:
    """Devices along each mesh axis; their product must be the number of devices.

    Attributes:
      replica: copies of the weights (one per slice or, on CPUs, one per core).
      fsdp: shards of weights and batch.
      context: shards of the sequence, and again of the weights.
      tensor: shards of heads and feed-forward.
    """

    replica: int = 1
    fsdp: int = 1
    context: int = 1
    tensor: int = 1

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        return self.replica, self.fsdp, self.context, self.tensor

    @property
    def devices(self) -> int:
        return math.prod(self.sizes)

    def build(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """The mesh over the first of `devices` (default: all that JAX sees), its axes in explicit mode.

        On TPUs neighbours in the mesh are neighbours in the chip network, and only `replica` crosses slices.

        Raises:
          ValueError: there are fewer devices than the shape asks for, or the slices do not divide `replica`.
        """
        devices = list(jax.devices() if devices is None else devices)
        if len(devices) < self.devices:
            raise ValueError(f"MeshShape asks for {self.devices} devices, there are {len(devices)}; change the mesh")
        devices = devices[: self.devices]
        slices = len({getattr(device, "slice_index", 0) for device in devices})
        if devices[0].platform != "tpu":
            grid = np.asarray(devices).reshape(self.sizes)
        elif slices == 1:
            grid = mesh_utils.create_device_mesh(self.sizes, devices, allow_split_physical_axes=True)
        elif self.replica % slices:
            raise ValueError(f"MeshShape.replica={self.replica} must be a multiple of the {slices} slices")
        else:
            inside = (self.replica // slices, *self.sizes[1:])
            grid = mesh_utils.create_hybrid_device_mesh(
                inside, (slices, 1, 1, 1), devices, allow_split_physical_axes=True
            )
        return Mesh(grid, MESH_AXES, axis_types=(AxisType.Explicit,) * len(MESH_AXES))


@dataclass(frozen=True)
class ShardingRules:
    """Logical axis -> mesh axes; () means whole.

    The defaults serve every mesh: weights and optimiser are cut along the model's width over fsdp and context together
    (over fsdp alone a step at 131k would hold 21 GiB more a chip), along heads, feed-forward and vocabulary over
    tensor. The embedding is cut by rows, and gathered whole before it is looked up; CWM has 256 · 501 of them, too odd
    a number for fsdp and context together.
    """

    batch: tuple[str, ...] = ("replica", "fsdp")
    sequence: tuple[str, ...] = ("context",)
    embed: tuple[str, ...] = ("fsdp", "context")
    heads: tuple[str, ...] = ("tensor",)
    ff: tuple[str, ...] = ("tensor",)
    vocab: tuple[str, ...] = ("tensor",)
    embed_rows: tuple[str, ...] = ("fsdp",)
    embed_columns: tuple[str, ...] = ("tensor",)

    def spec(self, *logical: str | None) -> P:
        """The partition spec of an array with these logical axes, without mesh axes of size 1 in the mesh in force.

        Raises:
          ValueError: two axes of one array would lie on one mesh axis.
        """
        mesh_axes = [getattr(self, name) if name else () for name in logical]
        used = [axis for axes in mesh_axes for axis in axes]
        if len(used) != len(set(used)):
            raise ValueError(f"axes {logical} collide on the mesh: {mesh_axes}")
        sizes = jax.sharding.get_abstract_mesh().shape
        return P(*(tuple(axis for axis in axes if sizes.get(axis) != 1) or None for axes in mesh_axes))

    def whole(self, name: str, weight: Any) -> Any:
        """A weight as the network uses it: gathered along the axes that FSDP cuts. Without its axis of layers.

        Of a weight in parts, such as numbers and their scales, each part lies as the weight where it is as long.
        """
        if jax.sharding.get_abstract_mesh().empty or name not in WEIGHT_AXES:
            return weight

        def gathered(part: jax.Array) -> jax.Array:
            axes = WEIGHT_AXES[name][-part.ndim :]
            whole = [size == 1 or axis in ("embed", "embed_rows") for axis, size in zip(axes, part.shape)]
            return reshard(part, self.spec(*(None if one else axis for one, axis in zip(whole, axes))))

        return jax.tree.map(gathered, weight)

    def shardings(self, tree: Any, mesh: Mesh) -> Any:
        """The sharding of every array in a tree of weights, or of an optimiser's state, which names them alike.

        Args:
          tree: arrays or their shapes.
          mesh: the mesh in force.

        Raises:
          ValueError: an axis cannot be cut into as many parts as the mesh has.
        """

        def sharding(path, leaf) -> NamedSharding:
            name = path[-1].key if path and isinstance(path[-1], jax.tree_util.DictKey) else None
            axes = WEIGHT_AXES.get(name, ())
            spec = self.spec(*axes) if len(axes) == len(leaf.shape) else P()
            for axis, size in zip(axes, leaf.shape):
                parts = math.prod(mesh.shape[one] for one in getattr(self, axis)) if axis else 1
                if size % parts:
                    raise ValueError(f"{name} has {size} along {axis}, which the mesh cuts in {parts}; change the mesh")
            return NamedSharding(mesh, spec)

        return jax.tree_util.tree_map_with_path(sharding, tree)

    def batch_shards(self, mesh: Mesh) -> int:
        """In how many parts the batch lies on `mesh`."""
        return math.prod(mesh.shape[axis] for axis in self.batch)

    def my_batch_shards(self, mesh: Mesh) -> tuple[int, int]:
        """The first of these parts that devices of this process hold, and the one after the last."""
        shards = self.batch_shards(mesh)
        held = NamedSharding(mesh, self.spec("batch")).addressable_devices_indices_map((shards,)).values()
        bounds = [index[0].indices(shards)[:2] for index in held]
        return min(start for start, _ in bounds), max(stop for _, stop in bounds)
