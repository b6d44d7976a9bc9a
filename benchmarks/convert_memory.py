"""Peak memory and speed of `python -m cwm_jax convert` on weights of CWM's full width and four layers.

    python benchmarks/convert_memory.py [--quick] [--out FILE] [--folder DIR]

Makes random bfloat16 weights a part at a time (3.5 B parameters, 7 GB; `--folder` says where, it needs 22 GB), then
converts Hugging Face -> Orbax -> Hugging Face and holds the bits of the end against those of the start. The bound on
the peak resident set is twice the largest tensor plus 1 GB. Speed is held against a plain copy of the same files.
torch writes a DCP checkpoint from memory only, so DCP -> Orbax has an eighth of the width, and is not timed.
"""

import hashlib
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

import ml_dtypes
import numpy as np
from result import flags, row, tell

from cwm_jax import config
from cwm_jax.checkpoints.dcp import name_of
from cwm_jax.checkpoints.huggingface import matrix_shape, write_huggingface
from cwm_jax.checkpoints.weights import WeightsIndex
from cwm_jax.model.transformer import ModelConfig

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEADS, VOCABULARY = 6144, 48, 128_256
RELEASED = ROOT / "experiments/models/cwm_32b.gin"


def overrides(scale: int) -> list[str]:
    """Four layers of CWM with its width, heads and feed-forward divided by `scale`."""
    sizes = {"layers": 4, "global_layers": (0, 3), "d_model": WIDTH // scale, "q_heads": HEADS // scale}
    sizes |= {"kv_heads": 8 // scale, "d_ff": 21_504 // scale}
    return [f"ModelConfig.{name}={value}" for name, value in sizes.items()]


def index_of(scale: int) -> WeightsIndex:
    """What is converted; the vocabulary is divided too."""
    return WeightsIndex(config.load([str(RELEASED)], overrides(scale), ModelConfig), VOCABULARY // scale, "bfloat16")


class RandomWeights:
    """A reader of weights that are not there: random signs and mantissas, magnitudes around 2^-6."""

    def __init__(self, index: WeightsIndex):
        self.index = index

    def read(self, part: str) -> dict[str, np.ndarray]:
        """One part; the same at every call."""
        seed = np.frombuffer(part.encode(), np.uint8)
        rng = np.random.default_rng(seed)
        leaves = {}
        for leaf, shape in self.index.parts()[part].items():
            bits = rng.integers(0, 1 << 16, math.prod(shape), np.uint16)
            bits &= 0x80FF  # sign, the last bit of the exponent, mantissa
            bits |= 0x3C00
            leaves[leaf] = bits.view(ml_dtypes.bfloat16).reshape(shape)
        return leaves


def make_huggingface(folder: Path, scale: int) -> None:
    """Writes the weights as Hugging Face has them."""
    folder.mkdir(parents=True)
    weights = RandomWeights(index_of(scale))
    write_huggingface(folder, weights.index, weights.read, lambda: None)


def make_dcp(folder: Path, scale: int) -> None:
    """Writes the weights as a DCP checkpoint. Numbers are random, so no rows need reordering."""
    import torch
    import torch.distributed.checkpoint as dcp

    weights, state = RandomWeights(index_of(scale)), {}
    for part, leaves in weights.index.parts().items():
        for leaf, array in weights.read(part).items():
            stored = array.reshape(matrix_shape(leaf, leaves[leaf]))
            state[name_of(part, leaf)] = torch.from_numpy(stored.view(np.uint16)).view(torch.bfloat16)
    dcp.save(state, checkpoint_id=folder, no_dist=True)


def apart(work, *arguments) -> None:
    """Calls `work` in a process of its own: a child's peak starts from that of the process that makes it."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} failed")


def convert(source: Path, form: str, destination: Path, to: str, *flags: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of one conversion."""
    command = [sys.executable, "-m", "cwm_jax", "convert", source, destination, "--from", form, "--to", to, *flags]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"convert --from {form} --to {to} failed")
    return time.perf_counter() - start, 1024 * usage.ru_maxrss


def digests(folder: Path) -> dict[str, str]:
    """The hash of every safetensors file."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def copy_seconds(source: Path, destination: Path) -> float:
    """Seconds of a plain copy, which is removed again."""
    start = time.perf_counter()
    shutil.copytree(source, destination)
    seconds = time.perf_counter() - start
    shutil.rmtree(destination)
    return seconds


def rows(folder: Path, scale: int, dcp_scale: int) -> list[dict]:
    """Measures the three conversions in `folder`."""
    index, there, orbax, back = index_of(scale), folder / "hf", folder / "orbax", folder / "back"
    gigabytes, what = 2 * index.parameters / 1e9, f"{index.parameters / 1e9:.2f} B parameters"
    apart(make_huggingface, there, scale)
    copied = gigabytes / copy_seconds(there, folder / "copy")
    made = []
    for source, form, destination, to in ((there, "hf", orbax, "orbax"), (orbax, "orbax", back, "hf")):
        seconds, peak = convert(source, form, destination, to)
        made.append(peak_row(f"{form} -> {to}, {what}", peak, index))
        speed = gigabytes / seconds
        made.append(row(f"{form} -> {to}, {what}, speed", speed, copied, "plain copy of the files", "GB/s"))
    if digests(there) != digests(back):
        raise SystemExit("there and back is not the same bits")
    print("hf -> orbax -> hf: the same bits")
    index, there = index_of(dcp_scale), folder / "dcp"
    apart(make_dcp, there, dcp_scale)
    flags = [f"--gin_file={RELEASED}", *(f"--gin.{binding}" for binding in overrides(dcp_scale))]
    _, peak = convert(there, "dcp", folder / "from_dcp", "orbax", *flags)
    what = f"{index.parameters / 1e9:.2f} B parameters"
    return [*made, peak_row(f"dcp -> orbax, {what}", peak, index)]


def peak_row(case: str, peak: int, index: WeightsIndex) -> dict:
    """The row of the most that a conversion held, in bytes, beside what it may hold."""
    return row(f"{case}, peak resident set", peak / 1e9, None, None, "GB", 1.0, limit(index))


def limit(index: WeightsIndex) -> float:
    """The most that a conversion may hold, GB: twice the largest tensor, which is the embedding, plus 1."""
    return 2 * 2 * index.vocab_size * index.model.d_model / 1e9 + 1


def main() -> None:
    parser = flags(__doc__, "an eighth of the width, 0.06 B parameters")
    parser.add_argument("--folder", type=Path, help="where the weights are made and removed; default: the system's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        made = rows(Path(folder), 8 if arguments.quick else 1, 8)
    tell("convert_memory", made, arguments.out)


if __name__ == "__main__":
    main()
