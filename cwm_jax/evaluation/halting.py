"""How well predicted traces tell which programs halt, and how much running that spares."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from cwm_jax.evaluation.halting_programs import programs
from cwm_jax.evaluation.scores import share
from cwm_jax.report.progress import progress
from cwm_jax.sandbox import Isolation
from cwm_jax.worldmodel.halting import halts
from cwm_jax.worldmodel.halting.rollout import read_off
from cwm_jax.worldmodel.halting.runs import LIMITS
from cwm_jax.worldmodel.models.model import Model
from cwm_jax.worldmodel.predict import WorldModel
from cwm_jax.worldmodel.predictors import TracePredictor

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


class ProvedProgram(NamedTuple):
    """A program of the benchmark.

    Attributes:
      id: its name.
      context: source with a marked entry.
      verdict: `terminates` or `loops`.
      proof: how that is known: `by`, `text`, and what the real runs took: `steps` (turns of loops) and `seconds`.
    """

    id: str
    context: str
    verdict: str
    proof: dict[str, Any]

    @property
    def family(self) -> str:
        return self.id.rpartition("_")[0].removesuffix(f"_{self.verdict}") if self.id[-1].isdigit() else "written"


@dataclass(frozen=True)
class Halting:
    """Does it end? As read off predicted traces, held against proofs: a `Suite`.

    Attributes:
      predictor: says the traces; nothing is run but what it runs itself.
    """

    predictor: Callable[[Model], TracePredictor] = field(default=WorldModel, repr=False)
    name: ClassVar[str] = "halting"
    title: ClassVar[str] = "halting: does it end, read off predicted traces"
    published: ClassVar[None] = None

    def items(self, model: Model) -> list[ProvedProgram]:
        """All programs, one of each family in turn, halting and looping ones in turn."""
        groups: dict[tuple[str, str], list[ProvedProgram]] = {}
        for told in map(json.loads, PROVED.read_text().splitlines()):
            one = ProvedProgram(told["name"], told["context"], told["verdict"], told["proof"])
            groups.setdefault((one.family, one.verdict), []).append(one)
        return [one for rank in zip_longest(*groups.values()) for one in rank if one is not None]

    def records(self, model: Model, items: Sequence[ProvedProgram], isolation: Isolation) -> Iterator[dict[str, Any]]:
        traces = self.predictor(model).predict([item.context for item in items])
        for item, trace in zip(items, traces):
            said = read_off(trace).verdict
            spared = {"steps": item.proof["steps"], "seconds_proved": item.proof["seconds"]}
            yield {"id": item.id, "family": item.family, "verdict": item.verdict, "said": said, **spared}

    def score(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What records come to.

        Returns:
          `n`, `score`, the share told right, of which `unknown` is none, `interval`, and `details`: `said`, how often
          the one was said where the other is true; `false_loops` and `false_terminates`, both kinds of error as
          shares of the programs that halt and that loop; `unknown`, a share of all; `by_family`; and `spared`, what it
          took to prove by real runs those that were told right: `programs`, `steps` (turns of loops), `seconds`; and,
          without such proofs, `plain_seconds`: of those that loop, a run that is given up only at its limit of 10 s.
        """
        table = Counter((record["verdict"], record["said"]) for record in records)
        counts = {truth: {word: table[truth, word] for word in _WORDS} for truth in _WORDS[:2]}
        total = {truth: max(1, sum(words.values())) for truth, words in counts.items()}
        right = [record for record in records if record["said"] == record["verdict"]]
        families = Counter(record["family"] for record in records)
        right_in = Counter(record["family"] for record in right)
        details = {
            "said": counts,
            "false_loops": counts["terminates"]["loops"] / total["terminates"],
            "false_terminates": counts["loops"]["terminates"] / total["loops"],
            "unknown": sum(record["said"] == "unknown" for record in records) / len(records),
            "by_family": {name: right_in[name] / count for name, count in families.items()},
            "spared": {
                "programs": len(right),
                "steps": sum(record["steps"] for record in right),
                "seconds": sum(record["seconds_proved"] for record in right),
                "plain_seconds": sum(map(_plain_seconds, right)),
            },
        }
        return share(len(right), len(records), details)


def _plain_seconds(record: dict[str, Any]) -> float:
    return LIMITS.wall_seconds if record["verdict"] == "loops" else record["seconds_proved"]
