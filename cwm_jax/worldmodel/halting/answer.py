"""The answer to "does it halt": what is predicted, what is proved, and what shows it."""

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

from cwm_jax import sandbox
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Trace
from cwm_jax.worldmodel.halting.rollout import read_off
from cwm_jax.worldmodel.halting.runs import LIMITS, Program, Run, plain_run, watched_run

Word = Literal["terminates", "loops", "unknown"]
_FIRST_STEPS = 20_000  # turns of loops before a proof without running is tried; our choice, a second or so
_SAME = {  # modules whose answers are the same in every run; what is not listed may ask the machine or the clock
    "__future__", "abc", "array", "base64", "binascii", "bisect", "cmath", "collections", "contextlib", "copy",
    "dataclasses", "decimal", "difflib", "enum", "fractions", "functools", "hashlib", "heapq", "itertools", "json",
    "math", "numbers", "operator", "re", "statistics", "string", "struct", "textwrap", "typing", "unicodedata", "zlib",
}  # fmt: skip
_VARYING = {  # names whose answers differ from run to run, or come from outside
    "input", "open", "id", "hash", "object", "eval", "exec", "compile", "__import__", "__builtins__", "globals",
    "locals", "vars", "breakpoint",
}  # fmt: skip
_EXHAUSTION = {"RecursionError", "RuntimeError", "MemoryError", "Exception", "BaseException"}


@dataclass(frozen=True)
class Evidence:
    """One thing that speaks for an answer.

    Attributes:
      by: `prediction`, `run` (in the sandbox), `prover` (z3) or `program` (its text).
      verdict: what it speaks for.
      proof: whether it settles the matter.
      text: what it is, one sentence.
      details: numbers behind it, ready for JSON.
    """

    by: Literal["prediction", "run", "prover", "program"]
    verdict: Word
    proof: bool
    text: str
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """Whether a program halts.

    Attributes:
      verdict: that of the proof, if there is one; else the first that anything speaks for, the prediction before all.
      proof: whether something sound confirmed it. A prediction never does.
      evidence: all that was found, in the order in which it was looked for.
      steps: turns of loops, and `seconds` that real runs took.
    """

    verdict: Word
    proof: bool
    evidence: tuple[Evidence, ...]
    steps: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "evidence": [asdict(one) for one in self.evidence]}


def halts(
    context: str,
    predicted: Trace | None,
    isolation: Isolation | None = Isolation.BUBBLEWRAP,
    limits: sandbox.Limits = LIMITS,
) -> Answer:
    """Whether the program halts: the marked function of `context`, called without arguments.

    A real run reads nothing and has the fixed hash seed of the sandbox; where the program is seen to ask for what may
    differ from run to run, such as the time, that it returned once is no proof.
    A call that nests too deep ends in CPython, with a `RecursionError`; that counts neither as halting nor as looping.

    Args:
      context: source text with a marked entry.
      predicted: its predicted trace; None if nobody predicts.
      isolation: where it may be run to confirm the prediction; None for nowhere: then nothing is ever proved.
      limits: of each real run.

    Raises:
      ValueError: the context does not parse, or nothing in it is marked.
      SandboxMissing, SandboxError: as `record`.
    """
    program = Program(context)
    found, runs = [], []
    if predicted is not None:
        said = read_off(predicted, _varies(program.tree))
        found.append(Evidence("prediction", said.verdict, False, said.text, _of_prediction(said)))
    if isolation is not None:
        for evidence, run in _confirm(program, isolation, limits):
            found.append(evidence)
            runs += [run] if run else []
    proved = [one for one in found if one.proof]
    word = next((one.verdict for one in (*proved, *found) if one.verdict != "unknown"), "unknown")
    return Answer(word, bool(proved), tuple(found), sum(r.steps for r in runs), sum(r.seconds for r in runs))


def _of_prediction(said) -> dict[str, object]:
    return {"frames": list(said.frames), "state": said.state}


def _varies(tree: ast.Module) -> str:
    """What the program asks for that no other run need answer alike; empty if nothing is seen."""
    for node in ast.walk(tree):
        found: list[str] = []
        match node:
            case ast.Import():
                found = [alias.name for alias in node.names if alias.name.partition(".")[0] not in _SAME]
            case ast.ImportFrom():
                found = [node.module or "."] if (node.module or "").partition(".")[0] not in _SAME else []
            case ast.Name(name, ast.Load()):
                found = [name] if name in _VARYING else []
        if found:
            return f"it asks for {found[0]!r} in line {node.lineno}"
    return ""


