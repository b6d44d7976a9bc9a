"""The CWM architecture at any size: pre-norm decoder, GQA, SwiGLU, RMSNorm, RoPE, local and global layers.

Shapes: B batch, S query positions, T key positions, D model, H query heads, G KV heads,
K head dim, F feed-forward, V vocabulary, L layers, W convolution taps.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from cwm_jax.model.attention import CausalBlocks, Reference, Splash
from cwm_jax.model.components import NormalInit, QKNorm, ScaledInit, ShortConv, rms_norm
from cwm_jax.model.context_parallel import attend_on_mesh
from cwm_jax.model.quantized import Quantized
from cwm_jax.model.rope import Rope, rotate
from cwm_jax.model.sharding import ShardingRules

_RULES = ShardingRules()


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model. Defaults are those of the tiny one; `experiments/models/cwm_32b.gin` holds CWM's.

    Attributes:
      layers, d_model, q_heads, kv_heads, head_dim, d_ff: sizes.
      global_layers: indices of the layers that see the whole context; the rest see `local_window` tokens.
        None means all layers.
      local_window: tokens that a local layer sees, the current one included.
      rope: the rotary embedding.
      norm_eps: of every RMSNorm.
      conv: a convolution before attention, or None (CWM).
      qk_norm: norm of queries and keys, or None (CWM).
      init: how matrices start.
      attention: how whole rows attend.
      scan_group: layers in one step of a scan over the stack, each made anew in the backward pass; 0 unrolls all and
        keeps what they computed, which is faster when they are few.
    """

    layers: int = 4
    d_model: int = 128
    q_heads: int = 2
    kv_heads: int = 2
    head_dim: int = 64
    d_ff: int = 384
    global_layers: tuple[int, ...] | None = None
    local_window: int = 8192
    rope: Rope = field(default_factory=Rope)
    norm_eps: float = 1e-5
    conv: ShortConv | None = None
    qk_norm: QKNorm | None = None
    init: NormalInit | ScaledInit = field(default_factory=NormalInit)
    attention: CausalBlocks | Splash | Reference = field(default_factory=CausalBlocks)
    scan_group: int = 0

    def __post_init__(self):
        if self.q_heads % self.kv_heads:
            raise ValueError(f"ModelConfig.q_heads={self.q_heads} must be a multiple of kv_heads={self.kv_heads}")
        if bad := [index for index in self.global_layers or () if not 0 <= index < self.layers]:
            raise ValueError(f"ModelConfig.global_layers names layers {bad}; there are {self.layers}")
        if self.scan_group and self.layers % self.scan_group:
            raise ValueError(f"ModelConfig.scan_group={self.scan_group} must divide layers={self.layers}")

    def windows(self, global_window: int | None = None) -> tuple[int | None, ...]:
        """The window of each layer; None where a layer sees everything.

        Args:
          global_window: what global layers see for now; CWM narrows it for batches of shorter documents (paper §4.2).
        """
        is_global = [self.global_layers is None or index in self.global_layers for index in range(self.layers)]
        return tuple(global_window if one else self.local_window for one in is_global)


class Memory(Protocol):
    """What a model keeps of the tokens so far while it reads the next ones; `cwm_jax.inference.cache` holds it."""

    def attend(self, layer: int, q_BSHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array) -> jax.Array:
        """Keeps keys and values of a layer; what its queries find in all that they see, [B, S, H, K]."""

    def past(self, layer: int) -> jax.Array | None:
        """The last W - 1 inputs of a layer's convolution, [B, W - 1, D]; None without one."""

    def keep(self, layer: int, inputs_BSD: jax.Array) -> None:
        """Takes the inputs of a layer's convolution, the W - 1 before these tokens included."""


