"""The corpus of a run: which programs are made and recorded, and which are kept apart for tests.

Splits are by program: no test program's normalised syntax tree occurs in the training set.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType
from typing import NamedTuple

from cwm_jax.files import write_whole
from cwm_jax.tracing import Isolation, Limits, Trace, record_many, render
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.episodes import step_over
from cwm_jax.tracing.quality.contamination import Benchmark, Decontamination, decontamination
from cwm_jax.tracing.sources import composed, methods, strawberry
from cwm_jax.tracing.sources.program import Program, fingerprint
from cwm_jax.tracing.sources.renaming import renamed

FAMILIES: dict[str, ModuleType] = {one.FAMILY: one for one in (strawberry, composed, methods)}
TESTS = "tests"  # the folder of the test sets beside rows and in the data of a run
TEST_SETS = ("new_inputs", "new_programs", "composed", "human_written", "strawberry")
_MOST_LINES = 20  # of a program; longer ones are dropped
_TEST_SEEDS = 10**9  # training seeds lie below
_HUMAN = Path("experiments/tiny/human")  # programs written by hand, for testing only
_EXAMPLE = Path("experiments/tiny/strawberry.py")  # the program shown first, kept out of training


@dataclass(frozen=True)
class CorpusConfig:
    """Programs to record.

    Attributes:
      strawberry, composed, methods: training programs drawn from each family (some are dropped, see the manifest).
      inputs: argument lists a program is run on.
      step_over: share of traces that also give a step-over episode.
      renamed: share of training programs whose names are replaced by others; those of test programs are never.
      max_frames: longer traces are dropped.
      tests: programs in each generated test set.
      shards: files that recording is cut into.
      seed: of everything.
    """

    strawberry: int = 20_000
    composed: int = 20_000
    methods: int = 0
    inputs: int = 2
    step_over: float = 0.1
    renamed: float = 0.0
    max_frames: int = 64
    tests: int = 240
    shards: int = 40
    seed: int = 0

    def __post_init__(self):
        if self.shards < 1 or self.inputs < 1:
            raise ValueError(f"CorpusConfig.shards={self.shards} and inputs={self.inputs} must be at least 1")
        if not 0 <= self.renamed <= 1:
            raise ValueError(f"CorpusConfig.renamed={self.renamed} must be from 0 to 1")


class Episode(NamedTuple):
    """One thing to learn: pieces (control symbols and plain text) of the context and of the frames.

    `source` is the context as it was run; `forced` holds the indices of frame pieces that are given, not predicted:
    the events that
    tell a step-over from a step-in.
    """

    source: str
    context: list[str]
    frames: list[str]
    forced: list[int]

    def segments(self, context_weight: float) -> list[tuple[str, float]]:
        """The pieces, each with its loss weight: that of the context as given, of frames 1, of what is forced 0."""
        forced = set(self.forced)
        context = [(piece, context_weight) for piece in self.context]
        return context + [(piece, float(index not in forced)) for index, piece in enumerate(self.frames)]


@dataclass
class Shard:
    """What one shard of recording came to."""

    python: str = ""
    programs: dict[str, int] = field(default_factory=Counter)
    dropped: dict[str, int] = field(default_factory=Counter)
    episodes: list[Episode] = field(default_factory=list)


class HeldOut(NamedTuple):
    """What training must not see.

    Attributes:
      programs: fingerprints of test programs.
      inputs: `(fingerprint, arguments)` of runs that are tests, of programs that are otherwise learnt.
      benchmarks: the programs of benchmarks.
    """

    programs: frozenset[str]
    inputs: frozenset[tuple[str, str]] = frozenset()
    benchmarks: Decontamination = Decontamination()

    def reason(self, mark: str, code: str) -> str:
        """Why a program of this fingerprint, or a context that holds it, is not learnt; empty if it may be."""
        if mark in self.programs:
            return "in a test set"
        name = self.benchmarks.benchmark_in(code)
        return f"of a benchmark: {name}" if name else ""


def shard_path(folder: Path, shard: int) -> Path:
    return Path(folder) / "shards" / f"{shard:04d}.json.gz"


def read_shard(path: Path) -> Shard:
    with gzip.open(path, "rt") as file:
        fields = json.load(file)
    fields["episodes"] = [Episode(*episode) for episode in fields["episodes"]]
    return Shard(**fields)


def write_shard(shard: Shard, path: Path) -> None:
    write_whole(path, gzip.compress(json.dumps(vars(shard)).encode(), compresslevel=1, mtime=0))


def record_shard(config: CorpusConfig, form: Compact, shard: int, folder: Path, held_out: HeldOut) -> None:
    """Records the programs of one shard and writes its file; what that holds is a function of the arguments alone."""
    result = Shard()
    rng = Random(f"{config.seed} episodes {shard}")
    runs = list(_training_runs(config, shard, held_out, result))
    for program, trace in zip(runs, record_many([run[1] for run in runs], isolation=Isolation.LIMITS_ONLY)):
        result.python = trace.python
        if reason := _unfit(config, trace):
            result.dropped[reason] += 1
            continue
        result.programs[program[0].family] += 1
        context = form.context(trace.context)
        result.episodes.append(episode_of(form, context, trace))
        if rng.random() < config.step_over:
            result.episodes.append(episode_of(form, context, step_over(trace, rng), over=True))
    write_shard(result, shard_path(folder, shard))


def episode_of(form: Compact, context: list[str], trace: Trace, over: bool = False) -> Episode:
    """A trace told in `form`; `over`: it steps over calls, where a return directly after its call is given."""
    pieces = form.frames(trace)
    events = form.event_indices(pieces)
    skipped = [
        events[index]
        for index in range(1, len(trace.frames))
        if over and (trace.frames[index - 1].event, trace.frames[index].event) == ("call", "return")
    ]
    return Episode(trace.context, context, pieces, skipped)


def _unfit(config: CorpusConfig, trace: Trace) -> str:
    if trace.verdict != "returned":
        return trace.verdict
    return "too many frames" if len(trace.frames) > config.max_frames else ""


def _programs(config: CorpusConfig, family: str, first: int, last: int, inputs: int) -> Iterator[Program]:
    for index in range(first, last):
        yield FAMILIES[family].generate(Random(f"{config.seed} {family} {index}"), inputs)


def _fits(program: Program) -> bool:
    return program.code.count("\n") < _MOST_LINES


def _training_runs(config, shard, held_out, result) -> Iterator[tuple[Program, str]]:
    for family in FAMILIES:
        total = getattr(config, family)
        first, last = total * shard // config.shards, total * (shard + 1) // config.shards
        for index, program in enumerate(_programs(config, family, first, last, config.inputs + 1), start=first):
            mark, names = program.fingerprint, Random(f"{config.seed} names {family} {index}")
            if names.random() < config.renamed:
                program = renamed(program, names)
            if reason := held_out.reason(mark, program.code):
                result.dropped[reason] += 1
            elif not _fits(program):
                result.dropped["too many lines"] += 1
            else:
                runs = list(zip(program.inputs, program.contexts()))
                seen = [run for run in runs if (mark, run[0]) not in held_out.inputs]
                yield from ((program, context) for _, context in seen[: config.inputs])


def test_contexts(config: CorpusConfig) -> dict[str, list[tuple[str, str]]]:
    """`(name, context)` of every test program, by set. Deterministic; nothing is run."""
    sets: dict[str, list[tuple[str, str]]] = {name: [] for name in TEST_SETS}
    families = {"new_programs": "strawberry", "composed": "composed"}
    if config.methods:
        families["methods"] = "methods"
        sets["methods"] = []
    for name, family in families.items():
        for index, program in _distinct(config, family, _TEST_SEEDS):
            sets[name].append((f"{family} {index}", program.contexts()[0]))
    for index, program in _distinct(config, "strawberry", 0, config.inputs + 1):
        if len(program.inputs) > config.inputs:
            sets["new_inputs"].append((f"strawberry {index}", program.contexts()[-1]))
    for path in sorted(_HUMAN.glob("*.py")):
        sets["human_written"].append((path.stem, path.read_text()))
    sets["strawberry"].append(("strawberry", _EXAMPLE.read_text()))
    return sets


def _distinct(config: CorpusConfig, family: str, first: int, inputs: int = 1) -> Iterator[tuple[int, Program]]:
    """`config.tests` programs from seed `first` on, no two with one fingerprint; a quarter more, for those unfit."""
    seen: set[str] = set()
    for index in range(first, first + 4 * config.tests):
        (program,) = _programs(config, family, index, index + 1, inputs)
        if program.fingerprint not in seen and _fits(program) and len(seen) < config.tests * 5 // 4:
            seen.add(program.fingerprint)
            yield index, program


def held_out(config: CorpusConfig, benchmarks: tuple[Benchmark, ...] = ()) -> HeldOut:
    """What the test sets, and benchmarks, forbid training to see."""
    sets = test_contexts(config)
    programs = {fingerprint(context) for name in sets if name != "new_inputs" for _, context in sets[name]}
    inputs = set()
    for _, program in _distinct(config, "strawberry", 0, config.inputs + 1):
        if len(program.inputs) > config.inputs:
            inputs.add((program.fingerprint, program.inputs[-1]))
    return HeldOut(frozenset(programs), frozenset(inputs), decontamination(benchmarks))


def copy_tests(folder: Path, to: Path) -> None:
    """Makes the test sets of one folder, if it has any, those of another."""
    for path in (Path(to) / TESTS).glob("*.jsonl"):
        if not (Path(folder) / TESTS / path.name).exists():
            path.unlink()
    for path in sorted((Path(folder) / TESTS).glob("*.jsonl")):
        write_whole(Path(to) / TESTS / path.name, path.read_bytes())


def write_tests(config: CorpusConfig, folder: Path) -> dict[str, int]:
    """Records the test sets into `folder/tests/SET.jsonl` (name, context, text); items per set."""
    counts = {}
    for name, named in test_contexts(config).items():
        path = Path(folder) / TESTS / f"{name}.jsonl"
        limits = Limits(max_frames=max(1000, config.max_frames))
        by_hand = name in ("human_written", "strawberry")
        items = []
        for (label, context), trace in zip(named, record_many([c for _, c in named], limits, Isolation.LIMITS_ONLY)):
            if by_hand and not trace.complete:
                raise ValueError(f"test program {label} does not run to its end: {trace.verdict} {trace.reason}")
            if by_hand or (not _unfit(config, trace) and len(items) < config.tests):
                items.append({"name": label, "context": context, "text": render(trace)})
        write_whole(path, "".join(json.dumps(item) + "\n" for item in items))
        counts[name] = len(items)
    return counts