def _catches(tree: ast.Module) -> str:
    """Where the program may catch that stack or memory ran out: a run with more of them would go on otherwise."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            named = {one.id for one in ast.walk(node.type) if isinstance(one, ast.Name)} if node.type else _EXHAUSTION
            if named & _EXHAUSTION:
                return f"line {node.lineno} may catch that its stack or memory ran out"
    return ""


def _confirm(program: Program, isolation: Isolation, limits: sandbox.Limits) -> Iterator[tuple[Evidence, Run | None]]:
    """What real runs and the prover say, until one of them settles it."""
    if program.outside:
        text = f"no state that comes back is a proof here: {program.outside}"
        yield Evidence("program", "unknown", False, text), None
        doubt = _varies(program.tree) or _catches(program.tree)
        yield _of_run(run := plain_run(program, isolation, limits), doubt), run
        return
    run = watched_run(program, isolation, _FIRST_STEPS, limits)
    yield _of_run(run, ""), run
    if run.outcome == "refused":
        yield _of_run(run := plain_run(program, isolation, limits), ""), run
    if run.outcome != "stopped" or not run.steps:
        return
    for evidence in _proved(program, run):
        yield evidence, None
        if evidence.proof:
            return
    if run.steps >= _FIRST_STEPS:
        yield _of_run(run := watched_run(program, isolation, limits=limits), ""), run


def _of_run(run: Run, doubt: str) -> Evidence:
    details = {name: value for name, value in asdict(run).items() if value and name not in ("seen", "incomparable")}
    if run.ended:
        how = {"raised": f"raised {run.detail}", "exited": f"ended with status {run.detail}"}.get(
            run.outcome, "returned"
        )
        if doubt:
            text = f"a real run {how}, but another may not: {doubt}"
            return Evidence("run", "terminates", False, text, details)
        return Evidence("run", "terminates", True, f"a real run {how} after {run.seconds:.2f} s", details)
    if run.outcome == "recurred":
        text = (
            f"a real run came back to the same complete state at line {run.line}, {run.period} turns of its loop "
            "later: it goes round for ever"
        )
        return Evidence("run", "loops", True, text, details)
    texts = {
        "stopped": f"a real run did not end in {run.seconds:.1f} s"
        + f" ({run.steps:,} turns of loops)" * bool(run.steps),
        "refused": f"what comes next does not follow from the state: it {run.detail}",
        "exhausted": f"a real run ended for want of {'stack' if run.detail == 'RecursionError' else 'memory'}",
        "died": f"a real run died of signal {run.detail}",
        "no entry": f"there is no run: {run.detail}",
    }
    text = texts[run.outcome] + (
        f"; it holds {run.incomparable}, whose state cannot be compared" * bool(run.incomparable)
    )
    return Evidence("run", "unknown", False, text, details)


def _proved(program: Program, run: Run) -> Iterator[Evidence]:
    """What the prover makes of a program of the fragment whose run was stopped."""
    if importlib.util.find_spec("z3") is None:
        text = "z3 is not installed, so no invariant was looked for: pip install z3-solver"
        yield Evidence("prover", "unknown", False, text)
        return
    from cwm_jax.worldmodel.halting.ranking import always_ends
    from cwm_jax.worldmodel.halting.recurrence import loops_of, never_left

    loops = loops_of(program.tree)
    for number, reached in run.seen:
        if isinstance(loop := loops[number], ast.While) and (proof := never_left(loop, reached)):
            text = (
                f"z3: the loop at line {proof.line} is never left, for {' and '.join(proof.invariant) or 'no turn can'}"
            )
            yield Evidence("prover", "loops", True, text, asdict(proof))
            return
    if (rankings := always_ends(program.tree)) is not None:
        falls = [f"at line {one.line} {', then '.join(one.falls) or 'nothing'} falls to a bound" for one in rankings]
        text = f"z3: every loop ends: {'; '.join(falls) or 'all are over something finite'}"
        yield Evidence("prover", "terminates", True, text, {"rankings": [asdict(one) for one in rankings]})
        return
    yield Evidence("prover", "unknown", False, "z3 found neither an invariant that keeps a loop going nor a ranking")
