"""The `rl` verb."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cwm_jax import config
from cwm_jax.cluster import ADDRESS_HELP
from cwm_jax.envs.bash import AgenticCode, BashCalculator
from cwm_jax.envs.contest import Contest
from cwm_jax.envs.env import PassOnly, Score, ShorterIsBetter
from cwm_jax.envs.imagined import Imagined, Remembered
from cwm_jax.envs.inputs import InputPrediction
from cwm_jax.envs.maths import Arithmetic, Maths
from cwm_jax.envs.reverse import Reverse
from cwm_jax.envs.traces import OutputPrediction, ReasonedOutput, TracePrediction
from cwm_jax.files import in_use
from cwm_jax.report.progress import progress
from cwm_jax.report.rl import rl_report
from cwm_jax.rl.board import Accounts
from cwm_jax.rl.experiment import Rl
from cwm_jax.rl.ledger import Ledger
from cwm_jax.rl.on_processes import keep_board, play
from cwm_jax.rl.on_ray import run_on_ray
from cwm_jax.rl.planning import RlPlan
from cwm_jax.rl.results import write_results

COMPONENTS = (
    AgenticCode, Arithmetic, BashCalculator, Contest, Imagined, InputPrediction, Maths, OutputPrediction,
    ReasonedOutput, Remembered, Reverse, TracePrediction, PassOnly, Score, ShorterIsBetter,
)  # fmt: skip
"""What a configuration may name as environments and rewards."""


def main(argv: list[str]) -> int:
    """`rl`: reinforces a policy; the same call again resumes."""
    rl, out, address, role = _parse(argv)
    if role in (None, "board"):
        run(rl, out, address, alone=role is None)
    else:
        play(rl, out, role)
    return 0


def load(files: Sequence[str], overrides: Sequence[str]) -> Rl:
    """The run that gin files and overrides describe; raises as `config.load`."""
    return load_plan(files, overrides).rl


def load_plan(files: Sequence[str], overrides: Sequence[str]) -> RlPlan:
    """The same with what is planned of it; raises as `config.load`."""
    return config.load(files, overrides, RlPlan, COMPONENTS)


def synchronous(rl: Rl) -> Rl:
    """The same run with nothing under way while the learner works: a step takes the groups that its weights made."""
    groups = rl.learning.batching.groups or rl.admission.groups
    batching = replace(rl.learning.batching, groups=groups)
    admission = replace(rl.admission, staleness=0, groups=groups)
    return replace(rl, learning=replace(rl.learning, batching=batching, publish_every=1), admission=admission)


def run(rl: Rl, out: Path, address: str | None = None, alone: bool = True) -> dict[str, Any]:
    """Runs to the end, or goes on with what `out` holds; what `results.json` there says then. A finished run is shown.

    Args:
      rl: the configuration.
      out: folder of the run.
      address: of a cluster of Ray; None for this machine.
      alone: whether all roles are started here, by Ray; else this process keeps the board, and others play the rest.

    Raises:
      ValueError: `out` holds a run of another configuration, or the configuration cannot work.
      OSError: another process works there, the disk is full, or no cluster is at `address`.
    """
    out.mkdir(parents=True, exist_ok=True)
    rl.playgrounds()  # what is wrong with it is said before anything is started
    with in_use(out):
        claim(rl, out, load)
        path = out / "results.json"
        results = json.loads(path.read_text()) if path.exists() else _reinforce(rl, out, address, alone)
    report = rl_report(out)
    _say(results)
    print(f"report: {report}")
    return results


def _reinforce(rl: Rl, out: Path, address: str | None, alone: bool) -> dict[str, Any]:
    """Runs to the end, showing progress; writes and returns the results."""
    began = time.monotonic()
    with progress("reinforcing", rl.steps, unit="steps") as bar:
        ledger = Ledger(out / "ledger.jsonl")

        def told(accounts: Accounts) -> None:
            ledger.refresh()
            if not accounts.holds:
                raise ArithmeticError(f"the accounts of {out} do not add up: {accounts}")
            note = f"groups: {accounts.consumed:,} learnt from, {sum(accounts.rejected.values()):,} passed over"
            bar.update(min(ledger.last, rl.steps), note)

        came_to = run_on_ray(rl, out, address, told) if alone else keep_board(rl, out, told)
    return write_results(out, came_to, time.monotonic() - began)


def claim(root: Any, out: Path, load: Callable[[list[str], list[str]], Any]) -> None:
    """Writes a configuration into the folder of a run, or sees that it is the one that is there, as `load` reads it.

    Raises:
      ValueError: it is another.
    """
    path = out / "config.gin"
    if path.exists() and load([str(path)], []) != root:
        raise ValueError(f"{out} holds a run of another configuration, {path}; choose another --out, or delete it")
    config.write(root, out)


def _say(results: dict[str, Any]) -> None:
    for name, reward in results["reward"].items():
        before, after = ("none" if one is None else f"{one:.3f}" for one in (reward["before"], reward["after"]))
        print(f"{name}: held-out reward {before} before, {after} after")
    identity = results["identity"]
    print(
        f"groups: {identity['issued']} issued = {identity['consumed']} learnt from + {identity['rejected']} passed "
        f"over + {identity['sealed']} waiting + {identity['in_flight']} under way (residual {identity['residual']})"
    )
    idle = ", ".join(f"{role} {share:.0%}" for role, share in results["idle"].items())
    age = results["staleness"]
    print(
        f"{results['versions']['published']} versions published, mean age of a token {age['mean']:.2f} steps, at most "
        f"{age['oldest']}; idle: {idle}; {results['minutes']:.1f} min"
    )


def _parse(argv: list[str]) -> tuple[Rl, Path, str | None, str | None]:
    files, overrides, rest = config.split_gin_flags(argv)
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax rl",
        description="Reinforce a policy in environments; the same call again resumes.",
        epilog="--gin_file=F reads an experiment (several may be given); --gin.Class.field=VALUE overrides one value.",
    )
    parser.add_argument("--out", type=Path, help="folder of the run; default: runs/NAME of the last gin file")
    parser.add_argument("--address", metavar="HOST:PORT", help=ADDRESS_HELP.replace("record on", "run on"))
    parser.add_argument("--sync", action="store_true", help="nothing is under way while the learner works")
    parser.add_argument("--role", help="play board, learner, sampler-N or env-N in this process, without Ray")
    arguments = parser.parse_args(rest)
    if arguments.role and arguments.address:
        parser.error("--role is without Ray, --address with it; give one of them")
    if not files:
        parser.error("--gin_file=F is missing, for example --gin_file=experiments/tiny/rl.gin")
    out = arguments.out or Path("runs") / (Path(files[-1]).stem + "-sync" * arguments.sync)
    rl = load(files, overrides)
    return synchronous(rl) if arguments.sync else rl, out, arguments.address, arguments.role
