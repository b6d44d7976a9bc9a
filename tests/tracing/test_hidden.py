"""Hidden state: what it says is so, nothing of the program runs for it, and the trace is the one without it."""

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cwm_jax.tracing import Frame, Hidden, Isolation, Limits, Trace, parse, record, record_many, render
from cwm_jax.tracing.cli import main
from cwm_jax.tracing.hidden import parse_hidden, render_hidden, resolve_hidden
from cwm_jax.tracing.language import TraceSyntaxError, compress
from cwm_jax.tracing.sources import composed, strawberry

TRUSTED = Isolation.LIMITS_ONLY
ALL = Hidden(items=1000)


def run(source: str, bounds: Hidden = Hidden(), limits: Limits = Limits()) -> Trace:  # noqa: B008
    return next(run_all([source], bounds, limits))


def run_all(sources: list[str], bounds: Hidden = Hidden(), limits: Limits = Limits()) -> Iterator[Trace]:  # noqa: B008
    """The trace of each program with hidden state, compared to the one without."""
    return map(same, *(record_many(sources, limits, TRUSTED, hidden=hidden) for hidden in (None, bounds)))


def same(plain: Trace, hidden: Trace) -> Trace:
    """The second trace, once it is known to be the first but for its hidden state, which keeps its rules."""
    assert render(plain) == render(hidden) and parse(render(hidden)) == hidden == plain
    assert [replace(frame, hidden=None) for frame in hidden.frames] == list(plain.frames)
    assert (plain.verdict, plain.reason, plain.stdout) == (hidden.verdict, hidden.reason, hidden.stdout)
    assert [frame.line for frame in plain.frames] == [frame.line for frame in hidden.frames]
    assert all(frame.hidden is None for frame in plain.frames) and render_hidden(plain) == render(plain)
    read = parse_hidden(render_hidden(hidden))
    assert read == hidden and [f.hidden for f in read.frames] == [f.hidden for f in hidden.frames]
    before = None
    for frame, state in zip(hidden.frames, resolve_hidden(hidden)):
        if frame.hidden is not None:
            assert frame.hidden == compress(state, before if frame.event == "line" else None)
        before = None if frame.hidden is None else state
    return hidden


def states(trace: Trace, line: int) -> list[dict[str, str]]:
    """The hidden state of each line frame at this line."""
    found = zip(trace.frames, resolve_hidden(trace))
    return [state for frame, state in found if frame.line == line and frame.event == "line"]


def test_generated_programs_have_the_same_traces():
    programs = [composed.generate(Random(seed), 1) for seed in range(40)]
    programs += [strawberry.generate(Random(seed), 1) for seed in range(20)]
    contexts = [context for program in programs for context in program.contexts()]
    traces = list(run_all(contexts))
    assert len(traces) >= 55 and any(state for trace in traces for state in resolve_hidden(trace))


class Written:
    """A program of nested loops, written at random; `loops` has those that run at each line, None where untold."""

    def __init__(self, rng: Random):
        self._rng, self._names = rng, iter(range(10_000))
        self.lines = ["", "from contextlib import suppress", "def main():  # << START_OF_TRACE"]
        self.loops: dict[int, list[str] | None] = {}
        self._add("a = 0", 1, [])
        self._body(3, 1, [])
        self._add("return a", 1, [])

    def _add(self, line: str, indent: int, loops: list[str] | None) -> None:
        self.loops[len(self.lines)] = loops
        self.lines.append("    " * indent + line)

    def _body(self, depth: int, indent: int, loops: list[str]) -> None:
        rng = self._rng
        for _ in range(rng.randint(1, 3)):
            nested = [self._for, self._try, self._with, self._generator] if depth else []
            rng.choice([*nested, *nested, self._simple, self._comprehension])(depth - 1, indent, loops)

    def _simple(self, depth: int, indent: int, loops: list[str]) -> None:
        self._add("a += 1", indent, loops)
        if loops:
            how = self._rng.choice(["break", "continue", "raise ValueError", "return a"])
            self._add(f"if {loops[-1].split()[1]} == {self._rng.randint(0, 3)} and a % 3: {how}", indent, loops)

    def _comprehension(self, depth: int, indent: int, loops: list[str]) -> None:
        self._add("b = {c: [d for d in range(c)]", indent, loops and None)
        self._add("     for c in 'ab' * 0 or range(2)}", indent, None)

    def _for(self, depth: int, indent: int, loops: list[str]) -> None:
        name, size = f"v{next(self._names)}", self._rng.randint(0, 3)
        self._add(f"for {name} in range({size}):", indent, None)
        self._body(depth, indent + 1, [*loops, f"for {name} in range({size})"])
        if self._rng.random() < 0.3:
            self._add("else:", indent, None)
            self._body(depth, indent + 1, loops)

    def _try(self, depth: int, indent: int, loops: list[str]) -> None:
        self._add("try:", indent, loops)
        self._body(depth, indent + 1, loops)
        self._add("if a % 2: raise ValueError(a)", indent + 1, loops)
        if self._rng.random() < 0.7:
            self._add("except ValueError as e:", indent, loops)
            self._body(depth, indent + 1, loops)
        self._add("finally:", indent, None)
        self._body(depth, indent + 1, loops)

    def _with(self, depth: int, indent: int, loops: list[str]) -> None:
        self._add("with suppress(ValueError):", indent, loops)
        self._body(depth, indent + 1, loops)

    def _generator(self, depth: int, indent: int, loops: list[str]) -> None:
        number = next(self._names)
        self._add(f"def g{number}(a):", indent, None)
        self._for(depth, indent + 1, [])
        self._add("yield a", indent + 1, [])
        self._add(f"for u{number} in g{number}(a):", indent, None)
        self._body(depth, indent + 1, [*loops, f"for u{number} in g{number}(a)"])


