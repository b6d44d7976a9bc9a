"""The recorder's hot path in C gives the bytes of the one in Python, which is its reference."""

import importlib.util
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_recorder_hostile as hostile
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.tracing import Isolation, Limits, record_many, recorder, render
from cwm_jax.tracing.native import NativeMissing, build
from cwm_jax.tracing.sources import composed, strawberry
from cwm_jax.tracing.wrap import wrap

main = hostile.main
CRUXEVAL = Path(__file__).parents[1] / "data" / "cruxeval.jsonl"
SHORT = Limits(wall_seconds=3, memory_mb=512, max_value_chars=2_000)
ODD = {
    "cells and free variables": main(
        "a, n = [1], 0\ndef g(b):\n    nonlocal n\n    n += b\n    c = lambda: a + [b]\n    return c()\n"
        "g(2)\na = 'x'\nreturn [g for i in a], {k: n for k in a}, a, n"
    ),
    "bound late, deleted, bound again": main(
        "if late := 1:\n    z = 1\n    y = 2\ndel z\nx = 3\nz = 4\ndel late, y\nx = x\ny = 2\nreturn locals()"
    ),
    "names put into locals by force": main(
        "x = 1\nlocals()['forced'] = [2]\nlocals()[5] = 6\nlocals()['é\"\\n'] = 7\nx = 2\n"
        "del locals()['forced']\nx = 3\nlocals()['x'] = 9\nreturn x"
    ),
    "class bodies": main(
        "class A:\n    x = 1\n    y = [x]\n    def f(self): return self.x\n"
        "class Odd(dict):\n    def items(self): return [('no', 'such')]\n"
        "class M(type):\n    @classmethod\n    def __prepare__(cls, *a): return Odd()\n"
        "class B(metaclass=M):\n    z = 2\nreturn A().f()"
    ),
    "generators and coroutines": main(
        "def g(n):\n    x = yield n\n    try:\n        yield x\n    finally:\n        n = 0\n"
        "h = g(1)\nnext(h)\nh.send([3])\nh.close()\nk = g(2)\nnext(k)\ntry:\n    k.throw(ValueError('no'))\n"
        "except ValueError as e:\n    pass\nimport asyncio\nasync def c(n):\n    await asyncio.sleep(0)\n    return n\n"
        "return asyncio.run(c(5)), [i * j for i in range(2) for j in (i, 'j')]"
    ),
    "a generator as entry": "def main():  # << START_OF_TRACE\n    for i in range(3):\n        yield i\n",
    "texts that look like addresses": main(
        "a = ' at 0x123456789'\nb = [a]\nc = {a: (a,)}\nd = lambda: 0\ne = [d, {d}]\nf = object()\nreturn f"
    ),
    "values inside themselves, deep and long": main(
        "a = []\na.append(a)\nb = {}\nb[1] = (b,)\nc = 1\nfor i in range(40): c = [c]\nd = 10**40\n"
        "e = [d, -2**63, 2**63 - 1]\nf = [0] * 600\ng = 'a' * 1990\nreturn c"
    ),
    "a value too long by one character": main("a = 'a' * 1998\nb = a + 'a'\nreturn 1"),
    "a list too long by one character": main("a = ['a' * 1996]\na.append(1)\nreturn 1"),
    "a text that is too long only once escaped": main("a = chr(10) * 900 + chr(34)\nb = [a]\nreturn b"),
    "subclasses of what is native": main(
        "class I(int): __repr__ = lambda s: 'I'\nclass L(list): pass\nclass D(dict): pass\nclass S(str): pass\n"
        "x = I(5), L([1]), D(a=1), S('s'), True, ...\nfrom collections import OrderedDict, namedtuple, deque\n"
        "y = OrderedDict(a=1), namedtuple('P', 'x y')(1, 2), deque([1])\nreturn frozenset([1]), frozenset(), set()"
    ),
    "what dies while it is shown": main(
        "class A:\n    def __del__(self): log.append(1)\nlog = []\nx = A()\nx = 1\ny = A()\ndel y\nz = [A()]\n"
        "z.clear()\nreturn log"
    ),
    "a repr that changes the locals that are shown": main(
        "import sys\nclass A:\n    def __repr__(self):\n        sys._getframe(0).f_back\n        ns['n'] = len(ns)\n"
        "        return 'A'\nns = {}\nclass B:\n    a = A()\n    ns = 1\nreturn ns"
    ),
    "a trace function of the program's own": main(
        "import sys\nf = sys._getframe()\nseen = []\ndef other(*a): seen.append(a[1])\nf.f_trace = other\nx = 1\n"
        "f.f_trace_lines = False\nx = 2\nreturn len(seen)"
    ),
    "a recursion limit of its own": main(
        "import sys\nfor k in range(20, 60):\n    for value in VALUES:\n        try:\n"
        "            sys.setrecursionlimit(k)\n            f(0, value)\n"
        "        except RecursionError:\n            pass\nreturn 1",
        "class A:\n    def __repr__(self): return 'A'\nVALUES = [0], 'é', {1: {2: {3: [4]}}}, [A()], A()\n"
        "def f(n, v):\n    v = type(v)(v) if n % 2 else v\n    return f(n + 1, v)\n"
    ),
    "a recursion of the library's": main(
        "import copy, json\nx = '[' * 3000 + ']' * 3000\ntry:\n    copy.deepcopy(json.loads(x))\n"
        "except RecursionError as e:\n    y = e\nreturn 1"
    ),
    "a repr that swaps the locals that are shown": main(
        "import sys\nclass A:\n    def __repr__(self):\n        if ns.pop('k', 0): ns['l'] = 1\n        return 'A'\n"
        "class B:\n    global ns\n    ns = sys._getframe().f_locals\n    k = 1\n    a = A()\n    b = 2\nreturn 1"
    ),
    "threads and garbage collections amid a repr": main(
        "import gc, threading\nclass A:\n    def __del__(self): gc.collect()\n    def __repr__(self):\n"
        "        t = threading.Thread(target=gc.collect)\n        t.start()\n        t.join()\n        return 'A'\n"
        "x = A()\nx.x = x\ny = [x]\nz = {1: x}\ndel x, y\nz = A()\nreturn [z]"
    ),
    "half surrogate pairs": main(
        "a = chr(0xd800)\nb = [a, chr(0xdfff) + 'é']\nclass A:\n    def __repr__(self): return a\n"
        "c = {a: A()}\nd = A()\nraise ValueError(a)"
    ),
    "a fork": main("import os\nif not os.fork():\n    x = 1\n    os._exit(0)\nos.wait()\nreturn 1"),
}  # fmt: skip


