"""How well predicted traces tell which programs halt, and how much running that spares."""

import json
import time
from collections import Counter
from itertools import zip_longest
from pathlib import Path

from cwm_jax.evaluation.halting_programs import programs
from cwm_jax.report.progress import progress
from cwm_jax.sandbox import Isolation
from cwm_jax.worldmodel.halting import halts
from cwm_jax.worldmodel.halting.rollout import read_off
from cwm_jax.worldmodel.halting.runs import LIMITS
from cwm_jax.worldmodel.predictor import TracePredictor

PROVED = Path("experiments/halting/programs.jsonl")
_WORDS = ("terminates", "loops", "unknown")


def prove(isolation: Isolation = Isolation.BUBBLEWRAP, path: Path = PROVED) -> None:
    """Writes the benchmark anew: every program with the machine-checked reason for its verdict.

    Raises:
      ValueError: a program has no proof, or one of something else than its family says.
    """
    found = programs()
    lines = []
    with progress("proving", len(found), unit="programs") as bar:
        for program in found:
            answer = halts(program.context, None, isolation)
            if not answer.proof or answer.verdict != program.verdict:
                raise ValueError(f"{program.name} should be proved to be {program.verdict}: {answer.evidence}")
            reason = next(one for one in answer.evidence if one.proof)
            proof = {"by": reason.by, "text": reason.text, "steps": answer.steps, "seconds": round(answer.seconds, 3)}
            lines.append(json.dumps({**vars(program), "proof": proof}) + "\n")
            bar.update(len(lines))
    path.write_text("".join(lines))


def evaluate_halting(predictor: TracePredictor, limit: int | None = None) -> dict[str, object]:
    """Has each program's trace predicted, and compares what that says with what is proved.

    Args:
      predictor: says the traces; nothing is run but what it runs itself.
      limit: how many programs, from all families, as many that halt as that loop; None for all.

    Returns:
      `programs`; `accuracy`, the share told right, of which `unknown` is none; `said`, how often the one was said
      where the other is true; `false_loops` and `false_terminates`, both kinds of error as shares of the programs
      that halt and that loop; `unknown`, a share of all; `by_family`; `predict_seconds`; and `spared`, what it took
      to prove by real runs those that were told right: `programs`, `steps` (turns of loops), `seconds`; and, without
      such proofs, `plain_seconds`: of those that loop, a run that is given up only at its limit of 10 s.
    """
    chosen = _chosen(limit)
    began = time.monotonic()
    said = []
    with progress("predicting", len(chosen), unit="programs") as bar:
        for predicted in predictor.predict([program["context"] for program in chosen]):
            said.append(read_off(predicted).verdict)
            bar.update(len(said))
    seconds = time.monotonic() - began
    table = Counter((program["verdict"], word) for program, word in zip(chosen, said))
    counts = {truth: {word: table[truth, word] for word in _WORDS} for truth in _WORDS[:2]}
    right = [program for program, word in zip(chosen, said) if word == program["verdict"]]
    total = {truth: sum(words.values()) for truth, words in counts.items()}
    families = Counter(_family(program) for program in chosen)
    right_in = Counter(map(_family, right))
    return {
        "programs": len(chosen),
        "accuracy": len(right) / len(chosen),
        "said": counts,
        "false_loops": counts["terminates"]["loops"] / max(1, total["terminates"]),
        "false_terminates": counts["loops"]["terminates"] / max(1, total["loops"]),
        "unknown": said.count("unknown") / len(chosen),
        "by_family": {name: right_in[name] / count for name, count in families.items()},
        "predict_seconds": seconds,
        "spared": {
            "programs": len(right),
            "steps": sum(program["proof"]["steps"] for program in right),
            "seconds": sum(program["proof"]["seconds"] for program in right),
            "plain_seconds": sum(map(_plain_seconds, right)),
        },
    }


def _chosen(limit: int | None) -> list[dict]:
    """The first `limit` programs, one of each family in turn, halting and looping ones in turn.

    Raises:
      ValueError: `limit` is not at least 2.
    """
    if limit is not None and limit < 2:
        raise ValueError(f"limit={limit} is too small; give at least 2, a program that halts and one that loops")
    groups: dict[tuple[str, str], list[dict]] = {}
    for line in PROVED.read_text().splitlines():
        program = json.loads(line)
        groups.setdefault((_family(program), program["verdict"]), []).append(program)
    return [one for rank in zip_longest(*groups.values()) for one in rank if one is not None][:limit]


def _plain_seconds(program: dict) -> float:
    return LIMITS.wall_seconds if program["verdict"] == "loops" else program["proof"]["seconds"]


def _family(program: dict) -> str:
    name = program["name"]
    return name.rpartition("_")[0].removesuffix(f"_{program['verdict']}") if name[-1].isdigit() else "written"
