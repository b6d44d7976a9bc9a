"""The shapes of an engine, which what it compiles and keeps follows from."""

from dataclasses import dataclass, field

from cwm_jax.inference.cache import Layout
from cwm_jax.inference.drafts import NoDraft, PromptLookup
from cwm_jax.model.transformer import ModelConfig


@dataclass(frozen=True)
class EngineConfig:
    """The fixed shapes of an engine.

    Attributes:
      slots: sequences that run at once.
      max_length: most tokens of a sequence, prompt and answer.
      page: positions in a page; prefixes are shared by whole pages.
      pages: pages of global layers; None has room for every slot at its longest.
      prefixes: windows of local layers kept for later requests beside those in use.
      chunk: most tokens of a prompt that are read at once; a multiple of `page`.
      rows: most prompts that are read at once.
      steps: of decoding in one call; tokens come out after each call.
      queue: most requests that wait.
      stop_ids: most of a request.
      top_logprobs: most of a request.
      draft: guesses tokens, so that a step may make several.
    """

    slots: int = 32
    max_length: int = 4096
    page: int = 128
    pages: int | None = None
    prefixes: int = 8
    chunk: int = 512
    rows: int = 4
    steps: int = 8
    queue: int = 1024
    stop_ids: int = 8
    top_logprobs: int = 20
    draft: NoDraft | PromptLookup = field(default_factory=NoDraft)

    def __post_init__(self):
        if self.chunk % self.page:
            raise ValueError(f"EngineConfig.chunk={self.chunk} must be a multiple of page={self.page}")

    def layout(self, model: ModelConfig) -> Layout:
        """How the caches of a model lie."""
        flight = max(self.chunk, self.steps * (1 + self.draft.tokens))
        return Layout.of(model, self.page, self.slots, self.max_length, flight, self.pages, self.prefixes)
