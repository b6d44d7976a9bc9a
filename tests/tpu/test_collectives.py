"""The counter of collectives, against two layers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cwm_jax.tpu.collectives import Collective, collectives, table

LAYERS, D, F, B = 2, 64, 128, 16
MESH = {"fsdp": 4, "tensor": 2}


@pytest.fixture(scope="module")
def two_layers() -> str:
    """The HLO of a step of two scanned layers: weights gathered over `fsdp`, hidden units split over `tensor`."""
    devices = np.asarray(jax.devices()).reshape(tuple(MESH.values()))
    mesh = Mesh(devices, tuple(MESH), axis_types=(AxisType.Explicit,) * 2)

    def layer(x_BD, weights):
        up_DF = jax.reshard(weights[0], P(None, "tensor"))
        down_FD = jax.reshard(weights[1], P("tensor", None))
        hidden_BF = jnp.tanh(jnp.einsum("bd,df->bf", x_BD, up_DF))
        return x_BD + jnp.einsum("bf,fd->bd", hidden_BF, down_FD, out_sharding=P("fsdp", None)), None

    def step(weights, x_BD):
        loss = lambda weights: (jax.lax.scan(layer, x_BD, weights)[0] ** 2).sum()  # noqa: E731
        return jax.grad(loss)(weights)

    def array(shape, spec):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))

    weights = array((LAYERS, D, F), P(None, "fsdp", "tensor")), array((LAYERS, F, D), P(None, "tensor", "fsdp"))
    with jax.set_mesh(mesh):
        return jax.jit(step).lower(weights, array((B, D), P("fsdp", None))).compile().as_text()


def test_two_layers_by_hand(two_layers):
    """Forward: both weights gathered (half of D x F each), x summed over `tensor`. Backward: gradients of both weights
    summed over `fsdp`, that of x over `tensor`."""
    found = collectives(two_layers)
    assert {collective.trips for collective in found} == {LAYERS}
    half, activations = D * F // 2 * 4, B // 4 * D * 4
    gathered = sum(c.bytes for c in found if c.kind == "all-gather" and c.axes(MESH) == ("fsdp",))
    reduced = sum(c.bytes for c in found if "reduce" in c.kind and c.axes(MESH) == ("fsdp",))
    summed = sum(c.bytes for c in found if c.kind == "all-reduce" and c.axes(MESH) == ("tensor",))
    assert (gathered, reduced, summed) == (2 * half, 2 * half, 2 * activations)


# What XLA for TPUs writes: an all-gather spread over three fusions, on a channel that others use as well; a
# reduce-scatter that is a fusion of an all-reduce; loops that say in their condition alone how often they run.
TPU_HLO = """
%start (p: bf16[8,64]) -> (bf16[8,64], bf16[32,64]) {
  %all-gather.1 = bf16[32,64]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=1, replica_groups=mesh['a'=4,'b'=2] {'a'}
  ROOT %started = (bf16[8,64]{1,0}, bf16[32,64]{1,0}) custom-call(%p), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.1 (p: bf16[8,64]) -> (bf16[8,64], bf16[32,64]) {
  %all-gather.2 = bf16[32,64]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=1, replica_groups=mesh['a'=4,'b'=2] {'a'}
}

%done (p: bf16[8,64]) -> bf16[32,64] {
  %all-gather.3 = bf16[32,64]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=1, replica_groups=mesh['a'=4,'b'=2] {'a'}
  ROOT %ended = bf16[32,64]{1,0} custom-call(%p, %all-gather.3), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.1 (p: f32[16,64]) -> f32[8,64] {
  %all-reduce.1 = f32[16,64]{1,0} all-reduce(%p), channel_id=1, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
}

%body (p: (s32[], bf16[8,64])) -> (s32[], bf16[8,64]) {
  %fusion.1 = (bf16[8,64]{1,0}, bf16[32,64]{1,0}) fusion(%p), kind=kCustom, calls=%start
  %fusion.2 = bf16[8,64]{1,0} fusion(%fusion.1), kind=kOutput, calls=%async_collective_fusion.1
  %fusion.4 = bf16[32,64]{1,0} fusion(%fusion.2), kind=kCustom, calls=%done
  %fusion.3 = f32[8,64]{1,0} fusion(%q), kind=kCustom, calls=%all-reduce-scatter.1
}

%condition (p: (s32[], bf16[8,64])) -> pred[] {
  %constant.7 = s32[]{:T(128)} constant(BOUND)
  ROOT %lt = pred[] compare(%i, %constant.7), direction=LT
}

ENTRY %main (p: bf16[8,64]) -> bf16[8,64] {
  %while.1 = (s32[], /*index=1*/bf16[8,64]{1,0}) while(%tuple), condition=%condition, body=%body
  %permute = (bf16[8,64]{1,0}, bf16[8,64]{1,0}, u32[], u32[]) collective-permute-start(%p), channel_id=3, SENDS
  %permuted = bf16[8,64]{1,0} collective-permute-done(%permute)
  %alone = f32[4]{0} all-reduce(%p), channel_id=4, replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}, to_apply=%add
}
"""


def test_fusions_loops_and_asynchronous_pairs_of_tpus():
    hlo = TPU_HLO.replace("BOUND", "5").replace("SENDS", "source_target_pairs={{0,2},{2,4}}")
    assert collectives(hlo) == [
        Collective("all-gather", 32 * 64 * 2, (0, 2, 4, 6), trips=5),
        Collective("reduce-scatter", 16 * 64 * 4, (0, 1), trips=5),
        Collective("collective-permute", 8 * 64 * 2, (0, 2), trips=1),
    ]
    assert table(collectives(hlo), {"a": 4, "b": 2})[0] == {
        "kind": "all-gather", "axes": ["a"], "trips": 5, "count": 1, "mib": 0.004
    }  # fmt: skip


def test_a_loop_without_an_end_is_refused():
    with pytest.raises(ValueError, match="does not say how often"):
        collectives(TPU_HLO.replace("constant(BOUND)", "parameter(1)"))


@pytest.mark.parametrize(
    ("groups", "first"),
    [
        ("{{0,3},{1,2}}", (0, 3)),
        ("[2,4]<=[8]", (0, 1, 2, 3)),
        ("[2,4]<=[4,2]T(1,0)", (0, 2, 4, 6)),
        ("mesh['a'=2,'b'=4] {'b'}", (0, 1, 2, 3)),
        ("mesh['a'=2,'b'=4] {'a','b'}", tuple(range(8))),
        ("mesh['a'=2,'b'=4] {'b':(1)2}", (0, 2)),
        ("mesh['a'=2,'b'=4] {'b':(2)2}", (0, 1)),
    ],
)
def test_every_way_to_write_groups(groups, first):
    hlo = "ENTRY %main (p: f32[4]) -> f32[4] {\n"
    hlo += f"  %r = f32[4]{{0}} all-reduce(%p), channel_id=1, replica_groups={groups}, to_apply=%add\n}}"
    assert [collective.group for collective in collectives(hlo)] == [first]
