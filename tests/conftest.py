"""One place for what all tests share: 8 CPU devices, and paths."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def in_project_root(monkeypatch):
    """Experiments name files relative to the project."""
    monkeypatch.chdir(ROOT)