@pytest.fixture(scope="session")
def children(tmp_path_factory) -> dict[str, Path]:
    """The child's scripts with the library, built from the source as it is, and without."""
    folders = {name: tmp_path_factory.mktemp("child") for name in ("native", "python")}
    for folder in folders.values():
        for script in recorder._CHILD.glob("*.py"):
            shutil.copy(script, folder)
    try:
        build(folders["native"])
    except NativeMissing as missing:
        pytest.skip(str(missing))
    return folders


@pytest.fixture(scope="session")
def reader(children):
    """`read_frames` of the library as it is built from the source."""
    (path,) = children["native"].glob("*.so")
    spec = importlib.util.spec_from_file_location("native", path)
    return importlib.util.module_from_spec(spec).read_frames


@pytest.fixture(scope="session")
def both(children):
    """Records on either path; for each program the text, and what rides along."""

    def run(contexts: list[str], limits: Limits = SHORT) -> list[list[tuple]]:
        found = []
        for folder in children.values():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(recorder, "_CHILD", folder)
                traces = list(record_many(contexts, limits, Isolation.LIMITS_ONLY))
            along = [(t.verdict, t.reason, t.stdout, [frame.line for frame in t.frames]) for t in traces]
            found.append([(render(trace), *others) for trace, others in zip(traces, along)])
        return found

    return run


def test_the_library_is_what_runs(both):
    native, python = both([main("import sys\nreturn type(sys.gettrace()).__name__")])
    assert "'Tracer'" in native[0][0] and "'function'" in python[0][0]


@pytest.mark.parametrize("name", ODD)
def test_odd_programs(both, name):
    native, python = both([ODD[name]])
    assert native == python
    assert len(native[0][-1]) > 2, "it records something"


@pytest.mark.parametrize("call", ["(1)", "(1, 'line', None)", "(sys._getframe(), 'exception', ())", "(*[sys] * 9)"])
def test_a_program_that_calls_the_tracer_itself_breaks_nothing(both, call):
    shown = f"import sys\nclass A:\n    def __repr__(self): return str(sys.gettrace(){call})\nx = A()\ny = [x]\n"
    native, _ = both([main(f"{shown}try:\n    sys.gettrace(){call}\nexcept TypeError:\n    z = 1\nreturn z")])
    assert native[0][1] in ("returned", "interrupted")
    assert '"y": "' in native[0][0]


def test_hostile_programs(both):
    tests = hostile.test_every_end_has_its_verdict_and_reason, hostile.test_a_program_without_a_run_says_why
    bodies, sources = ([case[0] for case in test.pytestmark[0].args[1]] for test in tests)
    limits = Limits(wall_seconds=1.5, memory_mb=512, max_value_chars=2_000)
    native, python = both([*map(main, bodies), *sources], limits)
    assert native == python
    assert len({verdict for _, verdict, *_ in native}) > 10


