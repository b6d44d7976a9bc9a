"""One place for what all tests share: 8 CPU devices, and paths."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight devices on a busy machine may wait long for one another; by default they give up after 40 seconds.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_collective_call_terminate_timeout_seconds=600"

# Tests, and the processes that they start, share what they compile: it was more than half of the time of many.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import hypothesis
import jax
import pytest

atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
# A busy machine is no reason to fail: nothing here asserts a time.
hypothesis.settings.register_profile("house", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("house")
jax.config.update("jax_num_cpu_devices", 8)
# Eight devices share few threads: a step that starts while some still finish the one before may wait for them for ever.
jax.config.update("jax_cpu_enable_async_dispatch", False)

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def in_project_root(monkeypatch):
    """Experiments name files relative to the project."""
    monkeypatch.chdir(ROOT)


# A run small enough to train in seconds.
GIN = """
CorpusConfig.strawberry = 60
CorpusConfig.composed = 60
CorpusConfig.shards = 2
CorpusConfig.tests = 6
DataConfig.buckets = (256, 512)
StreamConfig.tokens_per_batch = 1024
ModelConfig.layers = 1
ModelConfig.d_model = 32
ModelConfig.q_heads = 1
ModelConfig.kv_heads = 1
ModelConfig.head_dim = 32
ModelConfig.d_ff = 32
ModelConfig.conv = @ShortConv()
ModelConfig.init = @ScaledInit()
Experiment.optimizer = @Muon()
MeshShape.replica = 2
WarmupConstantDecay.warmup = 5
Experiment.steps = 40
Experiment.checkpoint_every = 8
"""


@pytest.fixture(scope="session")
def gin_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiment") / "small.gin"
    path.write_text(GIN)
    return path


@pytest.fixture(scope="session")
def trained_run(gin_file, tmp_path_factory):
    """The folder that `train` wrote for `gin_file`, without a stop in between."""
    out = tmp_path_factory.mktemp("trained") / "run"
    command = [sys.executable, "-m", "cwm_jax", "train", f"--gin_file={gin_file}", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return out