@settings(max_examples=5, deadline=None)
@given(st.lists(st.builds(Written, st.randoms(use_true_random=False)), min_size=1, max_size=20))
def test_at_every_line_the_loops_around_it_run_and_have_the_rest_of_their_range(programs):
    for program, trace in zip(programs, run_all(["\n".join([*program.lines, ""]) for program in programs])):
        assert_loops(program, trace)


def assert_loops(program: Written, trace: Trace) -> None:
    for frame, state in zip(trace.frames, resolve_hidden(trace)):
        if frame.event != "line" or ".0" in dict(frame.locals):
            continue
        loops = [name for name in state if name.startswith("for v") or name.startswith("for u")]
        if (expected := program.loops[frame.line - 1]) is not None:
            assert loops == expected, frame
    values = _values_in_full(trace)
    for state, hidden in zip(values, resolve_hidden(trace)):
        for name, text in hidden.items():
            if name.startswith("for v"):
                _, variable, _, iterable = name.split()
                if variable in state:
                    assert text == str([*eval(iterable)][int(state[variable]) + 1 :])
            elif name.startswith("for u"):
                assert text.startswith("<generator object ") and text.endswith(f".g{name.split()[1][1:]}>")


def _values_in_full(trace: Trace) -> list[dict[str, str]]:
    return resolve_hidden(replace(trace, frames=tuple(replace(frame, hidden=frame.locals) for frame in trace.frames)))


LOOPS = """
import asyncio
async def ticks(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i
async def work(xs):
    async for t in ticks(2):
        for x in xs:
            await asyncio.sleep(0)
            t += x
    return [t async for t in ticks(1)] + [y
        for x in xs for y in
            range(x)]
def walk(tree):
    for part in tree:
        if isinstance(part, list):
            yield from walk(part)
        else:
            yield part
async def main():  # << START_OF_TRACE
    done = await asyncio.gather(work([1, 2]), work([3]))
    return done, list(walk([1, [2, [3]], 4])), {a: b for a, b in zip('ab', (x for x in range(9)))}
"""


def test_async_loops_generators_and_comprehensions():
    trace = run(LOOPS)
    assert trace.verdict == "returned"
    rest = [(state["async for t in ticks(2)"], state["for x in xs"]) for state in states(trace, 11)]
    assert set(rest) == {("<async_generator object>", "[2]"), ("<async_generator object>", "[]")}
    parts = [state["for part in tree"] for state in states(trace, 20)]
    assert parts == ["[[2, [3]], 4]", "[[3]]", "[]", "[]"]


