"""The `export` verb: the weights of a run, adapters merged, in the form that is converted, served and fine-tuned."""

import argparse
from pathlib import Path

from cwm_jax import config
from cwm_jax.checkpoints.convert import convert
from cwm_jax.checkpoints.weights import ParamsReader, WeightsIndex
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.state import trained_weights


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
    """Writes the weights of the newest checkpoint; its step, and what was written.

    Raises:
      FileNotFoundError: `run` is no run, or has no checkpoint.
      ValueError: `destination` exists, or the model has parts that CWM has not.
    """
    run = Path(run)
    if not (run / "config.gin").exists():
        raise FileNotFoundError(f"{run} holds no config.gin; name the folder that `train --out` wrote")
    experiment = config.load([run / "config.gin"], [], Experiment)
    for part in ("conv", "qk_norm"):
        if (found := getattr(experiment.model, part)) is not None:
            raise ValueError(f"ModelConfig.{part}={found}: CWM's weights have no place for it; train without")
    vocab_size = experiment.data.ready(run).vocab_size
    step, params = trained_weights(run, experiment, vocab_size)
    index = WeightsIndex(experiment.model, vocab_size, dtype)
    convert(ParamsReader(index, params), Path(destination), to, f"{run.absolute()} {step}")
    return step, index
