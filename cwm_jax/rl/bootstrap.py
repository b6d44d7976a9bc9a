"""Self-bootstrapping, and the `bootstrap` verb: a model learns from its own successes, round after round (facts §6.11).

    run/round-0/rl/         RL from the mid-training checkpoint, its trajectories in `spool/`
    run/round-1/sft/data/   those that passed, packed
    run/round-1/sft/        SFT on them, again from the mid-training checkpoint: what older rounds kept is not used
    run/round-1/rl/         RL from that, and so on
    run/data/               those of the last round that passed, for a later mixture

Every part is a run of its own that goes on where it was and does nothing where it is done, so the whole does, too.
"""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cwm_jax import config
from cwm_jax.cluster import ADDRESS_HELP
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.prepared import PreparedRows
from cwm_jax.data.stream import StreamConfig
from cwm_jax.files import in_use, write_json, write_whole
from cwm_jax.report.bootstrap import bootstrap_report
from cwm_jax.report.console import print_rounds
from cwm_jax.report.progress import progress
from cwm_jax.rl import cli
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.rejection import SOLVE_RATES, Rejection, sift
from cwm_jax.rl.spool import Spool
from cwm_jax.text.load import VOCABULARY
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.loop import train
from cwm_jax.training.optimizers import AdamW, Muon
from cwm_jax.training.preemption import Stopped, leave
from cwm_jax.training.schedules import WarmupConstantDecay, WarmupCosine


@dataclass(frozen=True)
class Sft:
    """How what was kept is learnt; what is not said here, such as model and mesh, is as the learner of RL has it.

    Attributes:
      stream: order and size of batches, which are smaller where less was kept than one has.
      epochs: how often each row is seen. How many rows there will be nobody knows before, so steps are not named.
      optimizer, schedule: of this training.
      checkpoint_every: steps between checkpoints.
    """

    stream: StreamConfig = field(default_factory=StreamConfig)
    epochs: float = 4.0
    optimizer: AdamW | Muon = field(default_factory=AdamW)
    schedule: WarmupConstantDecay | WarmupCosine = field(default_factory=WarmupConstantDecay)
    checkpoint_every: int = 200

    def __post_init__(self):
        if self.epochs <= 0:
            raise ValueError(f"Sft.epochs={self.epochs} must be above 0")


@dataclass(frozen=True)
class Bootstrap:
    """The root of a configuration.

    Attributes:
      rl: a round's; its `checkpoint` is the mid-training one, from which the first round starts, and every SFT. Later
        rounds know the solve rates of the one before, for a `Stage` that has a use for them, as `prefer_hard` has.
      rejection: which trajectories are kept.
      sft: how they are learnt.
      rounds: of RL; before all but the first there is SFT.
    """

    rl: Rl
    rejection: Rejection = field(default_factory=Rejection)
    sft: Sft = field(default_factory=Sft)
    rounds: int = 3

    def __post_init__(self):
        if self.rounds < 1:
            raise ValueError(f"Bootstrap.rounds={self.rounds} must be at least 1")
        if self.rl.learning.spool_steps is not None:
            raise ValueError(
                f"Learning.spool_steps={self.rl.learning.spool_steps} deletes trajectories before they can be kept; "
                "bind Learning.spool_steps = None"
            )

    def rl_of(self, number: int, out: Path) -> Rl:
        """The RL of a round, from 0, of the run in `out`."""
        if number == 0:
            return self.rl
        sft = out / f"round-{number}" / "sft"
        curriculum = replace(self.rl.curriculum, solve_rates=str(sft / "data" / SOLVE_RATES))
        return replace(self.rl, checkpoint=str(sft), curriculum=curriculum)

    def experiment(self, rows: Path, manifest: Manifest) -> Experiment:
        """The SFT on what lies in a folder."""
        rl, sft = self.rl, self.sft
        length = rl.learning.batching.length
        tokens = sum(manifest.rows.values()) * length
        batch = min(sft.stream.tokens_per_batch, tokens)
        return replace(
            rl.training,
            data=PreparedRows(str(rows), rl.vocab_size(rl.playgrounds()), (length,), (length,)),
            stream=replace(sft.stream, tokens_per_batch=batch),
            optimizer=sft.optimizer,
            schedule=sft.schedule,
            steps=max(1, round(sft.epochs * tokens / batch)),
            checkpoint_every=sft.checkpoint_every,
        )


