"""Runs a project's tests: the script that runs in the sandbox, in the project's own environment.

Arguments: the file descriptor of the report, the seconds of one test, the project, the file of a plugin or "", and
arguments of pytest. The report has one line of JSON for each test, `[name, outcome, detail]`, and before them one of
the outcome `collected`, whose detail is how many there are to be: code that is tested may end the run.
"""

import importlib.util
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

# Our choice: a project's own options are left out, since they ask for plugins (coverage, xdist) that are not here.
_OPTIONS = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", "--continue-on-collection-errors"]


class Report:
    """Writes down how each test ends, and ends those that take too long."""

    def __init__(self, file: int, seconds: float):
        self._file, self._seconds = file, seconds
        self._late = False
        signal.signal(signal.SIGALRM, self._on_alarm)

    def _on_alarm(self, *_) -> None:
        self._late = True
        pytest.fail(f"it took more than {self._seconds} seconds", pytrace=False)

    def _timed(self, item):
        self._late = False
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        yield
        signal.setitimer(signal.ITIMER_REAL, 0)

    pytest_runtest_setup = pytest.hookimpl(hookwrapper=True)(_timed)
    pytest_runtest_call = pytest.hookimpl(hookwrapper=True, tryfirst=True)(_timed)
    pytest_runtest_teardown = pytest.hookimpl(hookwrapper=True)(_timed)

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.outcome != "passed":
            outcome = "hung" if report.failed and self._late else report.outcome
            self._write(report.nodeid, outcome, report.longreprtext)

    def pytest_collection_finish(self, session) -> None:
        self._write("", "collected", str(len({item.nodeid for item in session.items})))

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self._write(report.nodeid, "not collected", report.longreprtext)

    def _write(self, name: str, outcome: str, text: str) -> None:
        detail = text.strip().splitlines()[-1] if outcome != "passed" and text.strip() else ""
        os.write(self._file, json.dumps([name, outcome, detail[:1000]]).encode() + b"\n")


def load(path: str):
    """The plugin in a file; what it imports from beside it stays out of the project's way."""
    folder = os.path.dirname(path)
    sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location("_plugin", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(folder)
    for name, other in list(sys.modules.items()):
        if (getattr(other, "__file__", None) or "").startswith(folder + os.sep):
            del sys.modules[name]
    return module


def main() -> None:
    report, seconds, source, plugin, *options = sys.argv[1:]
    shutil.copytree(source, "project", symlinks=True)
    os.chdir("project")
    sys.path[0] = os.getcwd()  # as `python -m pytest` has it
    sys.argv[1:] = []
    plugins = [Report(int(report), float(seconds))]
    plugins += [load(plugin)] if plugin else []
    status = pytest.main([*_OPTIONS, *options, str(Path.cwd())], plugins=plugins)
    os._exit(int(status))  # threads that tests left behind do not hold it up


main()
