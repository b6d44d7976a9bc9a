"""Functions of code on disk: slices that stand by themselves, inputs that reach something, traces that hold twice."""

import ast
import textwrap
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from cwm_jax.repos import NotBuilt
from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import render
from cwm_jax.tracing.explore import Explorer
from cwm_jax.tracing.sources.functions import Functions, FunctionsOfFiles
from cwm_jax.tracing.sources.inputs import KINDS, drawn, mutated, strategy_of
from cwm_jax.tracing.sources.places import Place, find_places
from cwm_jax.tracing.sources.slices import Module, Unfit

LIBRARY = Path(textwrap.__file__).parent
FILES = ["textwrap.py", "bisect.py", "statistics.py", "fractions.py", "shlex.py", "difflib.py", "heapq.py", "string.py"]


@pytest.mark.parametrize("name", FILES)
def test_a_slice_is_lines_of_its_module_and_needs_nothing_more(name):
    text = (LIBRARY / name).read_text()
    module, found = Module(text), 0
    for node in module.tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            try:
                code = module.slice(node.name)
            except Unfit:
                continue
            found += 1
            assert set(code.splitlines()) <= set(text.splitlines()) | {""}
            assert Module(code).slice(node.name) == code
            compile(code, name, "exec")
    assert found


def slice_of(code: str, name: str) -> str:
    return Module(textwrap.dedent(code)).slice(name)


def test_a_slice_leaves_out_what_is_not_reached():
    code = """
        import os, re
        LIMIT = 3
        OTHER = 4
        def helper(x): return x + LIMIT
        def stranger(x): return os.getcwd()
        @staticmethod
        def f(x):
            OTHER = 2  # a local of that name
            return [helper(y) for y in x]
    """
    kept = slice_of(code, "f")
    assert "stranger" not in kept and "import" not in kept and "OTHER = 4" not in kept
    assert "LIMIT = 3" in kept and "def helper" in kept and "@staticmethod" in kept


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("from . import other\ndef f(): return other.x", "outside of its package"),
        ("import numpy as np\ndef f(): return np.pi", "neither its package's nor the standard library's"),
        ("from os import *\ndef f(): return getcwd()", "does not bind"),
        ("def f(): return nowhere", "does not bind"),
    ],
)
def test_what_cannot_stand_alone_has_a_reason(code, reason):
    with pytest.raises(Unfit, match=reason):
        Module(code).slice("f")


@pytest.mark.parametrize("annotation", ["dict[Any, int]", "set[list[int]]", "Dict[Tuple[object, ...], str]"])
def test_keys_are_drawn_that_can_be_hashed(annotation):
    function = ast.parse(f"def f(x: {annotation}): ...").body[0]
    found = drawn({"x": strategy_of(function, function.args.args[0], None)}, 8, 1)
    assert found and all(type(ast.literal_eval(one["x"])) in (dict, set) for one in found if one["x"] != "set()")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_inputs_are_literals_and_the_same_for_one_number(kind):
    number = len(kind)
    strategies = {"one": KINDS[kind], "other": KINDS["any"]}
    found = drawn(strategies, 20, number)
    assert found == drawn(strategies, 20, number) and 1 <= len(found) <= 20
    for arguments in found:
        for text in arguments.values():
            if text != "set()":
                near = mutated(text, Random(number))
                assert near == "set()" or type(ast.literal_eval(near)) is type(ast.literal_eval(text))


