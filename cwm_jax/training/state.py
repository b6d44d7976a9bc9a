"""What a training step changes: made anew, read again, as shapes alone, and where it lies on a mesh."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cwm_jax import config
from cwm_jax.checkpoints.training import Checkpoints
from cwm_jax.model.sharding import MeshShape
from cwm_jax.model.transformer import ModelConfig, Params, init_params
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.guard import GuardState
from cwm_jax.training.start import Continue, Weights


class TrainState(NamedTuple):
    """The state of a run.

    Attributes:
      params: weights that are trained, float32.
      opt_state: of the optimiser.
      step: int32, steps done, with those of the run that this one continues.
      guard: what the guard remembers.
      frozen: weights that stay as they are.
    """

    params: Params
    opt_state: optax.OptState
    step: jax.Array
    guard: GuardState = GuardState()
    frozen: Params = {}  # noqa: RUF012 - never changed

    @property
    def saved(self) -> "TrainState":
        """What a checkpoint holds: all but the frozen weights, which come again from where the run started."""
        return self._replace(frozen={})


def optimizer_of(experiment: Experiment) -> optax.GradientTransformation:
    """The optimiser of an experiment, with its schedule."""
    return experiment.optimizer.build(experiment.share_of_peak)


def abstract_state(experiment: Experiment, vocab_size: int, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of an experiment's state; nothing is computed, nothing allocated.

    Raises:
      ValueError: an array cannot be cut as the mesh wants it.
    """
    return _placed(jax.eval_shape(lambda: _begin(experiment, _fresh(experiment, vocab_size))), experiment, mesh)


def init_state(experiment: Experiment, vocab_size: int, mesh: Mesh) -> TrainState:
    """The state before the first step, made where it lies; its values do not depend on the mesh.

    Raises:
      FileNotFoundError, ValueError: what the run starts from is not there, is damaged, or does not fit.
    """
    shapes = abstract_state(experiment, vocab_size, mesh)
    places = jax.tree.map(lambda x: x.sharding, shapes)
    if isinstance(experiment.start, Continue):
        state = experiment.start.load(shapes)
        return state._replace(guard=jax.device_put(GuardState(), places.guard))  # the loss of other data is another
    weights = _starting_weights(experiment, vocab_size, mesh)
    return jax.jit(lambda weights: _begin(experiment, weights), out_shardings=places, donate_argnums=0)(weights)


def restored(checkpoints: Checkpoints, experiment: Experiment, vocab_size: int, mesh: Mesh) -> tuple[int, TrainState]:
    """Step and state of the newest whole checkpoint, the frozen weights read anew.

    Raises:
      DamagedCheckpoint: none is whole.
      FileNotFoundError, ValueError: the frozen weights are gone or damaged.
    """
    shapes = abstract_state(experiment, vocab_size, mesh)
    step, state = checkpoints.restore(shapes.saved)
    if not shapes.frozen:
        return step, state
    places = jax.tree.map(lambda x: x.sharding, shapes.frozen)
    weights = _starting_weights(experiment, vocab_size, mesh)
    freeze = jax.jit(lambda weights: _begin(experiment, weights).frozen, out_shardings=places, donate_argnums=0)
    return step, state._replace(frozen=freeze(weights))


def experiment_of(run: Path) -> Experiment:
    """The configuration of a run; FileNotFoundError where the folder is none."""
    path = Path(run) / "config.gin"
    if not path.exists():
        raise FileNotFoundError(f"{run} holds no config.gin; name the folder that `train --out` wrote")
    return config.load([path], [], Experiment)


def trained_weights(run: Path, experiment: Experiment, vocab_size: int) -> tuple[int, Params]:
    """Step and weights of a run's newest checkpoint on one device, adapters merged.

    Raises:
      FileNotFoundError: there is none yet, or the frozen weights under the adapters are gone.
    """
    mesh = MeshShape().build()
    with jax.set_mesh(mesh), Checkpoints(Path(run) / "checkpoints", 1) as checkpoints:
        if checkpoints.latest is None:
            raise FileNotFoundError(f"{Path(run) / 'checkpoints'} holds no checkpoint yet; train first")
        step, state = restored(checkpoints, experiment, vocab_size, mesh)
        params = jax.jit(experiment.trainable.merge)(state.params, state.frozen)
    return step, jax.device_put(params, jax.devices()[0])


def _starting_weights(experiment: Experiment, vocab_size: int, mesh: Mesh) -> Params:
    def fresh() -> Params:
        return jax.jit(lambda: _fresh(experiment, vocab_size), out_shardings=places)()

    shapes = _placed(jax.eval_shape(lambda: _fresh(experiment, vocab_size)), experiment, mesh)
    places = jax.tree.map(lambda x: x.sharding, shapes)
    if isinstance(experiment.start, Weights) and experiment.start.of_run:
        return _weights_of_run(experiment.start, experiment.model, shapes)
    return experiment.start.weights(experiment.model, shapes, fresh)


def _weights_of_run(start: Weights, model: ModelConfig, shapes: Params) -> Params:
    """The newest weights of an earlier run, laid out as `shapes`; raises as `Weights.weights`."""
    run = Path(start.folder)
    earlier = experiment_of(run)
    vocab_size = earlier.data.size_of_vocabulary(run)
    start.check(earlier.model, vocab_size, model, shapes)
    _, params = trained_weights(run, earlier, vocab_size)
    return jax.tree.map(lambda array, shape: jax.device_put(array, shape.sharding), params, shapes)


def _fresh(experiment: Experiment, vocab_size: int) -> Params:
    return init_params(experiment.model, vocab_size, experiment.seed)


def _begin(experiment: Experiment, weights: Params) -> TrainState:
    params, frozen = experiment.trainable.split(weights, experiment.dtype, experiment.seed)
    return TrainState(params, optimizer_of(experiment).init(params), jnp.zeros((), jnp.int32), GuardState(), frozen)


def _placed(shapes: Any, experiment: Experiment, mesh: Mesh) -> Any:
    places = experiment.rules.shardings(shapes, mesh)
    return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, places)
