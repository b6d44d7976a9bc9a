"""The models and batches at which training is compared, and what a step costs by the one FLOP convention.

The shapes keep CWM's proportions: three local layers to a global one and a global last, four query heads to a
key/value head, feed-forward three to four times the width.

Shapes: B rows, S positions; N x K times K x M is a matrix product.
"""

import os
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from cwm_jax.data.rows import Row
from cwm_jax.model.flops import flops
from cwm_jax.model.sharding import MeshShape
from cwm_jax.model.transformer import ModelConfig

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Case:
    """One model and one batch, the same on both sides.

    Attributes:
      model, vocab_size: the model.
      batch, length: rows, and tokens in a row.
      shortest: documents have `shortest` to `length` tokens, log-uniformly; they fill rows without padding.
      dtype: what the network computes in; weights and optimiser are float32.
      mesh: how our side lays the model out.
      gpu: for a GPU, else for CPUs.
      tolerance: by which share the losses of the sides may differ, as sums in another order do.
    """

    model: ModelConfig
    vocab_size: int
    batch: int
    length: int
    shortest: int
    dtype: str = "float32"
    mesh: MeshShape = field(default_factory=lambda: MeshShape(replica=CORES))
    gpu: bool = False
    tolerance: float = 1e-4

    @property
    def tokens(self) -> int:
        return self.batch * self.length

    def describe(self) -> str:
        model = self.model
        documents = f"documents of {self.shortest} to {self.length}" if self.shortest < self.length else "whole rows"
        return (
            f"{model.layers} layers of {model.d_model}, vocabulary {self.vocab_size}, window {model.local_window}, "
            f"{self.batch} x {self.length} tokens, {documents}, {self.dtype}"
        )

    def documents(self) -> list[list[int]]:
        """Lengths of the documents of each row; the last one of a row is cut where the row ends."""
        rng = np.random.default_rng(0)
        rows = []
        for _ in range(self.batch):
            lengths: list[int] = []
            while (free := self.length - sum(lengths)) > 0:
                drawn = np.exp(rng.uniform(np.log(self.shortest), np.log(self.length)))
                lengths.append(min(free, max(1, round(drawn))))
            rows.append(lengths)
        return rows

    def row(self) -> Row:
        """The batch, [B, S]; random tokens, as time does not depend on them."""
        positions, segments = [], []
        for lengths in self.documents():
            positions.append(np.concatenate([np.arange(length) for length in lengths]))
            segments.append(np.repeat(np.arange(1, len(lengths) + 1), lengths))
        positions_BS, segments_BS = np.stack(positions).astype(np.int32), np.stack(segments).astype(np.int32)
        tokens_BS = np.random.default_rng(1).integers(0, self.vocab_size, positions_BS.shape, np.int32)
        return Row(tokens_BS, segments_BS, positions_BS, (positions_BS > 0).astype(np.float32))

    def products(self) -> Counter[tuple[int, int]]:
        """How many matrices (K, M) every token is multiplied with."""
        c = self.model
        D, queries, keys = c.d_model, c.q_heads * c.head_dim, c.kv_heads * c.head_dim
        layer = Counter([(D, queries), (D, keys), (D, keys), (queries, D), (D, c.d_ff), (D, c.d_ff), (c.d_ff, D)])
        return Counter({shape: count * c.layers for shape, count in layer.items()}) + Counter([(D, self.vocab_size)])

    def product_flops(self) -> float:
        """FLOPs of all matrix products of a training step."""
        return 3 * self.tokens * flops(self.model, self.vocab_size, self.length).matmul

    def attention_flops(self) -> float:
        """FLOPs of attention in a training step; tokens see their own document."""
        lengths = (length for row in self.documents() for length in row)
        return 3 * sum(length * flops(self.model, self.vocab_size, length).attention for length in lengths)


def _cwm(layers: int, d_model: int, q_heads: int, kv_heads: int, head_dim: int, d_ff: int, window: int) -> ModelConfig:
    globals_ = tuple(sorted({*range(0, layers, 4), layers - 1}))
    return ModelConfig(layers, d_model, q_heads, kv_heads, head_dim, d_ff, globals_, window)


CASES = {
    "toy": Case(_cwm(2, 32, 4, 1, 8, 64, 16), 64, 2, 32, 8),
    "1M": Case(_cwm(4, 128, 4, 1, 32, 448, 64), 1024, 16, 256, 32),
    "10M": Case(_cwm(8, 256, 4, 1, 64, 1024, 128), 4096, 8, 512, 64),
    "50M": Case(_cwm(12, 512, 8, 2, 64, 1792, 128), 8192, 8, 512, 64, mesh=MeshShape()),
    # Four of 64 layers, their width, and an eighth of the vocabulary: the head of 128,256 would outweigh the layers.
    "32B-slice": Case(
        model=replace(_cwm(4, 6144, 48, 8, 128, 21_504, 8192), global_layers=(0,)),
        vocab_size=16_032,
        batch=1,
        length=8192,
        shortest=8192,
        dtype="bfloat16",
        mesh=MeshShape(),
        gpu=True,
        tolerance=2e-2,
    ),
}
