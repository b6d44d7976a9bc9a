"""The house rules that a machine can hold: data flows one way, and knobs stay few."""

import ast
from pathlib import Path

import pytest

from cwm_jax.components import parameters, reachable
from cwm_jax.inference.served import Serve
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.prepare_cli import ROOTS

PACKAGE = Path(__file__).parent.parent / "cwm_jax"
# Earlier ones know nothing of later ones.
ORDER = [
    "files",
    "cluster",
    "records",
    "components",
    "config",
    "report",
    "text",
    "sandbox",
    "repos",
    "tracing",
    "data",
    "model",
    "checkpoints",
    "training",
    "inference",
    "envs",
    "rl",
    "worldmodel",
    "evaluation",
    "tpu",
]


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("cwm_jax.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_flow_down_the_list(path):
    place = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if place in ("__init__", "__main__"):
        return
    allowed = set(ORDER[: ORDER.index(place) + 1])
    assert imported_packages(path) <= allowed, f"{path} imports from a later package"


def test_only_config_knows_gin():
    users = {path.name for path in PACKAGE.rglob("*.py") if "gin" in _top_level_imports(path)}
    assert users == {"config.py"}


def _top_level_imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("root", [Experiment, Serve, *ROOTS], ids=lambda root: root.__name__)
def test_at_most_sixty_knobs(root):
    scalars = (int, float, str, bool)
    knobs = [
        f"{component.__name__}.{name}"
        for component in reachable([root]).values()
        for name, (annotation, _) in parameters(component).items()
        if annotation in scalars
    ]
    assert 3 < len(knobs) <= 60, sorted(knobs)
