"""Standard input and output of recorded programs: their own, whole, and as `python program.py` has them."""

import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.tracing import Isolation, Job, Limits, record, record_many, render

TRUSTED = Isolation.LIMITS_ONLY
SHORT = Limits(wall_seconds=1.5, max_frames=500)
READERS = {
    "input": "try:\n    while True: print(repr(input('? ')))\nexcept EOFError:\n    print('end')\n",
    "read": "import sys\nprint(repr(sys.stdin.read()), repr(sys.stdin.read()))\n",
    "readline": "import sys\nwhile line := sys.stdin.readline(): print(repr(line))\nprint([sys.stdin.readline()])\n",
    "buffer": "import sys\nprint(sys.stdin.buffer.readline(), sys.stdin.buffer.read(), sys.stdin.buffer.read())\n",
    "iteration": "import sys\nfor line in sys.stdin: print(repr(line))\nprint(list(sys.stdin))\n",
    "open": "with open(0) as file: print(file.readlines())\n",
    "descriptor": "import os\nprint(os.read(0, 3), os.read(0, 99999), os.read(0, 3))\n",
    "streams": "import sys\nprint(sys.stdin, sys.stdout, sys.stdin.isatty(), sys.__stdin__.read())\n",
    "output": "import sys\nprint(sys.stdin.readline())\nsys.stdout.buffer.write(b'\\xff\\0')\nprint('\\r\\n')\n",
}


def main(body: str) -> str:
    return "def main():  # << START_OF_TRACE\n" + textwrap.indent(body, "    ") + "\n"


def plain(body: str, stdin: str) -> str:
    """What the program prints when Python runs it, its input and output redirected."""
    words = [sys.executable, "-c", body]
    environment = {"LANG": "C.UTF-8"}
    run = subprocess.run(words, input=stdin.encode(), capture_output=True, env=environment, check=True, timeout=20)
    return run.stdout.decode("utf-8", "replace")


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=8, deadline=None)
@given(stdins=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3))
def test_every_way_to_read_gives_what_it_gives_under_plain_python(reader, stdins):
    jobs = [Job(main(READERS[reader]), stdin) for stdin in [*stdins, "a\r\nå\r\x1a\0b\u2028\n\nno end"]]
    for job, trace in zip(jobs, record_many(jobs, isolation=TRUSTED)):
        assert trace.verdict == "returned", trace.reason
        assert trace.stdout == plain(READERS[reader], job.stdin)


@pytest.mark.parametrize("isolation", Isolation)
def test_each_program_reads_its_own_input_and_a_bare_context_an_empty_one(isolation):
    context = main("import sys\nprint(text := sys.stdin.read())\nreturn text")
    long = "x" * 3_000_000
    traces = list(record_many([Job(context, "first\n"), context, Job(context, "né"), Job(context, long)],
                              Limits(max_value_chars=4_000_000, max_trace_chars=20_000_000), isolation))  # fmt: skip
    assert [trace.frames[-1].value for trace in traces] == ["'first\\n'", "''", "'né'", repr(long)]
    assert [trace.stdout for trace in traces] == ["first\n\n", "\n", "né\n", "x" * 65_536]
    assert record(context, isolation=isolation, stdin="one").stdout == "one\n"


def test_what_is_printed_is_no_part_of_the_text():
    silent, loud = (record(main(f"{call}('secret')\nreturn 1"), isolation=TRUSTED) for call in ("len", "print"))
    assert loud.stdout == "secret\n" and render(loud) == render(silent).replace("len", "print")
    assert record(silent.context, isolation=TRUSTED, stdin="unread") == silent


def test_output_reaches_to_the_end_of_the_trace_even_if_a_limit_ends_it():
    assert record(main("print(1)\nwhile True: n = 1"), SHORT, TRUSTED).stdout == "1\n"
    raised = record(main("print(1)\nraise ValueError"), SHORT, TRUSTED)
    assert (raised.verdict, raised.stdout) == ("raised", "1\n")
    first, second = record_many([main("print(1)") + "print(0)\nmain()\nprint(2)\n", main("print(3)")], SHORT, TRUSTED)
    assert (first.stdout, second.stdout) == ("0\n1\n", "3\n")