KEPT = ["[1, 2, 3]", "[]", "(1, 'a')", "'abé'", "b'ab'", "bytearray(b'ab')", "range(3)", "range(9, 0, -4)",
        "range(2**70, 2**70 + 3)", "{1: 2, 3: 4}", "{1: 2, 3: 4}.values()", "{1: 2, 'a': 4}.items()", "{5, 6}",
        "frozenset({7})", "reversed([1, 2, 3])", "reversed((1, 2))", "reversed('ab')", "reversed({1: 2, 3: 4})",
        "reversed({1: 2, 3: 4}.items())", "reversed(range(3))", "enumerate('abc', 5)", "zip([1, 2, 3], 'ab')", "zip()",
        "zip(enumerate('abc'), reversed([1, 2]))", "'a b c'.split()", "iter([1, 2, 3])", "[None, 1.5, True, [1, (2,)]]",
        "range(40)", "'a' * 30", "[[i] * 3 for i in range(20)]"]  # fmt: skip


@pytest.mark.parametrize("bounds", [Hidden(), ALL], ids=["8", "1000"])
def test_what_a_loop_has_yet_to_yield_is_what_it_yields(bounds):
    """The oracle is the loop itself: what it yielded later."""
    loops = [f"    for x in {iterable}:\n        0\n" for iterable in KEPT]
    trace = run("def main():  # << START_OF_TRACE\n" + "".join(loops), bounds)
    for number, iterable in enumerate(KEPT):
        found = [
            state[f"for x in {ast.unparse(ast.parse(iterable).body[0].value)}"]
            for state in states(trace, 3 + 2 * number)
        ]
        assert found == [_text(list(eval(iterable))[at + 1 :], bounds.items) for at in range(len(found))], iterable
        assert len(found) == len(list(eval(iterable)))


def _text(values: list, most: int) -> str:
    more = [f"... {len(values) - most} more"] if len(values) > most else []
    return f"[{', '.join([*map(repr, values[:most]), *more])}]"


CHANGES = [
    "xs.append(i)",
    "xs.pop()",
    "xs.pop(0)",
    "xs.insert(0, -i)",
    "xs[-1:] = [7, 8]",
    "xs.clear()",
    "xs.reverse()",
]


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(st.lists(st.sampled_from([*CHANGES, "0"]), max_size=8), st.booleans()), max_size=15))
@example([(["del xs[1:]"], True), (["del xs[1:]"], False)])
def test_a_list_that_changes_while_a_loop_runs_over_it(programs):
    sources = []
    for changes, backwards in programs:
        steps = "".join(f"        if i == {at}:\n            {change}\n" for at, change in enumerate(changes, start=1))
        rest = "xs[at - 1::-1] if 0 < at <= len(xs) else []" if backwards else "xs[i:]"
        sources.append(
            "def main():  # << START_OF_TRACE\n    xs = [1, 2, 3, 4]\n    i, at = 0, 4\n"
            f"    for x in {'reversed(xs)' if backwards else 'xs'}:\n        i, at = i + 1, at - 1\n{steps}"
            f"        rest = {rest}\n        if i > 20: break\n"
        )
    for trace in run_all(sources, ALL):
        for frame, values, hidden in zip(trace.frames, _values_in_full(trace), resolve_hidden(trace)):
            if frame.event == "line" and "break" in frame.source:
                assert [text for name, text in hidden.items() if name != "is"] == [values["rest"]]


ORACLE = """
class N:
    def __init__(self, v):
        self.v = v
def pairs(**names):
    places, seen = dict(names), []
    for name, value in names.items():
        if any(value is other for other in seen):
            continue
        seen.append(value)
        if type(value) in (list, tuple):
            places.update((f"{name}[{i}]", item) for i, item in enumerate(value))
        if type(value) is dict:
            places.update((f"{name}[{key!r}]", item) for key, item in value.items())
        if type(value) is N:
            places[f"{name}.v"] = value.v
    return [(p, q) for p in places for q in places if p < q and places[p] is places[q]
            and type(places[p]) not in (int, str, tuple)]
def main():  # << START_OF_TRACE
    a, b, c = 0, 'x', ()
"""


VALUES = ["[]", "{}", "a", "b", "c", "[a, b]", "[c, c]", "(a, a)", "{'k': a, 2: b}", "N(a)", "N(c)", "N([])"]
ASSIGNMENTS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(VALUES)), min_size=1, max_size=8)


@settings(max_examples=6, deadline=None)
@given(st.lists(ASSIGNMENTS, min_size=1, max_size=30))
def test_shared_objects_are_those_that_the_program_itself_finds(programs):
    bodies = ["".join(f"    {name} = {value}\n" for name, value in steps) for steps in programs]
    sources = [f"{ORACLE}{body}    found = pairs(a=a, b=b, c=c)\n    return found\n" for body in bodies]
    for trace in run_all(sources, Hidden(depth=1)):
        said = resolve_hidden(trace)[-2].get("is", "")
        groups = [group.split(" is ") for group in said.split("; ")] if said else []
        found = {(p, q) for group in groups for p in group for q in group if p < q}
        assert found == set(ast.literal_eval(trace.frames[-1].value))


