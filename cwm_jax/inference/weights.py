"""Weights as the engine holds them: an array for every layer, so that no step copies a slice out of a stack."""

from typing import Any

import jax

from cwm_jax.model.transformer import Params


def by_layer(params: Params, consume: bool = False) -> Params:
    """The weights with a tuple over layers where arrays were stacked; those that have one already stay as they are.

    Args:
      params: the weights.
      consume: whether each stack is deleted once it is split, so that no more than one is there twice.
    """
    blocks = dict(params["blocks"])
    for name, stacked in blocks.items():
        if not isinstance(stacked, tuple):
            blocks[name] = _layers(stacked)
            if consume:
                jax.block_until_ready(blocks[name])
                jax.tree.map(lambda leaf: leaf.delete(), stacked)
    return params | {"blocks": blocks}


def check_alike(new: Params, old: Params) -> None:
    """Checks that weights can take the place of others without anything being compiled anew.

    Raises:
      ValueError: a name, shape or dtype differs.
    """
    news, olds = (dict(jax.tree_util.tree_leaves_with_path(params)) for params in (new, old))
    if odd := {jax.tree_util.keystr(path) for path in news.keys() ^ olds.keys()}:
        raise ValueError(f"weights differ in what they hold: {', '.join(sorted(odd)[:3])}; swap in those of one model")
    for path, leaf in news.items():
        if (leaf.shape, leaf.dtype) != (olds[path].shape, olds[path].dtype):
            raise ValueError(
                f"{jax.tree_util.keystr(path)} is {leaf.dtype}{list(leaf.shape)}, the engine holds "
                f"{olds[path].dtype}{list(olds[path].shape)}; swap in weights of one model and precision"
            )


@jax.jit
def _layers(weights: Any) -> tuple[Any, ...]:
    count = jax.tree.leaves(weights)[0].shape[0]
    return tuple(jax.tree.map(lambda w: w[layer], weights) for layer in range(count))
