"""CWM as `transformers` has it, at tiny sizes, with weights made here."""

from typing import NamedTuple

import torch
from transformers import CwmConfig, CwmForCausalLM
from transformers.models.cwm.modeling_cwm import CwmRotaryEmbedding


class Case(NamedTuple):
    """A tiny CWM: the layers that see everything, and its window."""

    global_layers: tuple[int, ...]
    layers: int
    window: int
    heads: tuple[int, int] = (4, 2)


CASES = {
    "global-last": Case((0, 4, 5), 6, 8),
    "local-last": Case((0, 4), 6, 8),
    "one-head-each": Case((0, 2), 3, 16, (3, 3)),
    "narrow": Case((1,), 2, 2, (6, 1)),
}
VOCAB = 97


def released(case: Case, dtype=torch.float32) -> CwmForCausalLM:
    """A model of `transformers` with random weights whose norms are not all one."""
    torch.manual_seed(0)
    config = CwmConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=case.layers,
        num_attention_heads=case.heads[0],
        num_key_value_heads=case.heads[1],
        head_dim=16,
        sliding_window=case.window,
        layer_types=[
            "full_attention" if index in case.global_layers else "sliding_attention" for index in range(case.layers)
        ],
        initializer_range=0.05,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="eager",
    )
    model = CwmForCausalLM(config)
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, 1.0, 0.2)
    model = model.to(dtype)
    model.model.rotary_emb = CwmRotaryEmbedding(config)  # frequencies stay float32, as when a checkpoint is loaded
    return model.eval()
