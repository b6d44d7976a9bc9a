"""Training steps that others have timed on TPUs: what the roofline is calibrated on, and judged by.

Taken are dense decoders in bf16 whose program says everything the model of time asks for. Left out: mixtures of
experts; fp8; chips without figures here (v3); Gemma 4, whose heads differ from layer to layer; and results whose
batch, shape or recomputation is not stated (axlearn's fuji-70B, Llama2-70B on v5p, Marin's Qwen3-32B).
"""

from dataclasses import dataclass

from cwm_jax.model.flops import flops
from cwm_jax.model.transformer import ModelConfig
from cwm_jax.tpu.chips import CHIPS

ALL = ("qkv", "attention", "out", "up")
"""What full remat computes again: all but the last product of a layer, which no gradient needs."""
SPLIT, FUSED = 7, 5
"""Products in the backward pass of splash attention: two kernels that both recompute the scores, or one."""


@dataclass(frozen=True)
class Published:
    """One timed step.

    Attributes:
      name: system, model, hardware; `source` is where the figure stands.
      chip, chips: of one slice; `slices` joined over the data-centre network.
      model, vocab_size: the network.
      length: tokens of a sequence.
      tokens: a chip and step.
      recomputed: parts of a layer that the backward pass computes again.
      backward: products of the backward pass of attention.
      seconds: measured, a step.
    """

    name: str
    source: str
    chip: str
    chips: int
    slices: int
    model: ModelConfig
    vocab_size: int
    length: int
    tokens: int
    recomputed: tuple[str, ...]
    backward: int
    seconds: float

    @property
    def workload(self) -> tuple:
        """Rows with equal ones are the same program on more chips: they are left out of a calibration together."""
        return self.chip, self.model, self.length

    @property
    def matmul_flops(self) -> float:
        """Executed for a token in products with weights, recomputation included."""
        c = self.model
        parts = {
            "qkv": c.head_dim * (c.q_heads + 2 * c.kv_heads),
            "q": c.head_dim * c.q_heads,
            "out": c.head_dim * c.q_heads,
            "up": 2 * c.d_ff,
        }
        again = 2 * c.layers * c.d_model * sum(parts.get(part, 0) for part in self.recomputed)
        return 3 * flops(c, self.vocab_size, self.length).matmul + again

    @property
    def attention_products(self) -> int:
        """Executed for each pair of query and key, of which the convention counts six."""
        return 2 + self.backward + 2 * ("attention" in self.recomputed)

    @property
    def mfu(self) -> float:
        """By the convention of this project."""
        useful = flops(self.model, self.vocab_size, self.length).training * self.tokens
        return useful / self.seconds / CHIPS[self.chip].peak


def _model(layers, d_model, q_heads, kv_heads, d_ff, head_dim=128, global_every=1, window=8192) -> ModelConfig:
    every = tuple(range(global_every - 1, layers, global_every))
    return ModelConfig(layers, d_model, q_heads, kv_heads, head_dim, d_ff, every, window)


def _from_rate(model: ModelConfig, vocab_size: int, length: int, tokens: int, tflops: float) -> float:
    """Seconds of a step from its rate in TFLOP/s as MaxText counted until 2025: attention in full, not halved."""
    full = 4 * model.q_heads * model.head_dim * length * model.layers
    return tokens * 3 * (flops(model, vocab_size, length).matmul + full) / (tflops * 1e12)


def _maxtext_by_size(chip, chips, slices, size, batch, recomputed, tflops) -> Published:
    model = _SIZES[size]
    source = f"MaxText configs/tpu/{chip}/README.md, {size.lower()}.sh"
    name, tokens = f"MaxText {size}, {slices} x {chips} {chip}", batch * 2048
    seconds = _from_rate(model, 32_000, 2048, tokens, tflops)
    return Published(
        name, source, chip, chips, slices, model, 32_000, 2048, tokens, recomputed, SPLIT, seconds
    )  # fmt: skip


def _recipe(name, source, chip, chips, slices, model, vocab_size, length, tokens, recomputed, backward, seconds):
    source = f"tpu-recipes training/{source}"
    return Published(
        f"MaxText {name}, {slices} x {chips} {chip}", source, chip, chips, slices, model, vocab_size, length, tokens,
        recomputed, backward, seconds,
    )  # fmt: skip