CODE = {
    "plain.py": '''
        import random, time
        LETTERS = "aeiou"

        def vowels(word: str, most: int = 10) -> int:
            """Counts vowels.

            >>> vowels("strawberry")
            2
            """
            count = 0
            for letter in word:
                if letter in LETTERS:
                    count += 1
                if count >= most:
                    break
            return count

        def now(): return time.perf_counter_ns()
        def draw(): return random.SystemRandom().random()
        def forever(n: int):
            while True:
                n += 1
        def squares(n: int):
            for i in range(n):
                yield i * i
        async def soon(text: str): return text.upper()

        class Stack:
            def __init__(self, items: list): self.items = list(items)
            def push(self, item: int):
                self.items.append(item)
                return len(self.items)
            @property
            def size(self): return len(self.items)
            @staticmethod
            def of(n: int): return [0] * n
        ''',
    "bad_syntax.py": "def f(:\n",
    "dangerous.py": """
        import os, shutil, socket, sys
        def wipe(path: str): return shutil.rmtree("HERE", ignore_errors=True) or os.path.exists("HERE")
        def call_home(n: int): return socket.create_connection(("1.1.1.1", 80), 1)
        def bomb(n: int):
            while True: os.fork()
        def leave(n: int): os._exit(3)
        def quiet(n: int): return n + 1
        """,
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    for name, text in CODE.items():
        (folder / name).write_text(textwrap.dedent(text).replace("HERE", str(folder)))
    (folder / "latin.py").write_bytes(b"# \xe9\nx = 1\n")
    return folder


def explored(folder: Path, name: str):
    dropped, part = Counter(), FunctionsOfFiles(Functions((str(folder),)), ((Place("", folder), folder / name),))
    found = [found.stored for found in part.record(Isolation.BUBBLEWRAP, dropped)]
    return [(stored.origin.partition(":")[2], stored.trace) for stored in found], dropped


def test_traces_of_plain_code(folder):
    found, dropped = explored(folder, "plain.py")
    names = Counter(name for name, _ in found)
    assert names.keys() == {"vowels", "squares", "soon", "Stack.push", "Stack.size", "Stack.of"}
    assert 'vowels("strawberry")' in found[0][1].context.replace("'", '"')  # the doctest's call comes first
    assert names["vowels"] > 1
    assert sum(count for reason, count in dropped.items() if reason.startswith("not the same twice")) >= 2  # now, draw
    assert dropped["frame_limit"] >= 1  # forever
    paths = Counter((name, tuple((frame.event, frame.line) for frame in trace.frames)) for name, trace in found)
    assert max(paths.values()) == Explorer().alike and max(names.values()) <= Explorer().keep
    contents = [(name, tuple((frame.locals, frame.value) for frame in trace.frames)) for name, trace in found]
    assert len(set(contents)) == len(contents), "two traces of a function that show the same"
    for name in names:  # one trace of each path before the second of any
        first = [path for _, path in dict.fromkeys((name, path) for path in paths if path[0] == name)]
        order = [tuple((f.event, f.line) for f in trace.frames) for other, trace in found if other == name]
        assert len(set(order[: len(first)])) == len(first)


def test_what_is_called_main_already_is_not_overwritten(tmp_path):
    (tmp_path / "named.py").write_text("main = 3\n\n\ndef scaled(n: int):\n    return main * n\n")
    found, _ = explored(tmp_path, "named.py")
    assert found and all(int(trace.frames[-1].value) % 3 == 0 and "def start():" in trace.context for _, trace in found)


def test_dangerous_code_is_contained_and_the_rest_goes_on(folder):
    found, dropped = explored(folder, "dangerous.py")
    assert (folder / "plain.py").exists()
    names = {name for name, _ in found}
    assert "quiet" in names and "bomb" not in names and "leave" not in names
    assert not any(name == "call_home" and trace.verdict == "returned" for name, trace in found)
    assert sum(dropped.values()) > 0


@pytest.mark.parametrize(("name", "reason"), [("bad_syntax.py", "syntax error"), ("latin.py", "not UTF-8")])
def test_files_that_cannot_be_read_are_counted(folder, name, reason):
    found, dropped = explored(folder, name)
    assert not found and any(reason in key for key in dropped)


def test_what_a_function_needs_of_its_package_is_imported(tmp_path, monkeypatch):
    package = tmp_path / "code" / "shapes"
    (package / "flat").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "flat" / "__init__.py").write_text("")
    (package / "units.py").write_text("def scale(n): return n * 10\n")
    (package / "flat" / "near.py").write_text("def half(n): return n / 2\n")
    (package / "flat" / "square.py").write_text(
        "from .. import units\nfrom .near import half as halved\n\ndef area(side: int):\n"
        "    return units.scale(side) + halved(side)\n"
    )
    monkeypatch.chdir(tmp_path)  # a path as users write it; the sandbox starts elsewhere
    found, dropped = explored(Path("code"), "shapes/flat/square.py")
    assert found and not dropped["module_raised"]
    context = found[0][1].context
    assert "from shapes import units\n" in context and "from shapes.flat.near import half as halved\n" in context
    values = [(dict(trace.frames[2].locals)["side"], trace.frames[-1].value) for _, trace in found]
    assert all(float(value) == int(side) * 10.5 for side, value in values)
    assert not any(str(tmp_path) in render(trace) for _, trace in found)


@pytest.mark.parametrize(
    ("name", "file"), [("stdlib", "stdlib/textwrap.py"), ("rich", "rich/cells.py"), (textwrap.__file__, "textwrap.py")]
)
def test_places_have_names_that_say_nothing_of_the_machine(name, file, tmp_path):
    (place,) = find_places([name], tmp_path, "Functions.paths")
    assert file in [place.name_of(path) for path in place.files()]


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere_at_all.*NAME==VERSION"):
        find_places(["nowhere_at_all"], tmp_path, "Functions.paths")


def test_a_download_that_fails_says_of_what(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotBuilt, match=r"Functions\.paths names 'nowhere==1\.0': download failed\nERROR: "):
        find_places(["nowhere==1.0"], tmp_path, "Functions.paths")


@pytest.mark.parametrize("bad", [{"paths": ()}, {"tries": 0}, {"max_chars": 0}])
def test_values_that_make_no_sense(bad):
    with pytest.raises(ValueError, match=rf"Functions\.{'paths' if 'paths' in bad else 'tries'}"):
        Functions(**{"paths": ("stdlib",)} | bad)
    for bound in ("keep", "alike", "mutants"):
        with pytest.raises(ValueError, match=rf"Explorer\.{bound}=-1"):
            Explorer(**{bound: -1})


def test_a_function_whose_runs_are_no_use_is_left_soon(tmp_path):
    (tmp_path / "vain.py").write_text(
        "import time\n\ndef vain(n: int):\n    return n.nothing\n\ndef slow(n: int):\n    time.sleep(60)\n"
    )
    found, dropped = explored(tmp_path, "vain.py")
    tries = Functions(("x",)).tries
    assert not found and dropped["timeout"] <= 3 < tries  # one more is under way when the second is known
    assert dropped["an input of the wrong kind"] <= 11 < tries


def test_what_the_sandbox_stops_is_no_trace(tmp_path):
    (tmp_path / "writes.py").write_text("def write(n: int):\n    open('/etc/passwd', 'w')\n    return n\n")
    found, dropped = explored(tmp_path, "writes.py")
    assert not found and dropped["stopped by the sandbox"] > 0
