"""Snapshots of every experiment: its resolved configuration, and its table of parameters.

A change that is meant is accepted with `UPDATE_GOLDEN=1 python -m pytest tests/golden`, and reviewed as a diff.
"""

import dataclasses
import difflib
import functools
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from cwm_jax import config
from cwm_jax.inference.served import Serve
from cwm_jax.model.components import ScaledInit
from cwm_jax.model.rope import Rope
from cwm_jax.model.sharding import WEIGHT_AXES, MeshShape
from cwm_jax.model.transformer import ModelConfig
from cwm_jax.rl import bootstrap
from cwm_jax.rl import cli as rl_cli
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.optimizers import AdamW
from cwm_jax.training.prepare_cli import root_of
from cwm_jax.training.start import FreshStart
from cwm_jax.training.state import TrainState, abstract_state, init_state
from cwm_jax.training.trainable import AllWeights, LoRA

EXPERIMENTS = Path("experiments")
GOLDEN = Path(__file__).parent
NO_EXPERIMENTS = {"models", "meshes", "rung"}  # parts that experiments include
NAMES = sorted(
    f"{path.parent.name}/{path.stem}"
    for path in (GOLDEN.parents[1] / EXPERIMENTS).glob("*/*.gin")
    if not NO_EXPERIMENTS & {path.parent.name, path.stem}
)


def load(name: str) -> Any:
    files = [EXPERIMENTS / f"{name}.gin"]
    match root(name):
        case "Bootstrap":
            return bootstrap.load(files, [])
        case "Rl":
            return rl_cli.load(files, [])
        case "RlPlan":
            return rl_cli.load_plan(files, [])
        case "Serve":
            return config.load(files, [], Serve)
    return config.load(files, [], root_of(files, []))


def root(name: str) -> str:
    """Which of the roots that no experiment of `train` has is bound; empty if none is."""
    bound = config.bound([GOLDEN.parents[1] / EXPERIMENTS / f"{name}.gin"], [])
    return next((root for root in ("Bootstrap", "RlPlan", "Rl", "Serve") if root in bound), "")


def is_trained(name: str) -> bool:
    return not root(name) and root_of([GOLDEN.parents[1] / EXPERIMENTS / f"{name}.gin"], []) is Experiment


TRAINED = [name for name in NAMES if is_trained(name)]


def check(name: str, text: str) -> None:
    path = GOLDEN / f"{name.replace('/', '-')}.txt"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text)
    there = path.read_text() if path.exists() else ""
    diff = difflib.unified_diff(
        there.splitlines(), text.splitlines(), f"{path.name}, as it was", "as it is", lineterm=""
    )
    if there != text:
        pytest.fail(
            "\n".join([*diff, "If this is meant: UPDATE_GOLDEN=1 python -m pytest tests/golden"]), pytrace=False
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_resolved_configuration_is_the_golden_one(name):
    flat = config.flat(load(name))
    check(f"{name}.config", "".join(f"{key} = {value!r}\n" for key, value in flat.items()))


@pytest.mark.parametrize("name", TRAINED)
def test_the_parameters_are_the_golden_ones(name):
    experiment = load(name)
    mesh = MeshShape().build()
    with jax.set_mesh(mesh):
        state = abstract_state(experiment, experiment.data.vocabulary_size, mesh)
        initialisers = observed_initialisers(experiment, mesh)
    lines = []
    for kind, tree in (("trained", state.params), ("frozen", state.frozen)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            key = jax.tree_util.keystr(path, simple=True, separator=".")
            axes = ", ".join(axis or "-" for axis in WEIGHT_AXES.get(path[-1].key, ()))
            columns = (key, kind, tuple(leaf.shape), leaf.dtype, f"({axes})", initialisers[kind, key])
            lines.append(" | ".join(map(str, columns)))
    count = sum(leaf.size for leaf in jax.tree.leaves((state.params, state.frozen)))
    trained = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    check(
        f"{name}.parameters",
        f"{count:,} parameters, {trained:,} of them trained\n"
        "name | use | shape | dtype | logical axes | initialiser\n" + "\n".join(lines) + "\n",
    )


def observed_initialisers(experiment: Experiment, mesh: Mesh) -> dict[tuple[str, str], str]:
    """What each parameter is at the start, looked at in a small model of the same kind."""
    width = {"layers": 2, "d_model": 128, "q_heads": 2, "kv_heads": 1, "head_dim": 64, "d_ff": 128}
    model = dataclasses.replace(experiment.model, global_layers=(1,), scan_group=0, rope=Rope(), **width)
    fresh = initialised(model, experiment.trainable, mesh)
    found = {}
    for kind, tree in (("trained", fresh.params), ("frozen", fresh.frozen)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            key = jax.tree_util.keystr(path, simple=True, separator=".")
            adapter = kind == "trained" and bool(jax.tree.leaves(fresh.frozen))
            if adapter or isinstance(experiment.start, FreshStart):
                scaled = adapter or (isinstance(model.init, ScaledInit) and key != "embed")
                found[kind, key] = describe(np.asarray(leaf, np.float64), 128 if scaled else None)
            else:
                found[kind, key] = type(experiment.start).__name__
    return found


@functools.cache
def initialised(model: ModelConfig, trainable: AllWeights | LoRA, mesh: Mesh) -> TrainState:
    return init_state(Experiment(model=model, trainable=trainable, optimizer=AdamW()), 512, mesh)


def describe(values: np.ndarray, inputs: int | None) -> str:
    """A constant, or a standard deviation; over the root of `inputs` where it depends on the width."""
    if (distinct := np.unique(values)).size <= 2:
        return " or ".join(f"{value:g}" for value in distinct)
    std = values.std()
    return f"normal {std:.2g}" if inputs is None else f"normal {std * inputs**0.5:.2g}/sqrt(inputs)"


def test_every_experiment_is_in_the_registry():
    registry = (EXPERIMENTS / "README.md").read_text()
    assert len(NAMES) >= 9
    for name in NAMES:
        assert f"[{name}]({name}.gin)" in registry, name
        opening = (EXPERIMENTS / f"{name}.gin").read_text().split("\n\n")[0]
        assert all(word in opening for word in ("# Command:", "# Hardware:", "# Expected:")), name
