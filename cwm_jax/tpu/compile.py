"""The real train step, compiled by the real TPU compiler for chips that are not there."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from cwm_jax.data.buckets import BatchShape
from cwm_jax.data.rows import Row
from cwm_jax.report.progress import progress
from cwm_jax.tpu.chips import Topology
from cwm_jax.tpu.collectives import Collective, collectives
from cwm_jax.tpu.program import Executed, executed, largest
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.state import abstract_state
from cwm_jax.training.step import experiment_step

T = TypeVar("T")


@dataclass(frozen=True)
class Compiled:
    """What tracing and compiling a step told.

    Attributes:
      mesh: over the devices of the topology.
      shape: of its batch.
      executed: products and kernels.
      collectives: of one step.
      bytes: HBM of one device: arguments, temporaries and results, less what these share with arguments.
      largest: the largest arrays of one device, to be read.
      seconds: that tracing, lowering and compiling took.
    """

    mesh: Mesh
    shape: BatchShape
    executed: Executed
    collectives: list[Collective]
    bytes: int
    largest: str
    seconds: float


def compile_step(experiment: Experiment, topology: Topology) -> Compiled:
    """Compiles the step of an experiment's longest batches, showing progress; takes minutes where models are large.

    Raises:
      ValueError: the mesh has another number of devices than the topology, or the compiler finds that the step does not
        fit; the message names its largest arrays.
    """
    if experiment.mesh_shape.devices != topology.devices:
        raise ValueError(
            f"{experiment.mesh_shape} has {experiment.mesh_shape.devices} devices, {topology} has {topology.devices} "
            f"({topology.chip.devices} a chip); bind another MeshShape or give another --topology"
        )
    mesh = experiment.mesh_shape.build(topology.describe())
    shape = experiment.data.layout[-1].shape(experiment.stream.tokens_per_batch, experiment.rules.batch_shards(mesh))
    program = compile_program(topology, "step", lambda: _trace(experiment, mesh, shape))
    return Compiled(mesh, shape, *program)


class CompiledProgram(NamedTuple):
    """What tracing and compiling a program told; the fields are those of `Compiled`."""

    executed: Executed
    collectives: list[Collective]
    bytes: int
    largest: str
    seconds: float


def compile_program(topology: Topology, name: str, trace: Callable[[], tuple[Any, Any]]) -> CompiledProgram:
    """Traces and compiles a program, showing progress.

    Args:
      topology: what it is for.
      name: what a message calls it.
      trace: gives its arguments, as shapes that lie on the mesh, and itself traced with them.

    Raises:
      ValueError: the compiler finds that it does not fit; the message names its largest arrays.
    """
    began = time.monotonic()
    with progress(f"compiling for {topology}", None, unit="seconds") as bar:

        def shown(stage: str, call: Callable[[], T]) -> T:
            return _in_background(call, lambda: bar.update(int(time.monotonic() - began), f"{name}: {stage}"))

        arguments, traced = shown("tracing", trace)
        arrays = "the largest arrays of one device:\n" + "\n".join(largest(traced.jaxpr.jaxpr, arguments))
        lowered = shown("lowering", lambda: traced.lower(lowering_platforms=("tpu",)))
        try:
            compiled = shown("compiling", lowered.compile)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            reason = " ".join(str(error).split("RESOURCE_EXHAUSTED:")[-1].split())[:200]
            raise ValueError(f"{topology} does not hold this {name}: {reason}\n{arrays}") from None
    memory = compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    used -= memory.alias_size_in_bytes
    counts = executed(traced.jaxpr.jaxpr), collectives(compiled.as_text())
    return CompiledProgram(*counts, used, arrays, time.monotonic() - began)


def _trace(experiment: Experiment, mesh: Mesh, shape: BatchShape) -> tuple[tuple[Any, Row], Any]:
    """The step's arguments, as shapes that lie on the mesh, and the step traced with them."""
    vocab_size = experiment.data.vocabulary_size
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # so that constants are made on the CPU
        place = NamedSharding(mesh, experiment.rules.spec("batch", "sequence"))
        dtypes = (jnp.int32, jnp.int32, jnp.int32, jnp.float32)
        batch = Row(*(jax.ShapeDtypeStruct((shape.rows, shape.length), dtype, sharding=place) for dtype in dtypes))
        step = experiment_step(experiment, vocab_size, shape.global_window)
        arguments = abstract_state(experiment, vocab_size, mesh), batch
        return arguments, jax.jit(step, donate_argnums=0).trace(*arguments)


def _in_background(call: Callable[[], T], tick: Callable[[], None]) -> T:
    """`call()`, with a tick every second; Ctrl-C does not wait for the compiler."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        tick()
        thread.join(timeout=1.0)
    if failure:
        raise failure[0]
    return result[0]
