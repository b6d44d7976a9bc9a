"""`Experiment`: everything that one training run is, as gin resolves it."""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp

from cwm_jax.data.prepare import DataConfig
from cwm_jax.data.prepared import PreparedRows
from cwm_jax.data.stream import StreamConfig
from cwm_jax.model.meshes import MESHES, MeshName
from cwm_jax.model.sharding import MeshShape, ShardingRules
from cwm_jax.model.transformer import ModelConfig
from cwm_jax.training.guard import SkipBadSteps
from cwm_jax.training.optimizers import AdamW, Muon
from cwm_jax.training.schedules import Progress, WarmupConstantDecay, WarmupCosine
from cwm_jax.training.start import Continue, FreshStart, Weights
from cwm_jax.training.trainable import AllWeights, LoRA


@dataclass(frozen=True)
class Experiment:
    """The root of a configuration.

    Attributes:
      data: what is learnt: programs recorded for this run, or rows that lie there.
      stream: the order and size of batches.
      model: the network.
      start: where its weights come from, and what the schedule counts on from.
      trainable: `AllWeights`, or adapters of frozen ones, `LoRA`.
      optimizer: `AdamW` or `Muon`.
      schedule: the learning rate over the run, as a share of its peak.
      guard: what becomes of a step that would do harm.
      mesh: devices, or the name of a mesh in `model.meshes`; on CPUs as many devices are made.
      rules: what lies where on the mesh.
      compute: what the network computes in; weights and optimiser are float32.
      steps: length of the run.
      checkpoint_every: steps between checkpoints.
      seed: of the initial weights.
    """

    data: DataConfig | PreparedRows = field(default_factory=DataConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    start: FreshStart | Weights | Continue = field(default_factory=FreshStart)
    trainable: AllWeights | LoRA = field(default_factory=AllWeights)
    optimizer: Muon | AdamW = field(default_factory=Muon)
    schedule: WarmupConstantDecay | WarmupCosine = field(default_factory=WarmupConstantDecay)
    guard: SkipBadSteps = field(default_factory=SkipBadSteps)
    mesh: MeshShape | MeshName = field(default_factory=lambda: MeshShape(replica=2))
    rules: ShardingRules = field(default_factory=ShardingRules)
    compute: Literal["float32", "bfloat16"] = "float32"
    steps: int = 1000
    checkpoint_every: int = 200
    seed: int = 0

    def __post_init__(self):
        if self.steps < 1 or self.checkpoint_every < 1:
            raise ValueError(
                f"Experiment.steps={self.steps} and checkpoint_every={self.checkpoint_every} must be at least 1"
            )
        if isinstance(self.start, Continue) and not isinstance(self.trainable, AllWeights):
            raise ValueError(
                f"Experiment.start={self.start} goes on with all weights; for {type(self.trainable).__name__} export "
                "that run and bind Experiment.start = @Weights()"
            )

    def share_of_peak(self, count: jax.Array) -> jax.Array:
        """The learning rate as a share of its peak, after `count` steps of the optimiser (int32)."""
        step = count - self.start.steps
        tokens = float(self.start.tokens) + (step + 1.0) * float(self.stream.tokens_per_batch)
        return self.schedule(Progress(step, self.steps, tokens))

    @property
    def mesh_shape(self) -> MeshShape:
        return MESHES[self.mesh] if isinstance(self.mesh, str) else self.mesh

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(self.compute)
