"""`RlPlan`: the root of what gin files say of reinforcement learning: the run, and what `plan` needs beside it."""

from dataclasses import dataclass, field
from functools import cached_property

from cwm_jax.inference.served import Serve
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.simulate import Episodes


@dataclass(frozen=True)
class Storage:
    """What weights travel through; bytes/s.

    Attributes:
      host_write: from one host of the learner.
      host_read: to one host of a sampler, onto its chips.
      all_write, all_read: of the storage, to all hosts together.
    """

    host_write: float = 1.5e9
    host_read: float = 4e9
    all_write: float = 100e9
    all_read: float = 1e12


@dataclass(frozen=True)
class RlPlan:
    """The root of a configuration; `python -m cwm_jax rl` runs its `rl` and looks at nothing else.

    Attributes:
      rl: the run, with meshes by name.
      vocabulary_size: of its text; None asks its vocabulary and environments, which then must be there.
      episodes: what they are expected to be like; the members of a group are those of `Sampling`.
      storage: what weights travel through.
      weights_share, cache_share: of the bandwidth of HBM, at which a step of decoding reads weights, and keys and
        values. Llama-70B on 16 v5e reached 0.85 with 8 sequences and 0.27 with 128 (jax-llm-examples).
      environments_per_node: episodes whose environments live on one machine.
      simulated: steps that are simulated; the first half of them is not measured.
    """

    rl: Rl
    vocabulary_size: int | None = None
    episodes: Episodes = field(default_factory=Episodes)
    storage: Storage = field(default_factory=Storage)
    weights_share: float = 0.85
    cache_share: float = 0.27
    environments_per_node: int = 64
    simulated: int = 120

    @cached_property
    def inference(self) -> Serve:
        """A sampler as a server; raises as `Rl.start`, and what environments raise that cannot be opened."""
        rl = self.rl
        vocab_size = self.vocabulary_size or rl.vocab_size(rl.playgrounds())
        return Serve(
            model=rl.start.model, vocabulary_size=vocab_size, compute=rl.learning.serving, mesh=rl.inference_mesh,
            rules=rl.rules, engine=rl.engine,
        )  # fmt: skip
