"""`Rl`: everything that one run of reinforcement learning is, as gin resolves it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cwm_jax import config
from cwm_jax.checkpoints.weights import INDEX, SHAPE, WeightsReader
from cwm_jax.data.stream import StreamConfig
from cwm_jax.envs.env import EnvConfig, PassOnly, Reward
from cwm_jax.envs.reverse import Reverse
from cwm_jax.inference.config import EngineConfig
from cwm_jax.model.meshes import MESHES, MeshName
from cwm_jax.model.sharding import MeshShape, ShardingRules
from cwm_jax.model.transformer import ModelConfig, init_params
from cwm_jax.rl.board import Admission
from cwm_jax.rl.curriculum import Curriculum
from cwm_jax.rl.examiner import Examining
from cwm_jax.rl.learner import Learning
from cwm_jax.rl.rollout import Drawing
from cwm_jax.rl.sampler import Playground, Sampling
from cwm_jax.text.load import find_vocabulary, load_vocabulary
from cwm_jax.text.vocabulary import Vocabulary
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.guard import SkipBadSteps
from cwm_jax.training.optimizers import AdamW, Muon
from cwm_jax.training.schedules import WarmupConstantDecay, WarmupCosine
from cwm_jax.training.start import FreshStart, Weights


@dataclass(frozen=True)
class Environment:
    """An environment of a run, and what its outcomes are worth."""

    env: EnvConfig = field(default_factory=Reverse)
    reward: Reward = field(default_factory=PassOnly)


@dataclass(frozen=True)
class Start:
    """What a policy starts from.

    Attributes:
      model: its shape.
      weights: where they come from.
      vocabulary_file: of its text; None where environments have tokens of their own.
    """

    model: ModelConfig
    weights: FreshStart | Weights
    vocabulary_file: Path | None = None

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """What the file holds."""
        return None if self.vocabulary_file is None else load_vocabulary(self.vocabulary_file)


@dataclass(frozen=True)
class Rl:
    """The root of a configuration.

    Attributes:
      checkpoint: what the policy starts from: a run's folder, or one of weights with its vocabulary, as `serve` takes;
        None for random weights of `model`.
      model: the network; of weights without a run, what their shape leaves open; of a run nothing.
      environments: with their rewards.
      curriculum: which of their tasks come when.
      learning: objective, batches, publications.
      sampling: how many episodes at once.
      drawing: how tokens are drawn.
      admission: how far samplers run ahead.
      examining: what is measured on held-out tasks.
      engine: shapes of an inference host.
      samplers: inference hosts.
      optimizer, schedule, guard: of the learner.
      mesh: of the learner.
      inference_mesh: of each inference host.
      rules: what lies where on either.
      compute: what the learner computes in; weights and optimiser are float32.
      steps: length of the run.
      checkpoint_every: steps between checkpoints of the learner.
      ttl: seconds without a sign of life after which a ticket goes to somebody else.
      seed: of initial weights.
    """

    checkpoint: str | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    environments: tuple[Environment, ...] = field(default_factory=lambda: (Environment(),))
    curriculum: Curriculum = field(default_factory=Curriculum)
    learning: Learning = field(default_factory=Learning)
    sampling: Sampling = field(default_factory=Sampling)
    drawing: Drawing = field(default_factory=Drawing)
    admission: Admission = field(default_factory=Admission)
    examining: Examining = field(default_factory=Examining)
    engine: EngineConfig = field(default_factory=EngineConfig)
    samplers: int = 1
    optimizer: AdamW | Muon = field(default_factory=AdamW)
    schedule: WarmupConstantDecay | WarmupCosine = field(default_factory=WarmupConstantDecay)
    guard: SkipBadSteps = field(default_factory=SkipBadSteps)
    mesh: MeshShape | MeshName = field(default_factory=MeshShape)
    inference_mesh: MeshShape | MeshName = field(default_factory=MeshShape)
    rules: ShardingRules = field(default_factory=ShardingRules)
    compute: Literal["float32", "bfloat16"] = "float32"
    steps: int = 100
    checkpoint_every: int = 20
    ttl: float = 60.0
    seed: int = 0

    def __post_init__(self):
        if self.samplers < 1 or not self.environments:
            raise ValueError(f"Rl.samplers={self.samplers} must be at least 1, and Rl.environments name one at least")
        if (shape := self.inference_mesh_shape).devices > shape.tensor:
            raise ValueError(
                f"Rl.inference_mesh={self.inference_mesh}: the engine is cut along tensor alone, such as "
                "MeshShape(tensor=4) or v5p:2x2x1/serve; let the other axes be 1"
            )
        if (every := self.learning.publish_every) > self.admission.staleness + 1:
            raise ValueError(
                f"Learning.publish_every={every} is more than Admission.staleness={self.admission.staleness} allows: "
                "samplers would wait for ever for weights that are young enough; let it be at most one more"
            )
        if self.drawing.max_context > self.learning.batching.length:
            raise ValueError(
                f"Drawing.max_context={self.drawing.max_context} is more than Batching.length="
                f"{self.learning.batching.length}: what is that long could not be learnt from"
            )
        if self.drawing.max_context > self.engine.max_length:
            raise ValueError(
                f"Drawing.max_context={self.drawing.max_context} is more than EngineConfig.max_length="
                f"{self.engine.max_length}"
            )

    @cached_property
    def start(self) -> Start:
        """What the policy starts from.

        Raises:
          FileNotFoundError: `checkpoint` is no run and holds no weights, or no vocabulary beside them.
        """
        if self.checkpoint is None:
            return Start(self.model, FreshStart())
        folder = Path(self.checkpoint)
        if (folder / "config.gin").exists():
            model = config.load([folder / "config.gin"], [], Experiment).model
            try:
                path = find_vocabulary(folder / "data")
            except FileNotFoundError:  # environments may have tokens of their own
                path = None
            return Start(model, Weights(str(folder)), path)
        if not (folder / INDEX).exists():
            raise FileNotFoundError(
                f"Rl.checkpoint={self.checkpoint} is neither a run's folder nor one of weights with a vocabulary; "
                "make a run with `make run`"
            )
        there = WeightsReader(folder).index.model
        model = replace(self.model, **{name: getattr(there, name) for name in SHAPE})
        return Start(model, Weights(str(folder)), find_vocabulary(folder))

    @cached_property
    def training(self) -> Experiment:
        """What the learner shares with a run of `train`."""
        batching = self.learning.batching
        return Experiment(
            stream=StreamConfig(batching.rows * batching.length), model=self.start.model, start=self.start.weights,
            optimizer=self.optimizer, schedule=self.schedule, guard=self.guard, mesh=self.mesh, rules=self.rules,
            compute=self.compute, steps=self.steps, checkpoint_every=self.checkpoint_every, seed=self.seed,
        )  # fmt: skip

    @property
    def inference_mesh_shape(self) -> MeshShape:
        return MESHES[self.inference_mesh] if isinstance(self.inference_mesh, str) else self.inference_mesh

    def playgrounds(self, held_out: bool = False) -> dict[str, Playground]:
        """The environments, opened, by name.

        Raises:
          ValueError: two have one name, or the vocabulary lacks what one needs.
        """
        found: dict[str, Playground] = {}
        for one in self.environments:
            env = one.env.open(self.start.vocabulary, held_out)
            if env.name in found:
                raise ValueError(f"Rl.environments has two that are called {env.name!r}")
            found[env.name] = Playground(env, one.reward)
        return found

    def vocab_size(self, playgrounds: dict[str, Playground]) -> int:
        """Ids that the policy knows."""
        if self.start.vocabulary is not None:
            return self.start.vocabulary.vocab_size
        return max(one.env.vocab_size for one in playgrounds.values())

    def sampler_mesh(self) -> Mesh | None:
        """The mesh of an inference host; None for one of one device, whose arrays lie on none."""
        shape = self.inference_mesh_shape
        return shape.build() if shape.devices > 1 else None

    def shapes(self, vocab_size: int, mesh: Mesh | None) -> Any:
        """The weights as an inference host loads them; `mesh` is its own, in force."""
        found = jax.eval_shape(lambda: init_params(self.start.model, vocab_size, 0))
        dtype = jnp.dtype(self.learning.serving)
        one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        places = self.rules.shardings(found, mesh) if mesh else jax.tree.map(lambda _: one, found)
        return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=place), found, places)
