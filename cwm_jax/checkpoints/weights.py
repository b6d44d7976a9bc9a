"""Weights on disk, one Orbax checkpoint a part: what is converted, published and fine-tuned, a layer at a time.

    folder/weights.json     the shape of the model, written last
    folder/embed/  folder/layer_000/  …  folder/final_norm/  folder/lm_head/

A part is a dict of arrays, of which a layer has one for each matrix and norm. Training keeps the layers stacked;
on disk they are apart, so that nobody ever needs more than one in memory (our choice, because 32 B are 65 GB).
"""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from cwm_jax.files import write_json
from cwm_jax.model.components import QKNorm, ShortConv
from cwm_jax.model.rope import Rope
from cwm_jax.model.transformer import ModelConfig, Params, init_params

INDEX = "weights.json"
_CHUNK = 1 << 26  # bytes of an array that are read or written at once
Part = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class WeightsIndex:
    """What a folder of weights holds.

    Attributes:
      model: the shape of the model; its attention path, initialisation and scan are those of `ModelConfig()`.
      vocab_size: rows of the embedding.
      dtype: of every array.
      longest: tokens of the longest row that was trained on; None where nobody tells.
      step: of training that they come from; 0 where nobody tells.
    """

    model: ModelConfig
    vocab_size: int
    dtype: str
    longest: int | None = None
    step: int = 0

    def parts(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Name of each part -> name of each array in it -> its shape, in the order of the network."""
        tree = jax.eval_shape(lambda: init_params(self.model, self.vocab_size, 0))
        layer = {name: leaf.shape[1:] for name, leaf in tree["blocks"].items()}
        layers = {layer_name(index): layer for index in range(self.model.layers)}
        top = {name: {name: leaf.shape} for name, leaf in tree.items() if name != "blocks"}
        return {"embed": top["embed"], **layers, "final_norm": top["final_norm"], "lm_head": top["lm_head"]}

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for part in self.parts().values() for shape in part.values())

    def save(self, folder: Path) -> None:
        """Writes the index: with it the folder is whole."""
        told = dataclasses.asdict(self)
        write_json(folder / INDEX, told | {"model": {name: told["model"][name] for name in SHAPE}})

    @classmethod
    def load(cls, folder: Path) -> "WeightsIndex":
        """Reads the index.

        Raises:
          FileNotFoundError: the folder holds no weights, or a conversion into it did not end.
          ValueError: the index cannot be read.
        """
        path = Path(folder) / INDEX
        if not path.exists():
            raise FileNotFoundError(
                f"{folder} holds no {INDEX}; name a folder that `convert` or `export --to orbax` wrote"
            )
        try:
            content = json.loads(path.read_text())
            model = content["model"]
            model["rope"] = Rope(**model["rope"])
            model["global_layers"] = model["global_layers"] and tuple(model["global_layers"])
            for part, component in (("conv", ShortConv), ("qk_norm", QKNorm)):
                if model.get(part) is not None:
                    model[part] = component(**model[part])
            return cls(**content | {"model": ModelConfig(**model)})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no index of weights: {error!r}; convert again") from None


# The fields of ModelConfig that weights fit or do not.
SHAPE = (
    *("layers", "d_model", "q_heads", "kv_heads", "head_dim", "d_ff"),
    *("global_layers", "local_window", "rope", "norm_eps", "conv", "qk_norm"),
)


def layer_name(index: int) -> str:
    """The part of layer `index`; sorts by number."""
    return f"layer_{index:03d}"


class Reader(Protocol):
    """Weights in any form, a part at a time."""

    index: WeightsIndex

    def read(self, part: str) -> Part:
        """The arrays of one part, of the shapes that `index.parts()` says; ValueError names what is wrong."""


class WeightsReader:
    """Reads a folder of weights.

    Raises:
      FileNotFoundError: it holds none.
      ValueError: its index cannot be read.
    """

    def __init__(self, folder: Path):
        self._folder = Path(folder)
        self.index = WeightsIndex.load(self._folder)

    def read(self, part: str) -> Part:
        """One part as NumPy arrays.

        Raises:
          ValueError: it is missing, damaged, or of other shapes; the message names it.
        """
        shapes, dtype = self.index.parts()[part], self.index.dtype
        template = {leaf: np.empty(shape, dtype) for leaf, shape in shapes.items()}
        try:
            there = ocp.metadata((self._folder / part).absolute()).metadata
            for leaf, shape in shapes.items():
                found = there.get(leaf)
                if found is None or tuple(found.shape) != shape or found.dtype != dtype:
                    what = f"{found.dtype} {tuple(found.shape)}" if found is not None else "missing"
                    raise ValueError(f"{leaf} is {what}; the index says {dtype} {shape}")
            return ocp.load((self._folder / part).absolute(), template)
        except Exception as error:  # Orbax and TensorStore raise many kinds
            reason = str(error).splitlines()[0][:200] if str(error) else repr(error)
            raise ValueError(f"part {part} of {self._folder} cannot be read: {reason}; convert again") from error


def write_weights(folder: Path, index: WeightsIndex, read: Callable[[str], Part], advance: Callable[[], None]) -> None:
    """Writes a folder of weights part by part; parts that are there already stay, the index comes last.

    Args:
      folder: where to.
      index: what the weights are.
      read: gives the part of a name.
      advance: called after each part.
    """
    for part in index.parts():
        path = (folder / part).absolute()
        if not ocp.is_orbax_checkpoint(path):
            with _lean():
                ocp.save(path, read(part))
        advance()
    index.save(folder)


def _lean() -> ocp.Context:
    """How parts are saved: no second copy of an array in memory, when it is written or when it is read.

    Not compressed, our choice: of bfloat16 weights zstd takes off a third, and 14 times as long to save.
    """
    context = ocp.Context()
    context.memory.deepcopy_host_arrays = False
    context.array.saving.storage_options.chunk_byte_size = _CHUNK
    context.array.saving.use_compression = False
    return context


def stacked(reader: Reader, place: Callable[[str, np.ndarray], jax.Array]) -> Params:
    """All weights in the form that is trained and served: layers stacked.

    Args:
      reader: where they come from.
      place: puts an array of a name of `Params` or `Params["blocks"]` where it belongs; the latter have axis L.
    """
    params: Params = {}
    stacks: dict[str, np.ndarray] = {}
    for layer, part in enumerate(reader.index.parts(), start=-1):
        arrays = reader.read(part)
        if part in arrays:
            params[part] = place(part, arrays[part])
            continue
        for leaf, array in arrays.items():
            stacks.setdefault(leaf, np.empty((reader.index.model.layers, *array.shape), array.dtype))[layer] = array
    return params | {"blocks": {leaf: place(leaf, stacks.pop(leaf)) for leaf in list(stacks)}}


class ParamsReader:
    """Stacked weights in memory, given out a part at a time."""

    def __init__(self, index: WeightsIndex, params: Params):
        self.index, self._params = index, params

    def read(self, part: str) -> Part:
        """One part, cast to the dtype of the index."""
        if part in self._params:
            return {part: np.asarray(self._params[part]).astype(self.index.dtype)}
        layer = int(part.removeprefix("layer_"))
        return {
            leaf: np.asarray(stack[layer]).astype(self.index.dtype) for leaf, stack in self._params["blocks"].items()
        }
