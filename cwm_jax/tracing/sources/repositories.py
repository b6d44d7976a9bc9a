"""Repositories: episodes cut from what a project's own tests do (CWM paper §2.2).

An episode is the trace of one function of the package. Each call that it makes is *inlined* with the step-in
probability, or *stepped over*: its call frame is answered at once by its return frame. The paper leaves depth, odds
and the gathering of context open; all of it here is our choice.

The context holds the top-level definitions in which the frames lie and what these reach by name in their module, text
untouched: a method brings its whole class. `from __future__` imports stand first, as Python wants them; then, where
frames lie in several modules, the others in the order of their paths, each below a comment that names it; the entry's
module last, as `main` stands last in CWM's prompts. Imports stay as they are, so a context compiles but need not run.
The start marker stands on the line of the entry's `def` itself, below decorators, as in CWM's released debugger;
frames show lines without it.
"""

import ast
import hashlib
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from random import Random

from cwm_jax.repos import Build, Builder, NotBuilt, SuiteLimits, project_name, run_tests
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.language import compress, render, source_line
from cwm_jax.tracing.parts import Found, settings_of
from cwm_jax.tracing.recorder import Limits
from cwm_jax.tracing.recordings import Call, Caps, Code, Recording, record_suite
from cwm_jax.tracing.source import FUNCTIONS, first_line
from cwm_jax.tracing.sources.slices import Module, Unfit, check_plain
from cwm_jax.tracing.store import Stored
from cwm_jax.tracing.trace import START_MARKER, Frame, Trace
from cwm_jax.tracing.verdicts import explain

Shown = list[tuple[Code, Frame]]  # frames, each with the function in which it lies


@dataclass(frozen=True)
class Repositories:
    """Episodes of the functions that a project's tests call.

    Attributes:
      projects: pinned source distributions (`inflection==0.5.1`), folders that pip can install, or commits of a git
        repository (`PATH@REVISION`). What did not change from one commit of a project to the next is a duplicate.
      requirements: what tests need besides; pytest among it.
      caps: bounds on what is recorded; `depth` is also how deep calls are inlined.
      limits: of a run of the tests.
      step_in: probability that a call is inlined. One that raises always is, where the depth allows.
      max_frames: of an episode.
      max_chars: of a context.
      seed: of the draws.
    """

    projects: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ("pytest==9.2.0",)
    caps: Caps = field(default_factory=Caps)
    limits: SuiteLimits = field(default_factory=SuiteLimits)
    step_in: float = 0.5
    max_frames: int = 512
    max_chars: int = 16_000
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.step_in <= 1:
            raise ValueError(f"Repositories.step_in={self.step_in} must be from 0 to 1")

    def parts(self, folder: Path, limit: int | None = None) -> list["EpisodesOfProject"]:
        """One for each project; see `Source`."""
        if not self.projects:
            raise ValueError(
                "Repositories.projects is empty; name at least one, as NAME==VERSION, PATH or PATH@REVISION"
            )
        named = {project_name(project): project for project in self.projects}
        if twice := [project for project in self.projects if named[project_name(project)] != project]:
            raise ValueError(f"Repositories.projects names {twice[0]!r} and another of the same name; rename one")
        builds = Path(folder) / "builds"
        return [EpisodesOfProject(self, named[name], builds / name) for name in list(named)[:limit]]

    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return tuple(f"tests of {project_name(project)}" for project in self.projects)

    def episodes(self, build: Build, dropped: Counter, isolation: Isolation = Isolation.BUBBLEWRAP) -> Iterator[Found]:
        """The episodes of one project, each once.

        The tests run three times: alone, for the verdict, and twice recorded, since a recording may itself disturb
        a test. An episode is kept if both recordings give it; tests that fail while recorded give none.

        Args:
          build: the project.
          dropped: what is left out is counted here, by reason: the project, if it is not green, and episodes. Those
            of a project that is not green are kept all the same: its tests that pass are as good as others.
          isolation: how far to keep the tests from the machine.

        Raises:
          SandboxMissing: the tools for `isolation` are not installed.
        """
        outcome = run_tests(build, self.limits, isolation)
        if outcome.verdict != "green":
            dropped[f"project: {outcome.verdict}"] += 1
        if not outcome.passed:
            return
        again = Counter()
        first = self._distinct(build, dropped, isolation)
        second = self._distinct(build, again, isolation)
        for text, found in first.items():
            if text in second:
                yield found
            else:
                dropped["not the same twice"] += 1

    def _distinct(self, build: Build, dropped: Counter, isolation: Isolation) -> dict[str, Found]:
        """The episodes of one recorded run, by their text."""
        found: dict[str, Found] = {}
        places = [str(build.environment)]
        places += [] if sys.base_prefix.startswith("/usr") else [sys.base_prefix]  # /usr tells nothing of a machine
        for recording in record_suite(build, self.caps, self.limits, isolation)[1]:
            code = recording.calls[0].code
            origin = f"{build.name}/{code.path}:{code.name}"
            try:
                trace = self.cut(recording, Random(f"{self.seed} {recording.test} {origin}"))
                text = render(trace)
                if any(path in text for path in places):
                    raise Unfit("a path of this machine")
            except Unfit as reason:
                dropped[str(reason)] += 1
                continue
            program = hashlib.sha256(origin.encode()).hexdigest()[:16]
            if text in found:
                dropped["a duplicate"] += 1
            own = ast.unparse(_definition(_module(code.text), code))
            found.setdefault(text, Found(Stored("episode", origin, program, trace), own, (text,)))
        return found

    def cut(self, recording: Recording, rng: Random) -> Trace:
        """The episode of one recording.

        Args:
          recording: of the entry.
          rng: decides which calls are inlined.

        Raises:
          Unfit: it gives none; the message is a reason that can be counted.
        """
        if lost := next((call.lost for call in recording.calls if call.lost), ""):
            raise Unfit(lost)
        if not recording.calls[-1].left:
            raise Unfit("a generator that is left suspended")
        shown = [pair for call in recording.calls for pair in self._shown(call, self.caps.depth, rng)]
        if len(shown) > self.max_frames:
            raise Unfit("an episode too long")
        verdict = recording.calls[-1].left
        exceptions = [frame.value for _, frame in shown if frame.event == "exception"]
        reason = explain(verdict, "", Limits(), exceptions=exceptions)
        context, lines = _context(recording.calls[0].code, shown)
        if len(context) > self.max_chars:
            raise Unfit("a context too long")
        return Trace(context, tuple(_frames(shown, context, lines)), True, verdict, reason, recording.python)

    def _shown(self, call: Call, depth: int, rng: Random) -> Iterator[tuple[Code, Frame]]:
        for event in call.events:
            if isinstance(event, Frame):
                yield call.code, event
                continue
            enter = rng.random() < self.step_in or event.left == "raised"
            if enter and depth > 0 and not event.brief:
                yield from self._shown(event, depth - 1, rng)
            else:
                yield from _outline(event)


