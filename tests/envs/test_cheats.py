"""T12, as far as there are no repositories: whatever an agent leaves behind in its shell, a wrong solution fails.

And what it is not to know, it does not find: the hidden tests are nowhere where it or its solution can look.
"""

import json
import shlex

import pytest
from test_bash import ANSWER, bash, opened, play, task

from cwm_jax.text import special_tokens
from cwm_jax.text.chat import REASONING
from cwm_jax.text.vocabulary import train_vocabulary

SECRET = "8191"
ECHO = {
    "name": "echo", "statement": "Say what you read.", "examples": 1, "files": {"README": "Hello.\n"},
    "tests": [{"stdin": "1\n", "stdout": "1\n"}, {"stdin": f"{SECRET}\n", "stdout": f"{SECRET}-{SECRET}\n"}],
}  # fmt: skip
WRONG = "print('wrong')"
# Prints what it is to print, were it ever imported, loaded or called by what judges.
FORGED = f"print('1'); print('{SECRET}-{SECRET}'); import os; os._exit(0)"
SITE = "$(python3 -c 'import site; print(site.getusersitepackages())')"
LEFT_BEHIND = {
    "sitecustomize": (
        f"mkdir -p {SITE} && echo {shlex.quote(FORGED)} | tee {SITE}/sitecustomize.py {SITE}/usercustomize.py"
    ),
    "a path file": f"mkdir -p {SITE} && echo {shlex.quote(f'import sys; exec({FORGED!r})')} > {SITE}/forged.pth",
    "modules of the judge": f"for name in json sys os io builtins; do echo {shlex.quote(FORGED)} > $name.py; done",
    "tests of its own": f"echo {shlex.quote(FORGED)} | tee conftest.py test_echo.py pytest.py solution.py",
    "other examples": "echo wrong | tee examples/1.out; rm -f examples/1.in",
    "startup files": (
        "echo 'echo 1; exit 0' | tee ~/.bashrc ~/.profile ~/.bash_profile; export ENV=~/.bashrc BASH_ENV=~/.bashrc"
    ),
    "variables": (
        f"echo {shlex.quote(FORGED)} > forged.py; export PYTHONSTARTUP=$PWD/forged.py PYTHONPATH=$PWD PYTHONINSPECT=1"
    ),
    "a program in the way": (
        "mkdir -p ~/bin; printf '#!/bin/sh\\necho 1\\n' | tee ~/bin/python3 ~/bin/python ~/bin/g++; chmod +x ~/bin/*; "
        "export PATH=~/bin:$PATH; for folder in /usr/local/bin /usr/bin /bin; do cp ~/bin/python3 $folder/python3; done"
    ),
    "somebody who waits": (
        "(while true; do for file in /tmp/*/solution.py /tmp/solution.py; do echo 'print(1)' > $file; done; done) "
        ">/dev/null 2>&1 & disown"
    ),
    "files that are shared": "for folder in /tmp /dev/shm /var/tmp /run; do echo 1 > $folder/solution.py; done",
}


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary([REASONING] * 3, 500, [*special_tokens.CWM_IDS])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    path.write_text(json.dumps(ECHO))
    return str(path)


@pytest.mark.parametrize("trace", LEFT_BEHIND)
def test_what_is_left_behind_does_not_help(path, vocabulary, trace):
    env = opened(path, vocabulary)
    texts = [bash(LEFT_BEHIND[trace]), ANSWER.format(code=WRONG)]
    _, said = play(env, vocabulary, task(env, "echo/python"), texts)
    assert said.over and said.status == "ok" and (said.outcomes["pass"], said.outcomes["score"]) == (0, 0)
    assert said.outcomes["compile"] == 1 and said.outcomes["tools"] == 1


LOOK = f"""import glob, os
found = []
for place in ("/proc/*/environ", "/proc/*/cmdline", "/proc/*/fd/*", "/tmp/**", "/dev/shm/**", "/var/tmp/**", "/run/**",
              os.path.expanduser("~/**"), "./**"):
    for file in glob.iglob(place, recursive=True):
        try:
            if os.path.isfile(file) and ("{SECRET}" + "-").encode() in open(file, "rb").read(1 << 20):
                found.append(file)
        except OSError:
            pass
"""


def test_hidden_tests_are_not_to_be_found(path, vocabulary):
    """Neither by the agent in its shell, which is shown the example, nor by its solution, which has its input alone."""
    env = opened(path, vocabulary)
    looking = LOOK.replace(f'"{SECRET}" + "-"', f'"{SECRET[::-1]}"[::-1] + "-"')  # else it finds itself
    peeking = looking + "import sys\nprint(input() if not found else sys.exit(str(found)))"
    heard, said = play(env, vocabulary, task(env, "echo/python"), [
        bash(f"cat > look.py <<'END'\n{looking}print('found', found)\nEND\npython3 look.py; cat examples/*; "
                 f"printf '%s-' {SECRET} > planted; python3 look.py"),
        ANSWER.format(code=peeking),
    ])  # fmt: skip
    assert "found []\n1\n1\nfound ['/sandbox/planted', './planted']\n" in heard[1]
    assert said.outcomes["score"] == 0.5, said.info  # it looked in both tests, and passed the one that it may


@pytest.mark.parametrize("code", [
    "import sys; sys.stdout.write = print; print(input())",
    "class Any(str):\n    __eq__ = lambda *_: True\n    __hash__ = str.__hash__\nprint(Any())",
    "import builtins; builtins.len = lambda *_: 0; print(input())",
    "import os\nfor fd in range(3, 256):\n    try: os.write(fd, b'1\\n')\n    except OSError: pass\nprint(input())",
    "import os\nfor fd in range(3, 256):\n    try: print(os.pread(fd, 4096, 0))\n    except OSError: pass",
    "import ctypes, os\nopen(f'/proc/{os.getppid()}/mem', 'wb').write(b'1')",
    "import subprocess; print(subprocess.run(['ps', 'auxe'], capture_output=True, text=True).stdout)",
])  # fmt: skip
def test_solutions_that_reach_for_the_judge_pass_no_hidden_test(path, vocabulary, code):
    env = opened(path, vocabulary)
    _, said = play(env, vocabulary, task(env, "echo/python"), [ANSWER.format(code=code)])
    assert said.over and said.status == "ok" and said.outcomes["pass"] == 0 and said.outcomes["score"] <= 0.5
