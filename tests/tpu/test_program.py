"""What a traced step executes, against a count by hand."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cwm_jax.tpu.program import executed, largest

LAYERS, D, F, B = 3, 64, 128, 32


def traced(remat: bool):
    """Gradients of scanned layers of two products; the first one runs inside `shard_map`."""
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Explicit,))

    def layer(x_BD, weights):
        up = jax.shard_map(jnp.dot, in_specs=(P("fsdp"), P()), out_specs=P("fsdp"))
        return x_BD + jnp.tanh(up(x_BD, weights[0])) @ weights[1], None

    def step(weights, x_BD):
        body = jax.checkpoint(layer) if remat else layer
        return jax.grad(lambda weights: (jax.lax.scan(body, x_BD, weights)[0] ** 2).sum())(weights)

    def array(*shape, axis=None):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(axis)))

    arguments = (array(LAYERS, D, F), array(LAYERS, F, D)), array(B, D, axis="fsdp")
    with jax.set_mesh(mesh):
        return jax.jit(step).trace(*arguments).jaxpr.jaxpr, arguments


def test_products_are_counted_through_scans_shards_and_remat():
    one = 2 * LAYERS * B * D * F
    assert executed(traced(remat=False)[0]).matmul_flops == 6 * one
    # only the first product of a layer is needed again
    assert executed(traced(remat=True)[0]).matmul_flops == 7 * one


def test_kernels_are_counted_by_name():
    def double(x_ref, out_ref):
        out_ref[...] = 2 * x_ref[...]

    def kernel(x, name):
        return pl.pallas_call(double, out_shape=x, name=name, interpret=True)(x)

    def step(x):
        x = jax.lax.scan(lambda x, _: (kernel(x, "splash_mha_fwd"), None), x, length=4)[0]
        return kernel(kernel(kernel(x, "splash_mha_dq"), "splash_mha_dkv"), "splash_mha_dkv")

    found = executed(jax.make_jaxpr(step)(jnp.ones((8, 128))).jaxpr)
    assert found.kernels == {"splash_mha_fwd": 4, "splash_mha_dq": 1, "splash_mha_dkv": 2}
    assert found.attention_products == 4 * 2 + (3 + 4) + 5


def test_the_largest_arrays_are_those_of_one_device():
    jaxpr, arguments = traced(remat=False)
    lines = largest(jaxpr, arguments, count=100)
    assert any("float32[3, 64, 128] argument 0.0" in line for line in lines)
    assert any(f"float32[3, {B // 8}, {F}] scan" in line for line in lines), "what the scan keeps for the way back"
