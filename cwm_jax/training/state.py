"""What a training step changes: made anew, as shapes alone, and where it lies on a mesh."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cwm_jax.model.transformer import Params, init_params
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.guard import GuardState


class TrainState(NamedTuple):
    """Weights (float32), optimiser state, the number of steps done (int32), and what the guard remembers."""

    params: Params
    opt_state: optax.OptState
    step: jax.Array
    guard: GuardState = GuardState()


def optimizer_of(experiment: Experiment) -> optax.GradientTransformation:
    """The optimiser of an experiment, its schedule over the experiment's steps."""
    return experiment.optimizer.build(lambda step: experiment.schedule(step, experiment.steps))


def abstract_state(experiment: Experiment, vocab_size: int, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of an experiment's state; nothing is computed, nothing allocated.

    Raises:
      ValueError: an array cannot be cut as the mesh wants it.
    """
    shapes = jax.eval_shape(lambda: _fresh(experiment, vocab_size))
    places = experiment.rules.shardings(shapes, mesh)
    return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, places)


def init_state(experiment: Experiment, vocab_size: int, mesh: Mesh) -> TrainState:
    """The state before the first step, made where it lies; its values do not depend on the mesh."""
    places = jax.tree.map(lambda x: x.sharding, abstract_state(experiment, vocab_size, mesh))
    return jax.jit(lambda: _fresh(experiment, vocab_size), out_shardings=places)()


def _fresh(experiment: Experiment, vocab_size: int) -> TrainState:
    params = init_params(experiment.model, vocab_size, experiment.seed)
    return TrainState(params, optimizer_of(experiment).init(params), jnp.zeros((), jnp.int32))