def test_places_deep_inside_and_objects_inside_themselves():
    source = (
        "def main():  # << START_OF_TRACE\n    xs = [1]\n    grid = [[xs], {'k': [xs]}]\n    grid.append(grid)\n    0\n"
    )
    assert [run(source, Hidden(depth=n)).frames[-2].hidden for n in range(4)] == [
        (),
        (("is", "grid is grid[2]"),),
        (("is", "xs is grid[0][0]; grid is grid[2]"),),
        (("is", "xs is grid[0][0] is grid[1]['k'][0]; grid is grid[2]"),),
    ]
    assert run(source, Hidden(places=2)).frames[-2].hidden == ()


SPY = """
import sys
log = []
def note(name):
    def method(self, *args):
        log.append(name)
        return getattr(super(type(self), self), name)(*args)
    return method
class Meta(type):
    def __getattribute__(cls, name):
        log.append(name)
        return super().__getattribute__(name)
    __instancecheck__ = __subclasscheck__ = lambda *args: log.append('check') or False
    __repr__ = lambda cls: log.append('meta') or 'Meta'
names = ['__getattribute__', '__reduce__', '__reduce_ex__', '__hash__', '__eq__', '__sizeof__']
names += ['__len__', '__getitem__', '__iter__', '__copy__', '__length_hint__', '__contains__']
class Spy(metaclass=Meta):
    __class__ = property(lambda self: log.append('class') or int)
    __dict__ = property(lambda self: log.append('dict') or {})
    def __repr__(self):
        log.append('repr')
        return f'S{len(log)}'
    def __iter__(self):
        return self
    def __next__(self):
        raise StopIteration
    def __len__(self):
        log.append('len')
        return 3
    def __hash__(self):
        log.append('hash')
        return 1
    def __index__(self):
        log.append('index')
        return 1
    def __getattribute__(self, name):
        log.append(name)
        return object.__getattribute__(self, name)
    __reduce__ = __reduce_ex__ = __copy__ = __length_hint__ = lambda self, *args: log.append('reduce')
class Items(list, Spy):
    def __iter__(self):
        log.append('iter')
        return super().__iter__()
    def __getitem__(self, at):
        log.append('item')
        return super().__getitem__(at)
    __getattribute__ = Spy.__getattribute__
def main():  # << START_OF_TRACE
    sys.addaudithook(lambda event, args: event == 'object.__getattr__' or log.append(event))  # tracers raise that one
    s = Spy()
    s.other = s
    many = Items([s, s])
    table = {s: s, 'k': (s, [s])}
    for x in many:
        for y in list(many), [s, s], table, reversed([s]):
            for z in y:
                0
    for pair in enumerate(many), zip([s], map(s, [s, 1]), {s}), filter(None, [s]), iter(lambda: s, s):
        0
    it = enumerate([s, s, (s, [s])])
    for w in it:
        0
    return len(log)
"""


def test_nothing_of_the_program_runs():
    trace = run(SPY)
    assert int(trace.frames[-1].value) > 100, "the spies are awake"
    line = SPY[: SPY.index("    it = ")].count("\n")
    last = states(trace, line + 3)[0]
    assert last["for w in it"] == "[(1, <Spy object>), (2, (<Spy object>, [<Spy object>]))]"
    assert "s is x is z is s.other is many[0] is many[1]" in last["is"]