class Transformer(nnx.Module):
    """The decoder. Weights of all layers are stacked on a leading axis L."""

    def __init__(self, config: ModelConfig, vocab_size: int, *, rngs: nnx.Rngs):
        c, V, D = config, vocab_size, config.d_model
        H, G, K, F, L = c.q_heads, c.kv_heads, c.head_dim, c.d_ff, c.layers

        def matrix(*shape: int, fan_in: int, residual: bool = False) -> nnx.Param:
            return nnx.Param(c.init(rngs.params(), shape, fan_in, residual))

        self.config = config
        self.embed = nnx.Param(
            NormalInit(1.0 if isinstance(c.init, ScaledInit) else c.init.std)(rngs.params(), (V, D), D, False)
        )
        self.blocks = nnx.Dict(
            attention_norm=nnx.Param(jnp.ones((L, D))),
            wq=matrix(L, D, H, K, fan_in=D),
            wk=matrix(L, D, G, K, fan_in=D),
            wv=matrix(L, D, G, K, fan_in=D),
            wo=matrix(L, H, K, D, fan_in=H * K, residual=True),
            mlp_norm=nnx.Param(jnp.ones((L, D))),
            gate=matrix(L, D, F, fan_in=D),
            up=matrix(L, D, F, fan_in=D),
            down=matrix(L, F, D, fan_in=F, residual=True),
        )
        if c.conv:
            self.blocks["conv"] = nnx.Param(c.conv.init(L, D))
        if c.qk_norm:
            self.blocks["q_norm"] = nnx.Param(c.qk_norm.init(L, K))
            self.blocks["k_norm"] = nnx.Param(c.qk_norm.init(L, K))
        self.final_norm = nnx.Param(jnp.ones(D))
        self.lm_head = matrix(D, V, fan_in=D)

    @property
    def vocab_size(self) -> int:
        return self.lm_head.get_value().shape[1]

    def __call__(
        self,
        tokens_BS: jax.Array,
        positions_BS: jax.Array,
        segments_BS: jax.Array,
        rules: ShardingRules = _RULES,
        global_window: int | None = None,
    ) -> jax.Array:
        """Logits [B, S, V] in float32 of whole rows.

        Args:
          tokens_BS: int32 token ids.
          positions_BS: int32, counting from 0 in each document.
          segments_BS: int32, one number for each document of a row; tokens see their own document only.
          rules: how arrays lie on the mesh in force, if there is one.
          global_window: tokens that global layers see; None is all.
        """
        return self.head(rules)(self.hidden(tokens_BS, positions_BS, segments_BS, rules, global_window))

    def hidden(
        self,
        tokens_BS: jax.Array,
        positions_BS: jax.Array,
        segments_BS: jax.Array,
        rules: ShardingRules = _RULES,
        global_window: int | None = None,
    ) -> jax.Array:
        """What the head makes logits of, [B, S, D]; the arguments are those of a call."""
        angles = self.config.rope.angles(positions_BS, self.config.head_dim)
        x_BSD = self._embed(tokens_BS, rules)
        past_BWD = jnp.zeros_like(x_BSD[:, : self.config.conv.taps - 1]) if self.config.conv else None

        def layer(x_BSD, weights, window):
            def attend(q_BSHK, k_BSGK, v_BSGK):
                return attend_on_mesh(self.config.attention, q_BSHK, k_BSGK, v_BSGK, segments_BS, window, rules)

            return self._block(x_BSD, weights, positions_BS, angles, past_BWD, attend, rules)[0]

        return self._stack(x_BSD, layer, self.config.windows(global_window))

    def head(self, rules: ShardingRules = _RULES) -> Callable[[jax.Array], jax.Array]:
        """The last step of the network, its weights in place: from `hidden` to logits [B, S, V] in float32."""
        spec = rules.spec("batch", "sequence", "vocab")
        # Held in float32, so that its gradient is summed there when it is used chunk by chunk.
        head_DV = rules.whole("lm_head", self.lm_head.get_value()).astype(jnp.float32)

        def logits(x_BSD: jax.Array) -> jax.Array:
            h_BSD = rms_norm(x_BSD, self.final_norm[...], self.config.norm_eps)
            return dense(h_BSD, head_DV.astype(h_BSD.dtype), spec).astype(jnp.float32)

        return logits

    def decode(
        self, tokens_BS: jax.Array, positions_BS: jax.Array, memory: Memory, rules: ShardingRules = _RULES
    ) -> jax.Array:
        """What the head makes logits of, [B, S, D], for the next S tokens of each row; `memory` then holds them too.

        Args:
          tokens_BS, positions_BS: the tokens of a row are at consecutive positions.
          memory: of the tokens before.
          rules: how arrays lie on the mesh in force, if there is one.
        """
        angles = self.config.rope.angles(positions_BS, self.config.head_dim)
        x_BSD = self._embed(tokens_BS, rules)
        for layer in range(self.config.layers):
            weights = {name: param.get_value()[layer] for name, param in self.blocks.items()}
            attend = functools.partial(memory.attend, layer)
            x_BSD, inputs_BSD = self._block(x_BSD, weights, positions_BS, angles, memory.past(layer), attend, rules)
            memory.keep(layer, inputs_BSD)
        return x_BSD

    def _weights(self) -> dict[str, jax.Array]:
        return {name: param[...] for name, param in self.blocks.items()}

    def _embed(self, tokens_BS: jax.Array, rules: ShardingRules) -> jax.Array:
        table_VD = rules.whole("embed", self.embed[...])
        if jax.sharding.get_abstract_mesh().empty:
            return table_VD[tokens_BS]
        x_BSD = table_VD.at[tokens_BS].get(out_sharding=rules.spec("batch", "sequence", "embed_columns"))
        return reshard(x_BSD, rules.spec("batch", "sequence", None))

    def _stack(self, x_BSD: jax.Array, layer, windows: tuple[int | None, ...]) -> jax.Array:
        """Runs all layers, as a scan over groups while the pattern of windows repeats, else unrolled."""
        weights, group = self._weights(), self.config.scan_group
        scanned = 0
        if group:
            layer = jax.checkpoint(layer, static_argnums=(2,))
            pattern = windows[:group]
            while windows[scanned : scanned + group] == pattern:
                scanned += group

            def body(x_BSD, weights):
                for offset, window in enumerate(pattern):
                    x_BSD = layer(x_BSD, jax.tree.map(lambda w: w[offset], weights), window)
                return x_BSD, None

            grouped = jax.tree.map(lambda w: w[:scanned].reshape(scanned // group, group, *w.shape[1:]), weights)
            x_BSD, _ = jax.lax.scan(body, x_BSD, grouped)
        for index in range(scanned, self.config.layers):
            x_BSD = layer(x_BSD, jax.tree.map(lambda w: w[index], weights), windows[index])
        return x_BSD

    def _block(self, x_BSD, weights, positions_BS, angles, past_BWD, attend, rules):
        """One layer; also the inputs of its convolution, the W - 1 before these tokens included."""
        c = self.config
        weights = {name: rules.whole(name, weight) for name, weight in weights.items()}
        heads, features = rules.spec("batch", "sequence", "heads", None), rules.spec("batch", "sequence", "ff")
        stream = rules.spec("batch", "sequence", None)
        h_BSD = rms_norm(x_BSD, weights["attention_norm"], c.norm_eps)
        inputs_BSD = h_BSD
        if c.conv:
            inputs_BSD = jnp.concatenate([past_BWD, h_BSD], axis=1)
            h_BSD = c.conv(weights["conv"], inputs_BSD, positions_BS)
        q_BSHK = dense(h_BSD, weights["wq"], heads)
        k_BSGK = dense(h_BSD, weights["wk"], heads)
        v_BSGK = dense(h_BSD, weights["wv"], heads)
        if c.qk_norm:
            q_BSHK, k_BSGK = c.qk_norm(weights["q_norm"], q_BSHK), c.qk_norm(weights["k_norm"], k_BSGK)
        q_BSHK, k_BSGK = rotate(q_BSHK, angles), rotate(k_BSGK, angles)
        x_BSD += dense(attend(q_BSHK, k_BSGK, v_BSGK), weights["wo"], stream)
        h_BSD = rms_norm(x_BSD, weights["mlp_norm"], c.norm_eps)
        hidden_BSF = jax.nn.silu(dense(h_BSD, weights["gate"], features)) * dense(h_BSD, weights["up"], features)
        return x_BSD + dense(hidden_BSF, weights["down"], stream), inputs_BSD


Params = dict[str, Any]
"""The weights of a model as nested dicts of arrays, the form in which they are trained, saved and converted."""


def init_params(config: ModelConfig, vocab_size: int, seed: int) -> Params:
    """Fresh float32 weights; a function of its arguments alone."""
    return jax.jit(lambda: nnx.to_pure_dict(nnx.state(Transformer(config, vocab_size, rngs=nnx.Rngs(seed)))))()


def rebuilder(config: ModelConfig, vocab_size: int) -> Callable[[Params], Transformer]:
    """A function that makes the module of given weights; cheap, for use inside `jit`."""
    graph, abstract = nnx.split(nnx.eval_shape(lambda: Transformer(config, vocab_size, rngs=nnx.Rngs(0))))

    def rebuild(params: Params) -> Transformer:
        state = jax.tree.map(lambda leaf: leaf, abstract)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)

    return rebuild


def dense(x_BSD: jax.Array, weight_DE: jax.Array | Quantized, spec: P) -> jax.Array:
    """`x` times a matrix; the axes after [B, S] meet those that the matrix starts with, and `spec` is the result's.

    Where tokens lie whole or are cut by rows only, this is one matrix product of all of them: on CPUs the gradient of
    the product over [B, S] costs a third more, for XLA transposes both sides first.
    """
    mesh, inner = jax.sharding.get_abstract_mesh(), x_BSD.ndim - 2
    if isinstance(weight_DE, Quantized):
        scales_E = weight_DE.scales.squeeze(tuple(range(inner)))
        return (dense(x_BSD, weight_DE.values.astype(x_BSD.dtype), spec) * scales_E).astype(x_BSD.dtype)
    if not mesh.empty and mesh.shape["context"] * mesh.shape["tensor"] > 1:
        contracted = (tuple(range(2, x_BSD.ndim)), tuple(range(inner)))
        return jax.lax.dot_general(x_BSD, weight_DE, (contracted, ((), ())), out_sharding=spec)
    B, S = x_BSD.shape[:2]
    width = math.prod(x_BSD.shape[2:])
    rows = None if mesh.empty else P(spec[0], None)
    x_ND = jax.lax.reshape(x_BSD, (B * S, width), out_sharding=rows)
    y_NE = x_ND @ weight_DE.reshape(width, -1)
    return jax.lax.reshape(y_NE, (B, S, *weight_DE.shape[inner:]), out_sharding=None if mesh.empty else spec)
