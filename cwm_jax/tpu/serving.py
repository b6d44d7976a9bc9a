"""The engine's two programs, compiled by the real TPU compiler for chips that are not there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cwm_jax.inference.batches import Batches
from cwm_jax.inference.cache import empty_cache
from cwm_jax.inference.programs import Programs
from cwm_jax.inference.served import Serve, placed_layer
from cwm_jax.model.transformer import Params, init_params, rebuilder
from cwm_jax.tpu.chips import Topology
from cwm_jax.tpu.collectives import table
from cwm_jax.tpu.compile import CompiledProgram, compile_program

PROGRAMS = ("prefill", "decode")


def compile_serving(serve: Serve, topology: Topology) -> tuple[dict[str, Any], str]:
    """Compiles a chunk of `prefill` at its largest, and `decode`; takes minutes where models are large.

    Returns:
      A report, ready for JSON, and the largest arrays of the program that takes most. Sizes are a chip's, in GiB;
      `at_least_ms` is what reading the weights once takes at full bandwidth: no step of decoding is faster.

    Raises:
      ValueError: `serve` does not say the shape of the model, its mesh has another number of devices than the topology,
        or the compiler finds that a program does not fit.
    """
    if serve.model is None or serve.vocabulary_size is None:
        raise ValueError("Serve.model and Serve.vocabulary_size say what to compile; bind both")
    if serve.mesh_shape.devices != topology.devices:
        raise ValueError(
            f"Serve.mesh={serve.mesh} has {serve.mesh_shape.devices} devices, {topology} has {topology.devices}; "
            "bind another mesh or give another --topology"
        )
    mesh = serve.mesh_shape.build(topology.describe())
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        weights, cache = _weights(serve, mesh), _cache(serve, mesh)
    compiled = {
        name: compile_program(topology, name, lambda name=name: _trace(name, serve, mesh, weights, cache))
        for name in PROGRAMS
    }
    chip, gib = topology.chip, _gib_of(topology)
    most = max(compiled.values(), key=lambda program: program.bytes)
    layout = serve.engine.layout(serve.model)
    report = {
        "topology": str(topology),
        "chips": topology.chips,
        "mesh": dict(mesh.shape),
        "precision": f"{type(serve.weights).__name__}, {serve.compute}",
        "slots": serve.engine.slots,
        "longest": serve.engine.max_length,
        "tokens_in_pages": layout.groups[0].pages * layout.page,
        "hbm_gib": chip.hbm_gib,
        "weights_gib": gib(_bytes(weights)),
        "cache_gib": gib(_bytes(cache)),
        "used_gib": gib(most.bytes),
        "fits": most.bytes * chip.devices / 2**30 <= chip.hbm_gib,
        "at_least_ms": float(f"{_bytes(weights) * chip.devices / chip.hbm_bandwidth * 1e3:.4g}"),
        "programs": {name: _report(program, mesh, gib) for name, program in compiled.items()},
    }
    return report, most.largest


def _gib_of(topology: Topology) -> Callable[[int], float]:
    """From bytes of a device to GiB of its chip, rounded."""
    return lambda size: float(f"{size * topology.chip.devices / 2**30:.4g}")


def _report(program: CompiledProgram, mesh: Mesh, gib: Callable[[int], float]) -> dict[str, Any]:
    return {
        "used_gib": gib(program.bytes),
        "collectives": table(program.collectives, dict(mesh.shape)),
        "compile_seconds": round(program.seconds, 1),
    }


def _bytes(tree: Any) -> int:
    """Of a tree of shapes on one device."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
    )


def _weights(serve: Serve, mesh: Mesh) -> Params:
    """The weights as the engine holds them, as shapes."""
    stacked = jax.eval_shape(lambda: init_params(serve.model, serve.vocabulary_size, 0))

    def placed(part: dict[str, Any]) -> dict[str, Any]:
        part = {name: jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(serve.compute)) for name, leaf in part.items()}
        places = placed_layer(serve.rules, part, mesh)
        made = jax.eval_shape(serve.weights, part)

        def lies(name: str, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            spec = [None if size == 1 else axis for axis, size in zip(places[name].spec, leaf.shape)]
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, P(*spec)))

        return {name: jax.tree.map(lambda leaf: lies(name, leaf), one) for name, one in made.items()}

    layer = {name: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for name, leaf in stacked["blocks"].items()}
    blocks = {name: (one,) * serve.model.layers for name, one in placed(layer).items()}
    return {**placed({name: leaf for name, leaf in stacked.items() if name != "blocks"}), "blocks": blocks}


def _cache(serve: Serve, mesh: Mesh) -> Any:
    """The engine's caches, as shapes."""
    made = jax.eval_shape(
        lambda: empty_cache(serve.model, serve.engine.layout(serve.model), jnp.dtype(serve.compute), serve.rules)
    )

    def lies(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        spec = leaf.sharding.spec if leaf.sharding is not None else P()
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(lies, made)


def _trace(name: str, serve: Serve, mesh: Mesh, weights: Params, cache: Any) -> tuple[Any, Any]:
    """A program's arguments as shapes, and the program traced with them."""
    c = serve.engine
    layout = c.layout(serve.model)
    tables_BE = [np.zeros((c.slots, group.width), np.int32) for group in layout.groups]
    batches = Batches(c)
    batch = batches.prefill([], [], tables_BE, batches.shapes()[-1])
    if name == "decode":
        batch = batches.decode([], [], tables_BE)
    whole = NamedSharding(mesh, P())
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), batch)
    programs = Programs(
        rebuilder(serve.model, serve.vocabulary_size), layout, serve.rules, c.draft, c.steps, c.top_logprobs
    )
    prefill, decode = programs.compiled()
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # so that constants are made on the CPU
        if name == "decode":
            program = decode.trace(weights, cache, batch)
        else:
            program = prefill.trace(weights, cache, batch, False)
    return (weights, cache, batch), program
