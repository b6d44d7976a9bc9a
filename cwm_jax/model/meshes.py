"""Every mesh that production runs on, in one table: `Experiment.mesh = "v5p:4x8x8/131k"`.

A name is the topology as the cloud and `compile` spell it, `2x` before it for two slices, and after it, where that
matters, what the mesh is for. A length of rows: at 8k batch and weights are cut alike over all chips; longer rows are
cut too, at 131k into shards of one local window. `serve`: the engine; heads, of which CWM has eight of keys, and
features are cut, so that no step gathers weights. CWM's vocabulary has 128,256 = 256 · 501 entries, so `fsdp` is at
most 256, and larger slices hold the weights several times.
"""

from typing import Literal

from cwm_jax.model.sharding import MeshShape

MeshName = Literal[
    "v5e:1x1", "v5e:2x4", "v5e:2x4/serve", "v5e:16x16", "2xv5e:16x16",
    "v6e:1x1", "v6e:2x4", "v6e:2x4/serve", "v6e:16x16", "2xv6e:16x16",
    "v5p:2x2x1", "v5p:2x2x1/serve", "v5p:4x8x8", "v5p:4x8x8/32k", "v5p:4x8x8/131k", "2xv5p:4x8x8", "2xv5p:4x8x8/131k",
    "v5p:8x8x16", "v5p:8x8x16/131k", "v5p:8x16x16", "v5p:8x16x16/131k", "v5p:16x16x24", "v5p:16x16x24/131k",
    "tpu7x:1x1x1", "tpu7x:2x2x1", "tpu7x:4x4x8", "tpu7x:4x4x8/131k", "2xtpu7x:4x4x8",
    "tpu7x:8x16x16", "tpu7x:8x16x16/131k", "tpu7x:16x24x24", "tpu7x:16x24x24/131k",
]  # fmt: skip

MESHES: dict[MeshName, MeshShape] = {
    "v5e:1x1": MeshShape(),  # Colab
    "v5e:2x4": MeshShape(fsdp=8),
    "v5e:2x4/serve": MeshShape(tensor=8),
    "v5e:16x16": MeshShape(fsdp=256),  # a whole pod
    "2xv5e:16x16": MeshShape(replica=2, fsdp=256),
    "v6e:1x1": MeshShape(),  # Colab
    "v6e:2x4": MeshShape(fsdp=8),
    "v6e:2x4/serve": MeshShape(tensor=8),
    "v6e:16x16": MeshShape(fsdp=256),  # a whole pod
    "2xv6e:16x16": MeshShape(replica=2, fsdp=256),
    "v5p:2x2x1": MeshShape(fsdp=4),
    "v5p:2x2x1/serve": MeshShape(tensor=4),  # what the cloud calls v5p-8, by its cores
    "v5p:4x8x8": MeshShape(fsdp=256),
    "v5p:4x8x8/32k": MeshShape(fsdp=64, context=4),
    "v5p:4x8x8/131k": MeshShape(fsdp=16, context=16),
    "2xv5p:4x8x8": MeshShape(replica=2, fsdp=256),
    "2xv5p:4x8x8/131k": MeshShape(replica=2, fsdp=16, context=16),
    "v5p:8x8x16": MeshShape(replica=4, fsdp=256),
    "v5p:8x8x16/131k": MeshShape(fsdp=64, context=16),
    "v5p:8x16x16": MeshShape(replica=8, fsdp=256),
    "v5p:8x16x16/131k": MeshShape(fsdp=128, context=16),
    "v5p:16x16x24": MeshShape(replica=6, fsdp=256, tensor=4),  # the largest slice of a pod
    "v5p:16x16x24/131k": MeshShape(replica=24, fsdp=16, context=16),
    "tpu7x:1x1x1": MeshShape(fsdp=2),  # each chip is two devices
    "tpu7x:2x2x1": MeshShape(fsdp=8),
    "tpu7x:4x4x8": MeshShape(fsdp=256),
    "tpu7x:4x4x8/131k": MeshShape(fsdp=16, context=16),
    "2xtpu7x:4x4x8": MeshShape(replica=2, fsdp=256),
    "tpu7x:8x16x16": MeshShape(replica=16, fsdp=256),
    "tpu7x:8x16x16/131k": MeshShape(replica=16, fsdp=16, context=16),
    "tpu7x:16x24x24": MeshShape(replica=9, fsdp=256, tensor=8),  # a whole pod
    "tpu7x:16x24x24/131k": MeshShape(replica=72, fsdp=16, context=16),
}
