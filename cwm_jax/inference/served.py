"""The `Serve` root of a configuration, and what it names: weights where they lie on a mesh, ready for the engine."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from cwm_jax.checkpoints.weights import SHAPE, WeightsReader
from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.engine import Engine
from cwm_jax.model.meshes import MESHES, MeshName
from cwm_jax.model.quantized import quantized
from cwm_jax.model.sharding import WEIGHT_AXES, MeshShape, ShardingRules
from cwm_jax.model.transformer import ModelConfig, Params, Transformer, rebuilder
from cwm_jax.report.progress import progress
from cwm_jax.text.load import load_fitting
from cwm_jax.text.vocabulary import Vocabulary
from cwm_jax.training.trained import trained


@dataclass(frozen=True)
class AsStored:
    """Weights in the precision that the network computes in."""

    def __call__(self, weights: dict[str, jax.Array]) -> dict[str, Any]:
        return weights


@dataclass(frozen=True)
class Int8:
    """Matrices in 8 bits with a scale for each output: half the memory of bfloat16."""

    def __call__(self, weights: dict[str, jax.Array]) -> dict[str, Any]:
        return quantized(weights)


@dataclass(frozen=True)
class Limits:
    """What one client may take, so that others have theirs.

    Attributes:
      body: bytes of a request.
      answers: of one request: prompts times choices.
      seconds: that a request may take from its first byte to the last of its answer.
      unread: tokens of a stream that wait for its client to read; more, and the request is cancelled. What the engine
        makes in two steps is always allowed.
      scores: of prompts' tokens that are told in one answer, those of other likely tokens counted.
      connections: at once.
      drain: seconds that running requests have to end when the server is told to stop.
    """

    body: int = 8 << 20
    answers: int = 128
    seconds: float = 600.0
    unread: int = 4096
    scores: int = 1 << 20
    connections: int = 1024
    drain: float = 20.0


@dataclass(frozen=True)
class Serve:
    """What is served, and how.

    Attributes:
      checkpoint: a run's folder, or one of weights with its vocabulary: `tokenizer.model` or `tokenizer.json`
        of the release, or `vocabulary.model` of a run.
      name: what clients call the model; None takes that of the folder.
      model: the shape that the weights must have; None takes theirs. `compile` needs it.
      vocabulary_size: likewise.
      weights: their precision: `AsStored` or `Int8`.
      compute: what the network computes in.
      mesh: devices, or the name of a mesh in `model.meshes`.
      rules: what lies where on the mesh.
      engine: shapes of the engine.
      limits: what one client may take.
      max_tokens: of an answer in a conversation, unless a request says how many (the release's default).
    """

    checkpoint: str | None = None
    name: str | None = None
    model: ModelConfig | None = None
    vocabulary_size: int | None = None
    weights: AsStored | Int8 = field(default_factory=AsStored)
    compute: Literal["float32", "bfloat16"] = "float32"
    mesh: MeshShape | MeshName = field(default_factory=MeshShape)
    rules: ShardingRules = field(default_factory=ShardingRules)
    engine: EngineConfig = field(default_factory=EngineConfig)
    limits: Limits = field(default_factory=Limits)
    max_tokens: int = 8192

    @property
    def mesh_shape(self) -> MeshShape:
        return MESHES[self.mesh] if isinstance(self.mesh, str) else self.mesh


@dataclass(frozen=True)
class Served:
    """A model that answers.

    Attributes:
      name: what clients call it.
      weights: tells them from others of the same name.
      vocabulary: its text.
      engine: what answers; each call to it needs `in_force`.
      in_force: makes the context in which the engine's mesh is in force.
      max_tokens: as in `Serve`.
    """

    name: str
    weights: str
    vocabulary: Vocabulary
    engine: Engine
    in_force: Callable[[], AbstractContextManager]
    max_tokens: int


def load(serve: Serve) -> Served:
    """Loads what `serve.checkpoint` names, showing progress.

    Raises:
      FileNotFoundError: there is nothing of the kind.
      ValueError: it is damaged, or not of the shape that is asked for.
    """
    folder = Path(serve.checkpoint or "")
    if serve.mesh_shape.devices == 1:
        in_force, mesh = nullcontext, None
    else:
        mesh = serve.mesh_shape.build()
        in_force = lambda: jax.set_mesh(mesh)  # noqa: E731
    with in_force():
        loaded = _run(serve, folder) if (folder / "config.gin").exists() else load_weights(serve, folder, mesh)
        engine = Engine(loaded.rebuild, loaded.params, serve.engine, loaded.version, serve.rules)
    name = serve.name or folder.resolve().name
    return Served(name, loaded.weights, loaded.vocabulary, engine, in_force, serve.max_tokens)


class Loaded(NamedTuple):
    """What a folder holds.

    Attributes:
      vocabulary: of the model.
      rebuild: makes its module of weights.
      params: the weights.
      weights: tells them from others.
      version: training steps that they come from; 0 where nobody tells.
    """

    vocabulary: Vocabulary
    rebuild: Callable[[Params], Transformer]
    params: Params
    weights: str
    version: int = 0


def _run(serve: Serve, folder: Path) -> Loaded:
    """The newest checkpoint of a run."""
    if serve.mesh_shape.devices > 1:
        raise ValueError(f"Serve.mesh={serve.mesh} cuts weights, a run's are served whole; `export` {folder} first")
    run = trained(folder)
    _check_shape(serve, run.model, run.vocabulary.vocab_size)
    params = serve.weights(jax.tree.map(lambda weight: weight.astype(serve.compute), run.params))
    rebuild = rebuilder(run.model, run.vocabulary.vocab_size)
    return Loaded(run.vocabulary, rebuild, params, run.identity, run.step)


def load_weights(serve: Serve, folder: Path, mesh: jax.sharding.Mesh | None) -> Loaded:
    """A folder of weights, put where they belong a layer at a time.

    Raises:
      FileNotFoundError: it holds no weights, or no vocabulary.
      ValueError: they are damaged, do not fit each other, or are not of the shape that is asked for.
    """
    reader = WeightsReader(folder)
    index = reader.index
    vocabulary = load_fitting(folder, index.vocab_size)
    _check_shape(serve, index.model, index.vocab_size)

    params: Params = {"blocks": {}}
    parts = index.parts()
    with progress("loading weights", len(parts), unit="parts") as bar:
        for done, name in enumerate(parts, start=1):
            part = {leaf: array.astype(jnp.dtype(serve.compute)) for leaf, array in reader.read(name).items()}
            places = placed_layer(serve.rules, part, mesh) if mesh else dict.fromkeys(part)
            held = serve.weights({leaf: jax.device_put(array, places[leaf]) for leaf, array in part.items()})
            if name in held:
                params |= held
            else:
                for leaf, array in held.items():
                    params["blocks"][leaf] = (*params["blocks"].get(leaf, ()), array)
            bar.update(done)
    return Loaded(vocabulary, rebuilder(index.model, index.vocab_size), params, _mark(folder), index.step)


def _mark(folder: Path) -> str:
    """Changes when a file of the folder is written again."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def placed_layer(rules: ShardingRules, part: dict[str, Any], mesh: jax.sharding.Mesh) -> dict[str, NamedSharding]:
    """Where the arrays of one part of the weights lie, those of a layer without its axis."""

    def stacked(name: str, array: Any) -> Any:
        apart = len(WEIGHT_AXES.get(name, ())) == array.ndim + 1
        return jax.ShapeDtypeStruct((1, *array.shape) if apart else array.shape, array.dtype)

    places = rules.shardings({name: stacked(name, array) for name, array in part.items()}, mesh)
    return {name: NamedSharding(mesh, P(*place.spec[-part[name].ndim :])) for name, place in places.items()}


def _check_shape(serve: Serve, model: ModelConfig, vocab_size: int) -> None:
    wanted = {name: getattr(serve.model, name) for name in SHAPE} if serve.model else {}
    if serve.vocabulary_size is not None:
        wanted["vocab_size"] = serve.vocabulary_size
    there = {name: getattr(model, name) for name in SHAPE} | {"vocab_size": vocab_size}
    if wrong := [f"{name} {there[name]} there, {want} here" for name, want in wanted.items() if there[name] != want]:
        raise ValueError(f"Serve.checkpoint={serve.checkpoint} holds another model: {'; '.join(wrong)}")
