"""Runs a built project's tests inside the sandbox and says whether they are green, or why not."""

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cwm_jax import sandbox
from cwm_jax.repos.build import Build
from cwm_jax.sandbox import Isolation

_INSIDE = Path(__file__).parent / "inside.py"
_NOTHING_COLLECTED = 5  # an exit status of pytest's
_DETAIL = 300  # characters that are kept of what went wrong


@dataclass(frozen=True)
class SuiteLimits(sandbox.Limits):
    """What the tests of a project may use up.

    Attributes:
      test_seconds: time on the clock of one test; it then fails, and the rest goes on. A test that cannot be
        interrupted runs into `wall_seconds`, with which the run ends.
    """

    wall_seconds: float = 600.0
    cpu_seconds: int = 600
    memory_mb: int = 2048
    processes: int = 256
    file_mb: int = 256
    test_seconds: float = 20.0


@dataclass(frozen=True)
class Outcome:
    """How the tests of a project went.

    Attributes:
      verdict: `green`, `no tests`, `tests hang`, `tests fail`, `tests cannot be collected` or `the run died`.
      detail: the first thing that went wrong, for people.
      passed: names of the tests that passed.
      failed: what the others had to say, by name.
      skipped: how many did not run.
      seconds: of the whole run.
    """

    verdict: str
    detail: str
    passed: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    skipped: int = 0
    seconds: float = 0.0


def run_tests(
    build: Build,
    limits: SuiteLimits = SuiteLimits(),
    isolation: Isolation = Isolation.BUBBLEWRAP,
    *,
    plugin: Path | None = None,
    options: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
) -> Outcome:
    """Runs the tests on a throw-away copy of the project: no network, and an environment that is read-only.

    Args:
      build: the project.
      limits: caps on the run.
      isolation: how far to keep it from the machine.
      plugin: file of a pytest plugin that is loaded too; it may import what lies beside it.
      options: further arguments of pytest.
      pass_fds: stay open in the process, for the plugin to write to.

    Raises:
      SandboxMissing: the tools for `isolation` are not installed.
    """
    started = time.monotonic()
    with closing(os.fdopen(os.memfd_create("report"), "rb")) as report:
        words = [str(report.fileno()), str(limits.test_seconds), str(build.source), str(plugin or ""), *options]
        readable = [sys.base_prefix, str(build.environment), str(build.source), str(_INSIDE)]
        readable += [str(plugin.parent)] if plugin else []
        argv = [str(build.python), "-s", str(_INSIDE), *words]
        fds = (report.fileno(), *pass_fds)
        with sandbox.Process(argv, limits, isolation, readable=readable, pass_fds=fds) as process:
            status = process.wait(limits.wall_seconds)
            process.kill()
            errors = process.errors()
        report.seek(0)
        entries = list(_entries(report))
    return _outcome(entries, status, errors, time.monotonic() - started)


def _entries(report: Iterable[bytes]) -> Iterable[tuple[str, str, str]]:
    """`(test, outcome, detail)` of every test; lines that are none, which tests may have written, are skipped."""
    for line in report:
        try:
            test, outcome, detail = json.loads(line)
            yield str(test), str(outcome), str(detail)[:_DETAIL]
        except (ValueError, TypeError):
            continue


def _outcome(entries: list[tuple[str, str, str]], status: int | None, errors: str, seconds: float) -> Outcome:
    by = {kind: {test: detail for test, kept, detail in entries if kept == kind}
          for kind in ("passed", "failed", "hung", "skipped", "not collected")}  # fmt: skip
    failed = by["not collected"] | by["failed"] | by["hung"]
    passed = tuple(test for test in by["passed"] if test not in failed)  # its teardown may fail after it
    collected = next((int(detail) for _, kind, detail in entries if kind == "collected"), None)
    early = collected is None or len({*by["passed"], *failed, *by["skipped"]}) < collected
    detail = next((f"{test}: {what}" for test, what in failed.items()), errors[-_DETAIL:])
    if status is None:
        verdict, detail = "tests hang", f"the run took more than its time; last: {entries[-1][0] if entries else ''}"
    elif by["failed"]:
        verdict = "tests fail"
    elif by["not collected"]:
        verdict = "tests fail" if passed else "tests cannot be collected"
    elif by["hung"]:
        verdict = "tests hang"
    elif status == 0 and early:
        verdict, detail = "the run died", "it ended, with status 0, before all tests had run"
    elif status == _NOTHING_COLLECTED or (status == 0 and not passed):
        verdict, detail = "no tests", "pytest finds none, or skips them all"
    else:
        verdict, detail = ("green", "") if status == 0 else ("the run died", detail or f"exit status {status}")
    return Outcome(verdict, detail, passed, failed, len(by["skipped"]), seconds)
