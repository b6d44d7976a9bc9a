"""T12, as far as suites go: code that ends its tests early, and says that all is well, is not green."""

import pytest
from tiny_project import FILES

from cwm_jax.repos import SuiteLimits, run_tests

LIMITS = SuiteLimits(wall_seconds=30, test_seconds=5.0)
FIRST = "def test_a(): pass\n"
ENDINGS = {
    "exit": "import sys\ndef test_b(): sys.exit(0)",
    "exit at once": "import os\ndef test_b(): os._exit(0)",
    "exit when it is imported": "import os\nos._exit(0)",
    "pytest's exit": "import pytest\ndef test_b(): pytest.exit('done', returncode=0)",
    "another thread": (
        "import os, threading, time\n"
        "def test_b():\n    threading.Thread(target=os._exit, args=(0,)).start()\n    time.sleep(3)"
    ),
    "at the exit of a failure": "import atexit, os\natexit.register(os._exit, 0)\ndef test_b(): assert False",
    "another program": "import os\ndef test_b(): os.execv('/bin/true', ['true'])",
    "a signal": (
        "import os, signal\ndef test_b():\n    signal.signal(15, lambda *_: os._exit(0))\n    os.kill(os.getpid(), 15)"
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_whoever_ends_early_is_not_green(tiny, ending):
    outcome = run_tests(tiny.build(test_1=FIRST, test_2=ENDINGS[ending], test_3=FIRST), LIMITS)
    assert outcome.verdict != "green" and outcome.detail, outcome


def test_the_tests_themselves_are_as_they_were(tiny):
    outcome = run_tests(tiny.build(test_1=FIRST, test_good=FILES["tests/test_good.py"]), LIMITS)
    assert outcome.verdict == "green"
