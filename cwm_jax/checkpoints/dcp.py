"""PyTorch's distributed checkpoints (DCP), the form in which CWM was released first: read one tensor at a time.

torch is needed for this form alone: `pip install torch`. Queries and keys are stored for a rotation of neighbouring
channels (2i, 2i+1); ours turns halves (i, i + K/2), so their rows are put in that order.
"""

import re
from pathlib import Path

import ml_dtypes
import numpy as np

from cwm_jax.checkpoints.huggingface import from_rows, matrix_shape
from cwm_jax.checkpoints.weights import Part, WeightsIndex
from cwm_jax.model.transformer import ModelConfig

_NAMES = {
    "embed": "tok_embeddings.weight",
    "final_norm": "norm.weight",
    "lm_head": "output.weight",
    "attention_norm": "attention_norm.weight",
    "wq": "attention.wq.weight",
    "wk": "attention.wk.weight",
    "wv": "attention.wv.weight",
    "wo": "attention.wo.weight",
    "mlp_norm": "ffn_norm.weight",
    "gate": "feed_forward.w1.weight",
    "up": "feed_forward.w3.weight",
    "down": "feed_forward.w2.weight",
}


def name_of(part: str, leaf: str) -> str:
    """The DCP name of one of our arrays."""
    layer = re.fullmatch(r"layer_(\d+)", part)
    return f"layers.{int(layer[1])}.{_NAMES[leaf]}" if layer else _NAMES[leaf]


class DcpReader:
    """A folder of `.distcp` files with `.metadata`.

    Args:
      folder: the checkpoint.
      model: the shape of the model: the tensors do not tell heads, windows and frequencies.

    Raises:
      FileNotFoundError: the folder holds no such checkpoint, or torch is not installed.
      ValueError: a tensor is missing or has another shape than `model` says; the message names it.
    """

    def __init__(self, folder: Path, model: ModelConfig):
        try:
            import torch.distributed.checkpoint as dcp
        except ImportError:
            raise FileNotFoundError("reading a DCP checkpoint needs torch: pip install torch") from None
        self._dcp = dcp
        self._folder = Path(folder)
        if not (self._folder / ".metadata").exists():
            raise FileNotFoundError(f"{self._folder / '.metadata'} is missing; name the folder of a DCP checkpoint")
        try:
            self._tensors = dcp.FileSystemReader(self._folder).read_metadata().state_dict_metadata
        except Exception as error:  # a pickle: anything may come
            raise ValueError(f"{self._folder / '.metadata'} cannot be read: {error!r}") from error
        embeddings = [name for name in self._tensors if name.endswith(_NAMES["embed"])]
        if len(embeddings) != 1:
            raise ValueError(f"{self._folder} holds {len(embeddings)} tensors named {_NAMES['embed']}; one is expected")
        self._prefix = embeddings[0].removesuffix(_NAMES["embed"])
        embedding = self._tensors[embeddings[0]]
        dtype = str(embedding.properties.dtype).removeprefix("torch.")
        self.index = WeightsIndex(model, embedding.size[0], dtype)
        for part, leaves in self.index.parts().items():
            for leaf, shape in leaves.items():
                self._check(self._prefix + name_of(part, leaf), matrix_shape(leaf, shape))

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        found = self._tensors.get(name)
        if found is None:
            raise ValueError(f"tensor {name} is missing from {self._folder}")
        if tuple(found.size) != shape:
            raise ValueError(f"tensor {name} of {self._folder} has shape {tuple(found.size)}; the model needs {shape}")
        if str(found.properties.dtype) != f"torch.{self.index.dtype}":
            raise ValueError(
                f"tensor {name} of {self._folder} is {found.properties.dtype}; the embedding is {self.index.dtype}"
            )

    def read(self, part: str) -> Part:
        """One part.

        Raises:
          ValueError: a tensor is damaged or not finite; the message names it.
        """
        leaves = {}
        for leaf, shape in self.index.parts()[part].items():
            name = self._prefix + name_of(part, leaf)
            stored = self._load(name)
            if leaf in ("wq", "wk"):
                heads, channels = shape[1:]
                pairs = stored.reshape(heads, channels // 2, 2, -1)
                stored = pairs.swapaxes(1, 2).reshape(stored.shape)
            leaves[leaf] = from_rows(leaf, shape, stored.dtype, [stored], f"tensor {name} of {self._folder}")
        return leaves

    def _load(self, name: str) -> np.ndarray:
        import torch

        found = self._tensors[name]
        tensor = torch.empty(found.size, dtype=found.properties.dtype)
        try:
            self._dcp.load({name: tensor}, storage_reader=self._dcp.FileSystemReader(self._folder), no_dist=True)
        except (Exception, self._dcp.api.CheckpointException) as error:  # the latter is no Exception
            raise ValueError(f"tensor {name} of {self._folder} cannot be read: {error!r:.300}") from error
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()
