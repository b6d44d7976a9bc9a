"""What a traced step executes and keeps, read off its jaxpr: before any compiler, and with names.

The compiler counts loops once and Pallas kernels not at all, and says nothing of a program that does not fit.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend import core

_SEEN_THROUGH = ("jit", "reshape", "transpose", "convert_element_type", "broadcast_in_dim")
"""Primitives whose result is counted inside, or fuses with what reads it."""


@dataclass(frozen=True)
class Executed:
    """Work of one step on all devices together, recomputation included.

    Attributes:
      matmul_flops: in products outside kernels.
      kernels: how often each Pallas kernel runs on one device.
    """

    matmul_flops: float
    kernels: Counter[str]

    @property
    def attention_products(self) -> int:
        """Products of splash attention: two forward, three for dQ, four for dK and dV, five where these are fused."""
        count = {part: sum(n for name, n in self.kernels.items() if part in name) for part in ("fwd", "dq", "dkv")}
        fused = count["dkv"] - count["dq"]
        return 2 * count["fwd"] + 7 * count["dq"] + 5 * fused


def executed(jaxpr: core.Jaxpr) -> Executed:
    """Counts the products and the kernels of a step."""
    flops, kernels = 0.0, Counter()
    for equation, times, devices in _equations(jaxpr, 1, 1):
        if equation.primitive.name == "dot_general":
            flops += times * devices * _dot_flops(equation)
        elif equation.primitive.name == "pallas_call":
            kernels[equation.params["name"]] += times
    return Executed(flops, kernels)


def largest(jaxpr: core.Jaxpr, arguments: Any, count: int = 6) -> list[str]:
    """The largest arrays of a step on one device, arguments and intermediate ones, as lines to print.

    Args:
      arguments: the step's arguments as shapes with shardings.
    """
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(arguments):
        shape = leaf.sharding.shard_shape(leaf.shape)
        what = f"argument {jax.tree_util.keystr(path, simple=True, separator='.')}"
        sizes[f"{leaf.dtype}{list(shape)} {what}"] = math.prod(shape) * leaf.dtype.itemsize
    for equation, _, _ in _equations(jaxpr, 1, 1):
        if equation.primitive.name in _SEEN_THROUGH:
            continue
        for variable in equation.outvars:
            if isinstance(aval := variable.aval, jax.core.ShapedArray) and not aval.sharding.mesh.are_all_axes_auto:
                shape = _shard(aval)
                what = f"{equation.primitive.name} in {equation.source_info.name_stack or 'the step'}"
                sizes[f"{aval.dtype}{list(shape)} {what}"] = math.prod(shape) * aval.dtype.itemsize
    top = sorted(sizes, key=sizes.get, reverse=True)[:count]
    return [f"{sizes[name] / 2**30:8.2f} GiB  {name}" for name in top]


def _shard(array: jax.core.ShapedArray) -> tuple[int, ...]:
    """The shape of an intermediate array on one device; inside `shard_map` it has that shape already."""
    sizes, spec = array.sharding.mesh.shape, array.sharding.spec
    names = [axes if isinstance(axes, tuple) else (axes,) for axes in spec]
    return tuple(
        size // math.prod(sizes[axis] for axis in axes if axis in sizes) for size, axes in zip(array.shape, names)
    )


def _equations(jaxpr: core.Jaxpr, times: int, devices: int) -> Iterator[tuple[core.JaxprEqn, int, int]]:
    """All equations with how often they run, and on how many devices apart the shapes in them are."""
    for equation in jaxpr.eqns:
        yield equation, times, devices
        if equation.primitive.name == "pallas_call":
            continue
        inner_times = times * equation.params["length"] if equation.primitive.name == "scan" else times
        inner_devices = devices
        if equation.primitive.name == "shard_map":
            mesh = equation.params["mesh"]
            inner_devices *= math.prod(mesh.shape[axis] for axis in equation.params["newly_manual_axes"])
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                if hasattr(inner, "jaxpr"):
                    inner = inner.jaxpr
                if hasattr(inner, "eqns"):
                    yield from _equations(inner, inner_times, inner_devices)


def _dot_flops(equation: core.JaxprEqn) -> float:
    ((contracted, _), _) = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
