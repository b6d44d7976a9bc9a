"""A run small enough to train in seconds."""

import pytest

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