def main(argv: list[str]) -> int:
    """`bootstrap`: rounds of RL, rejection sampling and SFT; the same call again resumes."""
    bootstrap, out, address = _parse(argv)
    try:
        results = run(bootstrap, out, address)
    except Stopped as stopped:
        return leave(stopped, ["bootstrap", *argv])
    print_rounds(results)
    print(f"report: {out / 'report.html'}")
    return 0


def load(files: list[str], overrides: list[str]) -> Bootstrap:
    """The configuration that gin files and overrides give; raises as `config.load`."""
    return config.load(files, overrides, Bootstrap, cli.COMPONENTS)


def run(bootstrap: Bootstrap, out: Path, address: str | None = None) -> dict[str, Any]:
    """Runs all rounds, or goes on with what `out` holds; what `results.json` there says then.

    It is written, with `report.html`, after each round.

    Raises:
      ValueError: `out` holds a run of another configuration, or nothing passed in a round.
      OSError: another process works there, the disk is full, or no cluster is at `address`.
      Stopped: SIGTERM or Ctrl-C, in SFT.
    """
    out = Path(out).absolute()  # it stands in the configurations of the rounds, whatever the call names it by
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    rounds: list[dict[str, Any]] = []
    with in_use(out), progress("bootstrapping", bootstrap.rounds, unit="rounds") as bar:
        cli.claim(bootstrap, out, load)
        learnt: Manifest | None = None
        for number in range(bootstrap.rounds):
            folder, sft = out / f"round-{number}", None
            if learnt is not None:
                sft = train(bootstrap.experiment(folder / "sft" / "data", learnt), folder / "sft")
            reinforced = cli.run(bootstrap.rl_of(number, out), folder / "rl", address)
            behind = out / f"round-{number + 1}" / "sft" if number + 1 < bootstrap.rounds else out
            kept = _keep(bootstrap, folder / "rl", behind / "data")
            rounds.append(_told(number, learnt, sft, reinforced, kept))
            learnt = kept
            results = {"rounds": rounds, "minutes": sum(sum(one["minutes"].values()) for one in rounds)}
            write_json(out / "results.json", results)
            bootstrap_report(out)
            bar.update(number + 1)
    return results


def _keep(bootstrap: Bootstrap, run: Path, folder: Path) -> Manifest:
    """Makes the rows of what passed in a run of RL, with the vocabulary that reads them if there is one."""
    rl = bootstrap.rl
    vocabulary, name = rl.start.vocabulary, f"{rl.vocab_size(rl.playgrounds())} ids"
    if vocabulary is not None:
        write_whole(folder / VOCABULARY, rl.start.vocabulary_file.read_bytes())
        name = vocabulary.fingerprint
    return sift(Spool(run / "spool"), bootstrap.rejection, rl.learning.batching.length, name, folder)


def _told(
    number: int, learnt: Manifest | None, sft: dict[str, Any] | None, rl: dict[str, Any], kept: Manifest
) -> dict[str, Any]:
    """What is told of a round: held-out success before and after its RL, what its SFT learnt, what it left behind."""
    first, last = rl["examinations"][0], rl["examinations"][-1]
    success = {
        name: {"before": first["environments"][name]["pass"], "after": found["pass"], "n": found["n"]}
        for name, found in last["environments"].items()
    }
    return {
        "round": number,
        "success": success,
        "reward": rl["reward"],
        "sft": None if learnt is None else {"trajectories": sum(learnt.programs.values()), "steps": sft["steps"]},
        "kept": {"trajectories": sum(kept.programs.values()), "tokens": kept.tokens, "dropped": kept.dropped},
        "minutes": {"rl": rl["minutes"]} | ({} if sft is None else {"sft": sft["minutes"]["train"]}),
    }


def _parse(argv: list[str]) -> tuple[Bootstrap, Path, str | None]:
    files, overrides, rest = config.split_gin_flags(argv)
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax bootstrap",
        description="Rounds of RL, rejection sampling and SFT on what passed; the same call again resumes.",
        epilog="--gin_file=F reads an experiment (several may be given); --gin.Class.field=VALUE overrides one value.",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    parser.add_argument("--address", metavar="HOST:PORT", help=ADDRESS_HELP.replace("record on", "run on"))
    arguments = parser.parse_args(rest)
    if not files:
        parser.error("--gin_file=F is missing, for example --gin_file=experiments/tiny/bootstrap.gin")
    return load(files, overrides), arguments.out, arguments.address