def test_what_is_huge_or_without_end_is_shown_by_its_start():
    trace = run(
        "import itertools\ndef main():  # << START_OF_TRACE\n    for a in range(10**18):\n        break\n"
        "    for b in itertools.count(3):\n        break\n    for c in ['x' * 1000] * 100_000:\n        break\n"
        "    for d in zip(itertools.count(), range(10**30)):\n        break\n    e = iter([1])\n"
        "    for _ in range(3000):\n        e = map(None, e)\n    for f in dict.fromkeys(range(5000)):\n        break\n"
        "    for g in [[[[0] * 9] * 9] * 9] * 9:\n        break\n"
        "    for h in [10**5000, {1: 'y' * 200}]:\n        break\n",
        Hidden(items=2),
        Limits(max_value_chars=2_000_000, max_trace_chars=8_000_000),
    )
    at = {line: states(trace, line)[0] for line in (4, 6, 8, 10, 15, 17, 19)}
    assert at[4]["for a in range(10 ** 18)"] == "[1, 2, ... 999999999999999997 more]"
    assert at[8]["for c in ['x' * 1000] * 100000"] == f"['{'x' * 100}'..., '{'x' * 100}'..., ... 99997 more]"
    assert at[15]["e"] == "map(None, map(None, map(None, map(None, <map object>))))"
    assert at[15]["for f in dict.fromkeys(range(5000))"] == "[... 4999 more]"
    assert at[17]["for g in [[[[0] * 9] * 9] * 9] * 9"].startswith("[[[[0, 0")
    assert at[19]["for h in [10 ** 5000, {1: 'y' * 200}]"] == "[<dict object>]"
    if sys.version_info < (3, 12):
        assert at[6]["for b in itertools.count(3)"] == "[4, 5, ...]"
        assert at[10]["for d in zip(itertools.count(), range(10 ** 30))"].endswith(f" {10**30 - 3} more]")


def test_when_its_characters_are_used_up_the_trace_goes_on_without():
    source = "def main():  # << START_OF_TRACE\n    xs = [[1]] * 9\n    for x in range(10**9, 10**9 + 60):\n        0\n"
    trace = run(source, ALL, Limits(max_trace_chars=15_000))
    known = [frame.hidden is not None for frame in trace.frames if frame.locals is not None]
    assert trace.verdict == "returned" and known[0] and not known[-1]
    assert known == sorted(known, reverse=True)


def test_loops_of_one_source_inside_each_other():
    trace = run("def main():  # << START_OF_TRACE\n    for _ in 'ab':\n        for _ in 'ab':\n            0\n")
    assert states(trace, 4)[0] == {"for _ in 'ab'": "['b']", "for _ in 'ab''": "['b']"}


def test_a_loop_left_by_return_is_over_while_finally_runs():
    trace = run(
        "def main():  # << START_OF_TRACE\n    a = [1]\n    try:\n        for x in 'ab':\n            return a.copy()\n"
        "    finally:\n        0\n"
    )
    assert states(trace, 5) == [{"for x in 'ab'": "['b']"}] and states(trace, 7) == [{}]


def test_the_sandbox_gives_the_same():
    source = "def main():  # << START_OF_TRACE\n    a = b = []\n    for x in 'ab':\n        a.append(x)\n"
    inside, outside = (record(source, isolation=isolation, hidden=Hidden()) for isolation in Isolation)
    assert [f.hidden for f in inside.frames] == [f.hidden for f in outside.frames] and any(resolve_hidden(inside))


@pytest.mark.parametrize(
    ("between", "message"), [("[]", "no JSON object"), ('{"a": 1}', "of strings"), ("{", "is not JSON")]
)
def test_text_that_is_no_hidden_state(between, message):
    text = render_hidden(Trace("x", (Frame("line", "x\n", (), hidden=()),)))
    with pytest.raises(TraceSyntaxError, match=message):
        parse_hidden(text.replace("<|arg_sep|>{}", f"<|arg_sep|>{between}"))
    with pytest.raises(TraceSyntaxError):
        parse(text)
    with pytest.raises(TraceSyntaxError, match="return, which has none"):
        returned = render(Trace("x", (Frame("return", "x\n", value="1"),)))
        parse_hidden(returned.replace("<|action_sep|>", "<|arg_sep|>{}<|action_sep|>"))


def test_bounds_that_make_no_sense():
    for name, value in {"items": 0, "depth": -1, "places": 0}.items():
        with pytest.raises(ValueError, match=f"{name}={value} "):
            Hidden(**{name: value})


def test_the_command_line_shows_it_when_asked(tmp_path, capfdbinary):
    path = tmp_path / "p.py"
    path.write_text("def main():  # << START_OF_TRACE\n    a = b = []\n    return a\n")
    plain, hidden = (record(path.read_text(), hidden=which) for which in (None, Hidden()))
    for words, expected in (([], render(plain)), (["--hidden"], render_hidden(hidden))):
        assert main([str(path), *words]) == 0 and capfdbinary.readouterr().out.decode() == expected
    for words, expected in (([], None), (["--hidden"], {"is": "a is b"})):
        assert main([str(path), "--format", "json", *words]) == 0
        assert json.loads(capfdbinary.readouterr().out)["frames"][2].get("hidden") == expected