def test_input_that_cannot_be_given_is_refused():
    with pytest.raises(ValueError, match="stdin holds half a surrogate pair"):
        record(main("pass"), stdin="\ud800")
    with pytest.raises(ValueError, match="file_mb=1 "):
        record(main("pass"), Limits(file_mb=1), stdin="é" * (1 << 19) + "a")
    assert record(main("import os\nreturn os.fstat(0).st_size"), Limits(file_mb=1), TRUSTED, "é" * (1 << 19)).complete


HOSTILE = {
    "endless reading": ("while True:\n    try: input()\n    except EOFError: pass", "frame_limit", ""),
    "reading in C without end": ("import sys\nsum(map(len, iter(sys.stdin.read, 1)))", "timeout", ""),
    "huge output": ("for _ in range(9): print('x' * 1_000_000)", "returned", "x" * 65_536),
    "more output than a file may have": ("while True: print('x' * 9_000_000)", "raised", "x" * 65_536),
    "output that is no text": ("import os\nos.write(1, b'\\xff' * 99_999)", "returned", "\ufffd" * 65_536),
    "reads after the end": (
        "import sys\nprint([sys.stdin.read(), sys.stdin.read(), *sys.stdin])\ninput()",
        "raised",
        "['own', '']\n",
    ),
    "closes its streams": ("import sys\nprint(1)\nsys.stdin.close()\nsys.stdout.close()", "returned", "1\n"),
    "closes the descriptors": ("import os\nprint(1, flush=True)\nfor n in 0, 1, 2: os.close(n)", "returned", "1\n"),
    "closes them from below": ("input()\nopen(0).close()\nopen(1, 'w').close()", "returned", ""),
    "detaches": ("import sys\nsys.stdin.detach()\nprint(1, flush=True)\nsys.stdout.detach()", "returned", "1\n"),
    "puts another file over its input": (
        "import os\nf = os.open('/dev/zero', os.O_RDONLY)\nos.dup2(f, 0)\nprint(os.read(0, 2))",
        "returned",
        "b'\\x00\\x00'\n",
    ),
    "puts its output over its input": (
        "import os\nos.dup2(1, 0)\nprint(1, flush=True)\nos.lseek(0, 0, 0)\nprint(input())",
        "returned",
        "1\n1\n",
    ),
    "writes into its input": (
        "import os\nos.write(0, b'theirs')\nos.lseek(0, 0, 0)\nprint(input())",
        "returned",
        "theirs\n",
    ),
    "streams that are none": ("import sys\nsys.stdin = sys.stdout = sys.__stdin__ = 3", "returned", ""),
    "a flush that never ends": (
        "import sys\nclass A:\n    def flush(self):\n        while True: pass\nsys.stdout = A()",
        "timeout",
        "",
    ),
    "a flush that fails": (
        "import sys\nprint(1)\nclass A:\n    def flush(self): sys.exit(3)\nsys.stdout = A()",
        "returned",
        "1\n",
    ),
    "a flush that prints": (
        "import sys\nout = sys.stdout\nclass A:\n    def flush(self): out.write('late')\nsys.stdout = A()",
        "returned",
        "late",
    ),
    "a copy that prints, too": (
        "import os\nif not os.fork():\n    print(2, flush=True)\n    os._exit(0)\nos.wait()\nprint(1)",
        "returned",
        "2\n1\n",
    ),
    "ends everything": ("import os\nprint(1, flush=True)\nos._exit(0)", "exited", ""),
}


@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_use_of_the_streams_is_contained(name, isolation, capfd):
    body, verdict, stdout = HOSTILE[name]
    after = main("import sys\nprint(input() + sys.stdin.read(), file=sys.stdout)\nsys.stderr.write('unseen')")
    hostile, *others = record_many([Job(main(body), "own"), *[Job(after, "next\n1")] * 2], SHORT, isolation)
    assert hostile.verdict == verdict, hostile.reason
    assert hostile.stdout == stdout
    assert [(trace.verdict, trace.stdout) for trace in others] == [("returned", "next1\n")] * 2
    assert capfd.readouterr() == ("", "")


def test_what_a_program_prints_after_its_trace_reaches_no_other():
    late = "class A:\n    def __del__(self): print('late')\nkept = A()\nkept.me = kept\n" + main("print('own')")
    late += "main()\nimport sys\nsys.keep = sys.stdout\nprint('unflushed', end='')\n"
    traces = list(record_many([late, *[Job(main("print(input())"), "next")] * 2], SHORT, TRUSTED))
    assert [trace.stdout for trace in traces] == ["own\n", "next\n", "next\n"]
