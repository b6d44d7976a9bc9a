"""The `export` verb: the weights of a run, adapters merged, in the form that is converted, served and fine-tuned."""

import argparse
from contextlib import suppress
from pathlib import Path

from cwm_jax.checkpoints.convert import convert
from cwm_jax.checkpoints.weights import ParamsReader, WeightsIndex
from cwm_jax.data.corpus import copy_tests
from cwm_jax.files import write_whole
from cwm_jax.text.load import find_vocabulary
from cwm_jax.training.state import experiment_of, trained_weights


def main(argv: list[str]) -> int:
    """Runs `export` with these arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax export",
        description="Write the weights of a run's newest checkpoint; LoRA's are merged into those it adapts.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder that `train --out` wrote")
    parser.add_argument("destination", metavar="DST", type=Path, help="folder to make")
    parser.add_argument("--to", choices=("orbax", "hf"), required=True, help="what `convert` calls them")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default: float32")
    arguments = parser.parse_args(argv)
    step, index = export(arguments.run, arguments.destination, arguments.to, arguments.dtype)
    print(f"{index.parameters:,} parameters of step {step:,}, {index.dtype}, in {arguments.destination}")
    return 0


def export(run: Path, destination: Path, to: str, dtype: str) -> tuple[int, WeightsIndex]:
    """Writes the weights of the newest checkpoint, beside them their vocabulary, and under `data` the tests of the run,
    so that whoever has them can measure them; its step, and what was written.

    Raises:
      FileNotFoundError: `run` is no run, or has no checkpoint.
      ValueError: `destination` exists, or the model has parts that CWM has not.
    """
    run = Path(run)
    experiment = experiment_of(run)
    vocab_size = experiment.data.size_of_vocabulary(run)
    step, params = trained_weights(run, experiment, vocab_size)
    index = WeightsIndex(experiment.model, vocab_size, dtype, max(experiment.data.buckets), step)
    convert(ParamsReader(index, params), Path(destination), to, f"{run.absolute()} {step}")
    with suppress(FileNotFoundError):  # where the rows came without one
        vocabulary = find_vocabulary(run / "data")
        write_whole(Path(destination) / vocabulary.name, vocabulary.read_bytes())
    copy_tests(run / "data", Path(destination) / "data")
    return step, index