def test_caps_strike_at_the_same_frame(both):
    source = main("x = []\nfor i in range(50):\n    x.append(str(i))\n    def f(n): return n and f(n - 1)\n    f(i)\n")
    for caps in ({"max_frames": 77}, {"max_trace_chars": 9_876}, {"max_value_chars": 99}, {"max_depth": 9}):
        native, python = both([source], Limits(**caps))
        assert native == python
        assert native[0][1].endswith("_limit")


def test_caps_may_be_beyond_any_number_of_c(both):
    caps = dict.fromkeys(("max_frames", "max_value_chars", "max_depth"), 10**30)
    native, python = both([main("x = [1]\ndef f(n): return n\nreturn f(x)")], Limits(**caps))
    assert native == python
    assert native[0][1] == "returned"


def test_programs_of_the_generators(both):
    rng = random.Random(7)
    programs = [source.generate(rng, 3) for source in (composed, strawberry) for _ in range(60)]
    native, python = both([context for program in programs for context in program.contexts()])
    assert native == python


def test_cruxeval(both):
    if not CRUXEVAL.exists():
        pytest.skip("no copy of CRUXEval here")
    rows = map(json.loads, CRUXEVAL.read_text().splitlines())
    native, python = both([wrap(row["code"], "f", row["input"]) for row in rows])
    assert native == python


# None and nan hash by address, so a set with one of them prints in another order in every interpreter.
HASHED = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
HASHABLE = st.recursive(HASHED, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4), max_leaves=5)
VALUES = st.recursive(
    HASHABLE | st.none() | st.complex_numbers() | st.floats() | st.text(alphabet="'\"\\\n\t\x00\x7f at0x1é<"),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(HASHABLE, inner) | st.sets(HASHABLE),
    max_leaves=8,
)
STEPS = st.lists(st.tuples(st.sampled_from("abcd"), VALUES, st.booleans()), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=5))
def test_any_values_in_any_order(both, runs):
    contexts = []
    for steps in runs:
        lines = (f"{name} = {value!r}" + (f"\ndel {name}" if gone else "") for name, value, gone in steps)
        body = "\n".join(lines).encode("utf-8", "backslashreplace").decode().replace("<|", "<\\x7c")
        before = "nan, inf = float('nan'), float('inf')\nnanj, infj = nan * 1j, inf * 1j"
        contexts.append(main(body + "\nreturn 1", before))
    native, python = both(contexts)
    assert native == python
    assert all(verdict in ("returned", "value_limit") for _, verdict, *_ in native)


def test_without_a_compiler_the_build_says_what_to_do():
    command = [sys.executable, "-m", "cwm_jax.tracing.native"]
    done = subprocess.run(command, env={"PATH": "/nowhere"}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "several times slower" in done.stdout and "apt-get install gcc" in done.stdout


def test_an_overwritten_recording_keeps_no_frames(reader):
    records = ['["start","3.11.7",""]', "[0,1,{}]", '[1,2,{"a": "1"}]', "[1,", '["end","returned",""]']
    with pytest.MonkeyPatch.context() as patch:
        for read in (reader, lambda records, *_: records):
            patch.setattr(recorder, "read_frames", read)
            trace = recorder._trace("a\nb\nc\n", records, ("timeout", ""), Limits())
            assert (trace.verdict, trace.frames, trace.stdout) == ("corrupted", (), "")


WORDS = ['[0,12,{"a": "..", "b": "1"}]', '[3,1,"x"]', '"', "\\", "\\u0041", "\\ud83d", "\\n", "{", "}", "[", "]", ",",
         ": ", '"a": ".."', "0", "1", "2", "é", "\t", "\x7f", '["end","returned",""]', "-", ".", " "]  # fmt: skip
RECORDS = [
    '[1,3,{"a": "..", "b": "[1, \\"\\\\n\\"]"}]', '[0,1,{}]',
    '[2,4,"\'\\u0007\'"]', '[3,123456789,"E()"]', '[1,2,{"a": ""}]',
]  # fmt: skip
CUTS = st.tuples(st.integers(0, 40), st.integers(0, 3), st.lists(st.sampled_from(WORDS), max_size=3).map("".join))


@settings(max_examples=1_000, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(RECORDS), st.lists(CUTS, max_size=2)), max_size=4))
def test_whatever_stands_in_the_journal_is_read_alike(reader, damaged):
    records = ['["start","3.11.7",""]']
    for record, cuts in damaged:
        for at, length, word in cuts:
            record = record[:at] + word + record[at + length :]
        records.append(record)
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for read in (reader, lambda records, *_: records):
            patch.setattr(recorder, "read_frames", read)
            trace = recorder._trace("a\nb\nc\n", records, ("timeout", ""), Limits())
            found.append([trace, trace.verdict, trace.reason, [frame.line for frame in trace.frames]])
    assert found[0] == found[1]
