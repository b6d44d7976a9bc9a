"""The Hugging Face form of the weights: `config.json` and safetensors files, read and written in blocks of rows.

The library that defines the format maps whole files or copies whole tensors; a 32 B model on a laptop needs neither.
"""

import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from cwm_jax.checkpoints.weights import Part, WeightsIndex
from cwm_jax.files import write_json
from cwm_jax.model.rope import Rope
from cwm_jax.model.transformer import ModelConfig

_DTYPES = {"F32": np.dtype("float32"), "BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype("float16")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_BLOCK = 1 << 26  # bytes read or written at once
_SHARD = 5 << 30  # bytes of a file at most, unless one part is larger

_NAMES = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "lm_head": "lm_head.weight",
    "attention_norm": "input_layernorm.weight",
    "wq": "self_attn.q_proj.weight",
    "wk": "self_attn.k_proj.weight",
    "wv": "self_attn.v_proj.weight",
    "wo": "self_attn.o_proj.weight",
    "mlp_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}

_AS_STORED = ("embed", "attention_norm", "mlp_norm", "final_norm")
_LISTED = "model.safetensors.index.json"


class Place(NamedTuple):
    """Where a tensor lies: its file, dtype, shape and first byte."""

    file: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int


def name_of(part: str, leaf: str) -> str:
    """The Hugging Face name of one of our arrays."""
    if not part.startswith("layer_"):
        return _NAMES[leaf]
    return f"model.layers.{int(part.removeprefix('layer_'))}.{_NAMES[leaf]}"


def matrix_shape(leaf: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape `(out, in)` in which Hugging Face and DCP store one of our arrays; norms and the embedding as we do."""
    if leaf in _AS_STORED:
        return shape
    inputs = shape[:-1] if leaf == "wo" else shape[:1]
    return math.prod(shape) // math.prod(inputs), math.prod(inputs)


class HuggingFaceReader:
    """A folder with `config.json` and safetensors files.

    Attributes:
      index: the shape of the model.

    Raises:
      FileNotFoundError: a file that the folder needs is missing.
      ValueError: a file is truncated or no safetensors file, or the config is no CWM; the message names which.
    """

    def __init__(self, folder: Path):
        self._folder = Path(folder)
        config = _read_json(self._folder / "config.json")
        self._places: dict[str, Place] = {}
        for file in self._files():
            for name, place in _places(file):
                if name in self._places:
                    raise ValueError(f"tensor {name} stands in {self._places[name].file} and in {file}")
                self._places[name] = place
        model = model_config(config, self._folder / "config.json")
        dtypes = {place.dtype for place in self._places.values()}
        if len(dtypes) != 1:
            counts = ", ".join(sorted(f"{name}: {place.dtype}" for name, place in self._places.items())[:4])
            raise ValueError(f"the tensors of {self._folder} are of several dtypes ({counts}, …); one is expected")
        self.index = WeightsIndex(model, _field(config, "vocab_size", self._folder / "config.json"), str(dtypes.pop()))
        self._check()

    def _files(self) -> list[Path]:
        listed = self._folder / _LISTED
        if not listed.exists():
            return [self._folder / "model.safetensors"]
        try:
            return [self._folder / name for name in sorted(set(_read_json(listed)["weight_map"].values()))]
        except (KeyError, AttributeError) as error:
            raise ValueError(f"{listed} holds no weight_map: {error!r}") from None

    def _check(self) -> None:
        expected = {
            name_of(part, leaf): matrix_shape(leaf, shape)
            for part, leaves in self.index.parts().items()
            for leaf, shape in leaves.items()
        }
        for name, shape in expected.items():
            if name not in self._places:
                raise ValueError(f"tensor {name} is missing from {self._folder}")
            if self._places[name].shape != shape:
                raise ValueError(
                    f"tensor {name} in {self._places[name].file} has shape {self._places[name].shape}; "
                    f"config.json says {shape}"
                )
        if extra := sorted(set(self._places) - set(expected)):
            raise ValueError(f"tensor {extra[0]} of {self._folder} has no place in CWM ({len(extra)} such)")

    def read(self, part: str) -> Part:
        """One part, its matrices turned to `(in, out)`.

        Raises:
          ValueError: a number in it is not finite; the message names the tensor.
        """
        leaves = {}
        for leaf, shape in self.index.parts()[part].items():
            name = name_of(part, leaf)
            place = self._places[name]
            leaves[leaf] = from_rows(leaf, shape, place.dtype, _rows(place), f"tensor {name} in {place.file}")
        return leaves


def from_rows(leaf: str, shape: tuple[int, ...], dtype: np.dtype, rows: Iterable[np.ndarray], named: str) -> np.ndarray:
    """Our array, of `shape`, of a stored matrix that comes in blocks of rows.

    Raises:
      ValueError: a number in it is not finite.
    """
    stored = matrix_shape(leaf, shape)
    matrix = np.empty(stored if leaf in _AS_STORED else stored[::-1], dtype)
    by_rows = matrix if leaf in _AS_STORED else matrix.T
    at = 0
    for block in rows:
        if not np.isfinite(block).all():
            raise ValueError(f"{named} holds numbers that are not finite")
        by_rows[at : at + len(block)] = block
        at += len(block)
    return matrix.reshape(shape)


def write_huggingface(
    folder: Path, index: WeightsIndex, read: Callable[[str], Part], advance: Callable[[], None]
) -> None:
    """Writes a folder that `transformers` loads as `CwmForCausalLM`; the arguments are those of `write_weights`.

    Raises:
      ValueError: the model has parts that CWM has not.
    """
    for part in ("conv", "qk_norm"):
        if (found := getattr(index.model, part)) is not None:
            raise ValueError(f"ModelConfig.{part}={found}: CWM's weights have no place for it; write --to orbax")
    dtype = next(dtype for dtype in _CODES if str(dtype) == index.dtype)
    files = _share_out(index, dtype)
    shapes = index.parts()
    weight_map = {}
    for number, parts in enumerate(files, start=1):
        file = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        header = _header({part: shapes[part] for part in parts}, dtype)
        weight_map |= {name: file for name in header if name != "__metadata__"}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / file, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for part in parts:
                arrays = read(part)
                for leaf in shapes[part]:
                    for rows in _to_rows(leaf, arrays[leaf]):
                        out.write(rows.view(np.uint8).data)
                advance()
    metadata = {"total_size": index.parameters * dtype.itemsize}
    write_json(folder / _LISTED, {"metadata": metadata, "weight_map": weight_map})
    write_json(folder / "config.json", hf_config(index))


def _share_out(index: WeightsIndex, dtype: np.dtype) -> list[list[str]]:
    """The parts of each file."""
    files: list[list[str]] = [[]]
    size = 0
    for part, leaves in index.parts().items():
        added = sum(math.prod(shape) for shape in leaves.values()) * dtype.itemsize
        if files[-1] and size + added > _SHARD:
            files.append([])
            size = 0
        files[-1].append(part)
        size += added
    return files


def _header(parts: dict[str, dict[str, tuple[int, ...]]], dtype: np.dtype) -> dict[str, Any]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for part, leaves in parts.items():
        for leaf, shape in leaves.items():
            start, end = end, end + math.prod(shape) * dtype.itemsize
            stored = list(matrix_shape(leaf, shape))
            header[name_of(part, leaf)] = {"dtype": _CODES[dtype], "shape": stored, "data_offsets": [start, end]}
    return header


def _to_rows(leaf: str, array: np.ndarray) -> Iterator[np.ndarray]:
    """A stored matrix in blocks of rows, from our array."""
    stored = matrix_shape(leaf, array.shape)
    matrix = array if leaf in _AS_STORED else array.reshape(stored[::-1]).T
    step = max(1, _BLOCK // matrix[:1].nbytes)
    for start in range(0, len(matrix), step):
        yield np.ascontiguousarray(matrix[start : start + step])


def model_config(config: dict[str, Any], path: Path) -> ModelConfig:
    """The shape that a `config.json` states; `layer_types` is read, never guessed.

    Raises:
      ValueError: it is no CWM or Llama, or asks for what CWM has not; the message names the field.
    """
    if config.get("model_type") not in ("cwm", "llama"):
        raise ValueError(f"model_type={config.get('model_type')!r} in {path}; expected 'cwm' (or 'llama')")
    for name, wanted in {
        "tie_word_embeddings": False,
        "mlp_bias": False,
        "attention_bias": False,
        "hidden_act": "silu",
    }.items():
        if config.get(name, wanted) != wanted:
            raise ValueError(f"{name}={config[name]!r} in {path}; CWM has {wanted!r}")
    layers = _field(config, "num_hidden_layers", path)
    kinds = config.get("layer_types")
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise ValueError(f"layer_types in {path} must list {layers} layers; without it nobody knows which are global")
    if unknown := sorted(set(kinds) - {"full_attention", "sliding_attention"}):
        raise ValueError(f"layer_types in {path} names {unknown[0]!r}; expected full_attention or sliding_attention")
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = rope.get("rope_theta", config.get("rope_theta"))
    if theta is None:
        raise ValueError(f"rope_theta is missing from {path}")
    scaled = {}
    if rope.get("rope_type", "default") == "llama3":
        scaled = {
            "factor": float(_field(rope, "factor", path)),
            "low_freq_factor": float(_field(rope, "low_freq_factor", path)),
            "high_freq_factor": float(_field(rope, "high_freq_factor", path)),
            "original_length": int(_field(rope, "original_max_position_embeddings", path)),
        }
    elif rope.get("rope_type", "default") != "default":
        raise ValueError(f"rope_type={rope['rope_type']!r} in {path}; expected 'llama3' or 'default'")
    return ModelConfig(
        layers=layers,
        d_model=_field(config, "hidden_size", path),
        q_heads=_field(config, "num_attention_heads", path),
        kv_heads=_field(config, "num_key_value_heads", path),
        head_dim=_field(config, "head_dim", path),
        d_ff=_field(config, "intermediate_size", path),
        global_layers=tuple(index for index, kind in enumerate(kinds) if kind == "full_attention"),
        local_window=config.get("sliding_window") or 8192,
        rope=Rope(theta=float(theta), **scaled),
        norm_eps=float(_field(config, "rms_norm_eps", path)),
    )


def hf_config(index: WeightsIndex) -> dict[str, Any]:
    """The `config.json` of a model, with the special tokens of the released one (facts §2.4)."""
    model, rope = index.model, index.model.rope
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": rope.theta}
    if rope.factor != 1.0:
        parameters = {
            "rope_type": "llama3",
            "rope_theta": rope.theta,
            "factor": rope.factor,
            "low_freq_factor": rope.low_freq_factor,
            "high_freq_factor": rope.high_freq_factor,
            "original_max_position_embeddings": rope.original_length,
        }
    windows = model.windows()
    special = {"bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009]} if index.vocab_size > 128009 else {}
    return {
        "model_type": "cwm",
        "architectures": ["CwmForCausalLM"],
        "dtype": index.dtype,
        "vocab_size": index.vocab_size,
        "hidden_size": model.d_model,
        "intermediate_size": model.d_ff,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.q_heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": int(rope.original_length * rope.factor),
        "rms_norm_eps": model.norm_eps,
        "rope_parameters": parameters,
        "sliding_window": model.local_window,
        "layer_types": ["full_attention" if window is None else "sliding_attention" for window in windows],
        "tie_word_embeddings": False,
        "mlp_bias": False,
        "initializer_range": 0.02,
        **special,
    }


def _read_json(path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; name a folder with config.json and safetensors files")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


def _field(config: dict[str, Any], name: str, path: Path) -> Any:
    value = config.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"{name}={value!r} in {path}; a positive number is expected")
    return value


def _places(file: Path) -> Iterator[tuple[str, Place]]:
    """The tensors of one safetensors file, after checking that its bytes are all there."""
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing")
    size = file.stat().st_size
    with open(file, "rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= size - 8:
            raise ValueError(f"{file} is no whole safetensors file: its header should have {length} of {size} bytes")
        try:
            header = json.loads(opened.read(length))
            entries = [
                (name, entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
                for name, entry in header.items()
                if name != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is no safetensors file: {error!r}") from None
    for name, code, shape, first, last in entries:
        if code not in _DTYPES:
            raise ValueError(f"tensor {name} in {file} has dtype {code}; expected one of {', '.join(_DTYPES)}")
        if last - first != math.prod(shape) * _DTYPES[code].itemsize:
            raise ValueError(f"tensor {name} in {file} has {last - first} bytes; shape {shape} of {code} needs others")
        if 8 + length + last > size:
            raise ValueError(f"tensor {name} in {file} ends at byte {8 + length + last}; the file has only {size}")
        yield name, Place(file, _DTYPES[code], shape, 8 + length + first)


def _rows(place: Place) -> Iterator[np.ndarray]:
    row = place.shape[1:]
    width = math.prod(row)
    step = max(1, _BLOCK // (width * place.dtype.itemsize))
    with open(place.file, "rb") as opened:
        opened.seek(place.start)
        for start in range(0, place.shape[0], step):
            count = min(step, place.shape[0] - start)
            yield np.fromfile(opened, place.dtype, count * width).reshape(count, *row)
