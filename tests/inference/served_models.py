"""A tiny model of random weights with a vocabulary that has turns, in a folder that can be served, and its server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax

from cwm_jax.checkpoints.weights import ParamsReader, WeightsIndex, write_weights
from cwm_jax.inference.config import EngineConfig
from cwm_jax.model.transformer import ModelConfig, init_params
from cwm_jax.text.special_tokens import CWM_IDS
from cwm_jax.text.vocabulary import SentencePieceVocabulary, train_vocabulary

ROOT = Path(__file__).parent.parent.parent
MODEL = ModelConfig(layers=1, d_model=32, q_heads=2, kv_heads=1, head_dim=16, d_ff=32)
SHAPES = EngineConfig(slots=4, max_length=320, page=32, chunk=32, rows=1, steps=4, queue=80, top_logprobs=5)
TEXTS = ["def count(letters):\n    return 3  # ünï ☃ 𝄞 <think> </think> <tool: add>\n", "strawberry has three r's"] * 4


def vocabulary() -> SentencePieceVocabulary:
    return train_vocabulary(TEXTS, 330, tuple(CWM_IDS))


def weights(vocab_size: int):
    """Weights with no zeros, large enough that answers differ from one another."""
    keys = iter(jax.random.split(jax.random.key(5), 50))
    return jax.tree.map(
        lambda w: w + 0.3 * jax.random.normal(next(keys), w.shape, w.dtype), init_params(MODEL, vocab_size, 0)
    )


def write_served(folder: Path) -> Path:
    """The folder that `serve --checkpoint` names."""
    known = vocabulary()
    index = WeightsIndex(MODEL, known.vocab_size, "float32")
    write_weights(folder, index, ParamsReader(index, weights(known.vocab_size)).read, lambda: None)
    known.save(folder / "vocabulary.model")
    return folder


class Server:
    """`python -m cwm_jax serve` as a process, once it is ready."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str):
        names = ("slots", "max_length", "page", "chunk", "rows", "steps", "queue", "top_logprobs")
        shapes = [f"--gin.EngineConfig.{name}={getattr(SHAPES, name)}" for name in names]
        command = [sys.executable, "-m", "cwm_jax", "serve", "--checkpoint", str(folder), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *shapes, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://([^/]+):(\d+)/v1", line)
        assert found, line + self.process.communicate(timeout=60)[1]
        self.host, self.port = found[1], int(found[2])
        self.url = f"http://{self.host}:{self.port}"

    def stop(self) -> tuple[int, str]:
        """Tells it to stop; its exit status and what it wrote on stderr."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said


def one_device() -> dict[str, str]:
    """The environment of a server."""
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