@dataclass(frozen=True)
class EpisodesOfProject:
    """The episodes of one project, which is built if need be.

    Attributes:
      source: the bounds.
      project: as the source names it.
      folder: of the build.
    """

    source: Repositories
    project: str
    folder: Path

    @property
    def mark(self) -> str:
        return f"{settings_of(self.source, 'projects')} {self.project}"

    def record(self, isolation: Isolation, dropped: Counter) -> Iterator[Found]:
        """Its episodes; see `Part`."""
        try:
            build = Builder(self.source.requirements).build(self.project, self.folder)
        except NotBuilt as reason:
            dropped[f"project: {reason}"] += 1
            return
        yield from self.source.episodes(build, dropped, isolation)


def _outline(call: Call) -> Iterator[tuple[Code, Frame]]:
    """A call that is stepped over: its call and return, and between them the exception that ends it."""
    frames = [event for event in call.events if isinstance(event, Frame)]
    middle = [frame for frame in frames[-2:-1] if call.left == "raised" and frame.event == "exception"]
    yield from ((call.code, frame) for frame in (frames[0], *middle, frames[-1]))


def _frames(shown: Shown, context: str, lines: dict[tuple[str, int], int]) -> Iterator[Frame]:
    """The frames as the text shows them: lines of the context, and `..` by what precedes in this episode."""
    texts = context.split("\n")
    baseline: dict[str, str] | None = None
    for code, frame in shown:
        line = lines[code.path, frame.line]
        frame = replace(frame, source=source_line(texts[line - 1]), line=line)
        if frame.locals is None:
            yield frame
            baseline = None
        else:
            state = dict(frame.locals)
            yield replace(frame, locals=compress(state, None if frame.event == "call" else baseline))
            baseline = state


def _context(entry: Code, shown: Shown) -> tuple[str, dict[tuple[str, int], int]]:
    """The context of an episode, and for each line of a module the line there.

    Raises:
      Unfit: it does not compile, or could be mistaken for a trace.
    """
    needed: dict[str, set[int]] = {}
    modules = {code.path: _module(code.text) for code, _ in shown}
    for code, frame in shown:
        needed.setdefault(code.path, set()).add(frame.line)
    order = sorted(needed, key=lambda path: (path == entry.path, path))
    texts = list(dict.fromkeys(text for path in order for text in modules[path].future()))
    lines: dict[tuple[str, int], int] = {}
    for path in order:
        texts += [""] if texts else []
        texts += [f"# {path}"] if len(order) > 1 else []
        before = None
        for line, text in modules[path].excerpt(sorted(needed[path])).items():
            if before is not None and line != before + 1:
                texts.append("")  # statements that were left out between them
            texts.append(text)
            lines[path, line] = len(texts)
            before = line
    plain = "\n".join([*texts, ""])
    check_plain(plain)
    texts[lines[entry.path, _definition(modules[entry.path], entry).lineno] - 1] += START_MARKER
    context = "\n".join([*texts, ""])
    if _meaning(context) != _meaning(plain):
        raise Unfit("a def line that cannot carry the start marker")
    return context, lines


@lru_cache(64)
def _module(text: str) -> Module:
    return Module(text)


def _definition(module: Module, code: Code) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The `def` of a function, which its code counts from the first decorator."""
    for node in ast.walk(module.tree):
        if isinstance(node, FUNCTIONS) and first_line(node) == code.first_line and code.name.endswith(node.name):
            return node
    raise Unfit("a function without a def line")


def _meaning(context: str) -> str:
    """What the context says to Python; comments do not count."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(context, "<context>", "exec", dont_inherit=True)
            return ast.dump(ast.parse(context))
    except (SyntaxError, ValueError, RecursionError):
        raise Unfit("a context that does not compile") from None
