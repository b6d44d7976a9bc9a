"""The `trace` verb, as a shell sees it: what is printed where, and the exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cwm_jax.tracing import parse, record, render

ROOT = Path(__file__).parents[2]
CALL = "import sys; from cwm_jax.tracing.cli import main; sys.exit(main(sys.argv[1:]))"
MARKED = "\ndef f(c):  # << START_OF_TRACE\n    print('noise')\n    return c\ndef main():\n    return 1\nf('é')\n\n"
PLAIN = "def f(a, b='x'):\n    return a, b\n\nasync def g(n):\n    return n\n\nmain = 5\n\n\n"


def trace(*words: object, **environment: str) -> subprocess.CompletedProcess:
    env = {"PATH": "/usr/bin:/bin:/usr/local/bin", **environment}
    return subprocess.run(
        [sys.executable, "-c", CALL, *map(str, words)], cwd=ROOT, capture_output=True, env=env, timeout=60
    )


@pytest.fixture
def marked(tmp_path):
    path = tmp_path / "marked.py"
    path.write_bytes(MARKED.encode())
    return path


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.py"
    path.write_bytes(PLAIN.encode())
    return path


@pytest.mark.parametrize("words", [[], ["--unsafe"]])
def test_a_marked_file_is_its_own_context_byte_for_byte(marked, words):
    done = trace(marked, *words, LANG="C")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert text.startswith("<|begin_of_text|><|trace_context_start|>" + MARKED + "<|frame_sep|>")
    assert text.endswith("<|end_of_text|>")
    assert text == render(record(MARKED)) and parse(text).context == MARKED


def test_a_function_gets_the_wrapper(plain):
    done = trace(f"{plain}:f", "--args", "1, b='a'")
    assert done.returncode == 0
    found = parse(done.stdout.decode())
    wrapper = "def start():  # << START_OF_TRACE\n    return f(1, b='a')\n"  # `main` is taken in that file
    assert found.context == "\n" + PLAIN.rstrip("\n") + "\n" + wrapper
    assert found.frames[-1].value == "(1, 'a')"
    assert parse(trace(f"{plain}:g", "--args", "3").stdout.decode()).frames[-1].value == "3"


def test_the_wrapper_is_the_one_of_cruxeval(tmp_path):
    path = tmp_path / "a:b.py"
    path.write_text("def f(x):\n    return x")
    found = parse(trace(f"{path}:f", "--args", "[1]").stdout.decode())
    assert found.context == "\ndef f(x):\n    return x\ndef main():  # << START_OF_TRACE\n    return f([1])\n"


def test_json_holds_everything(marked):
    done = trace(marked, "--format", "json")
    found = json.loads(done.stdout)
    assert list(found) == ["verdict", "reason", "python", "context", "frames", "text"]
    assert (found["verdict"], found["reason"], found["context"]) == ("returned", "", MARKED)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["frames"][0] == {"event": "call", "line": 2, "source": "def f(c):\n", "locals": {"c": "'é'"}}
    assert found["frames"][-1] == {"event": "return", "line": 4, "source": "    return c\n", "value": "'é'"}
    assert found["text"] == render(record(MARKED))


def test_html_is_one_page(marked):
    done = trace(marked, "--format", "html")
    assert done.returncode == 0
    page = done.stdout.decode()
    assert page.lstrip().lower().startswith("<!doctype html>") and page.count("<html") == 1
    assert "return c" in page


def test_what_is_cut_short_is_printed_and_explained_beside(plain):
    done = trace(f"{plain}:f", "--args", "1", "--limit", "max_frames=2")
    assert done.returncode == 3
    assert len(parse(done.stdout.decode()).frames) == 2
    assert done.stderr.decode().startswith("trace: frame_limit: the run has more than 2 frames")
    raised = trace(f"{plain}:f", "--args", "")
    assert raised.returncode == 0 and b"TypeError" in raised.stdout, "raising is an ordinary end"


@pytest.mark.parametrize(("target", "words", "message"), [
    ("{plain}", [], "has no start marker"),
    ("{plain}:h", [], "no function 'h' at its top level; the names there: f, g, main"),
    ("{plain}:f", ["--args", "1)+(2"], "no argument list"),
    ("{plain}:f", ["--args", "1,,"], "no argument list"),
    ("{marked}", ["--args", "1"], "--args goes with"),
    ("{marked}:f", [], "carries a start marker already"),
    ("{plain}x", [], "No such file"),
    ("{plain}:f", ["--limit", "frames=3"], "there is no limit 'frames'"),
    ("{plain}:f", ["--limit", "max_frames=many"], "'many' is no int"),
    ("{plain}:f", ["--limit", "max_frames=0"], "max_frames=0"),
    ("{plain}:f", ["--args", "'<|frame_sep|>'"], "control token"),
    ("{plain}:f", ["--format", "xml"], "invalid choice"),
])  # fmt: skip
def test_a_bad_call_says_what_to_write_instead(plain, marked, target, words, message):
    done = trace(target.format(plain=plain, marked=marked), *words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert message in done.stderr.decode() and "Traceback" not in done.stderr.decode()


def test_text_that_is_not_utf_8_is_a_bad_call(tmp_path):
    path = tmp_path / "latin.py"
    path.write_bytes(b"# \xe9\ndef main():  # << START_OF_TRACE\n    pass\n")
    done = trace(path)
    assert done.returncode == 2 and "not UTF-8" in done.stderr.decode()


def test_without_bubblewrap_a_program_is_refused_unless_unsafe(marked, tmp_path):
    for tool in ("setpriv", "prlimit"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    refused = trace(marked, PATH=str(tmp_path))
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert "apt-get install bubblewrap" in refused.stderr.decode()
    assert trace(marked, "--unsafe", PATH=str(tmp_path)).returncode == 0