_SIZES = {
    "16B": _model(32, 4096, 64, 64, 28_672),
    "32B": _model(32, 8192, 64, 64, 28_672),
    "64B": _model(64, 8192, 64, 64, 28_672),
    "512B": _model(128, 16_384, 128, 128, 57_344),
}
_LLAMA2_7B = _model(32, 4096, 32, 32, 11_008)
_LLAMA_8B = _model(32, 4096, 32, 8, 14_336)
_LLAMA_70B = _model(80, 8192, 64, 8, 28_672)
_LLAMA_405B = _model(126, 16_384, 128, 8, 53_248)
_GEMMA3_12B = _model(48, 3840, 16, 8, 15_360, head_dim=256, global_every=6, window=1024)
_LLAMA3 = 128_256

PUBLISHED = (
    _maxtext_by_size("v5e", 256, 1, "16B", 6, ALL, 120),
    _maxtext_by_size("v5e", 256, 1, "32B", 4, ALL, 132),
    _maxtext_by_size("v5e", 256, 2, "32B", 4, ALL, 128),
    _maxtext_by_size("v5e", 256, 32, "32B", 4, ALL, 119),
    _maxtext_by_size("v5e", 256, 1, "64B", 2, ALL, 118),
    _maxtext_by_size("v5p", 64, 1, "32B", 6, ("attention",), 328),
    _maxtext_by_size("v5p", 64, 2, "32B", 6, ("attention",), 319),
    _maxtext_by_size("v5p", 64, 1, "64B", 3, ("attention",), 323),
    _maxtext_by_size("v5p", 512, 1, "512B", 2, ALL, 294),
    Published(
        "MaxText Llama2-7B, context 16, 1 x 64 v5p", "MaxText pull request 4687, all-gather", "v5p", 64, 1, _LLAMA2_7B,
        32_000, 32_768, 32_768, ("qkv", "out", "up"), SPLIT, 8.83,
    ),
    _recipe("Llama3.1-405B", "v5p/Llama3.1-405B-MaxText", "v5p", 512, 1, _LLAMA_405B, _LLAMA3, 8192, 2 * 8192,
            ("qkv", "out", "up"), SPLIT, 131.474),
    _recipe("Llama3.1-70B", "trillium/Llama3.1-70B-MaxText/v6e-256", "v6e", 256, 1, _LLAMA_70B, _LLAMA3, 8192,
            5 * 8192, ("attention", "out", "up"), FUSED, 42.656),
    _recipe("Llama3.1-405B", "trillium/Llama3.1-405B-MaxText", "v6e", 256, 2, _LLAMA_405B, _LLAMA3, 8192, 8192,
            ALL, SPLIT, 54.803),
    _recipe("Llama2-70B", "trillium/Llama2-70B-MaxText", "v6e", 256, 1, _LLAMA_70B, 32_000, 4096, 2 * 4096,
            ("attention", "out", "up"), SPLIT, 9.052),
    _recipe("Llama3.1-8B", "trillium/Llama3.1-8B-MaxText/v6e-256", "v6e", 256, 1, _LLAMA_8B, _LLAMA3, 8192, 4 * 8192,
            ("attention", "up"), FUSED, 4.546),
    _recipe("Gemma3-12B", "trillium/Gemma3-12B-MaxText/v6e-256", "v6e", 256, 1, _GEMMA3_12B, 262_144, 32_768, 32_768,
            ALL, SPLIT, 7.318),
    _recipe("Llama3.1-70B", "ironwood", "tpu7x", 64, 1, _LLAMA_70B, _LLAMA3, 8192, 4 * 8192, ("out", "up"), FUSED,
            12.20),
    _recipe("Llama3.1-70B", "ironwood", "tpu7x", 256, 1, _LLAMA_70B, _LLAMA3, 8192, 4 * 8192, ("out", "up"), FUSED,
            12.27),
    _recipe("Llama3.1-70B, context 8", "ironwood", "tpu7x", 256, 1, _LLAMA_70B, _LLAMA3, 131_072, 32_768,
            ("out", "up"), FUSED, 34.02),
    _recipe("Llama3.1-405B", "ironwood", "tpu7x", 256, 1, _LLAMA_405B, _LLAMA3, 8192, 6 * 8192,
            ("q", "attention", "out", "up"), FUSED, 98.34),
)  # fmt: skip
