"""The complete state of an activation: equal only where nothing can tell two states apart, and watched for free."""

import ast
import copy
import importlib.util
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from cwm_jax.tracing.sources import composed

CHILD = Path(__file__).parent.parent.parent / "cwm_jax" / "worldmodel" / "halting" / "child"


def of_child(name):
    spec = importlib.util.spec_from_file_location(f"child_{name}", CHILD / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


states, instrument = of_child("states"), of_child("instrument")
canonical = states.canonical


VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(max_size=3),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.tuples(inner, inner)
        | some.dictionaries(some.integers() | some.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_states_are_equal_exactly_where_values_print_alike(one, other):
    assert canonical({"x": one}) == canonical({"x": copy.deepcopy(one)})
    assert (canonical({"x": one}) == canonical({"x": other})) == (repr(one) == repr(other))


@settings(deadline=None)
@given(some.lists(some.integers(), min_size=1), some.data())
def test_a_state_tells_how_far_an_iterator_is(xs, data):
    kinds = [
        iter,
        lambda xs: iter(tuple(xs)),
        reversed,
        enumerate,
        lambda xs: zip(xs, xs),
        lambda xs: iter(range(len(xs))),
    ]
    make = data.draw(some.sampled_from(kinds))
    first, second = make(xs), make(xs)
    for turn in range(len(xs) + 1):
        assert canonical({"xs": xs, "i": first}) == canonical({"xs": xs, "i": second}), "reading it moved it on"
        if turn < len(xs):
            next(first)
            assert canonical({"xs": xs, "i": first}) != canonical({"xs": xs, "i": second})
            next(second)


def test_a_state_tells_sharing_types_and_order():
    inner = [1]
    shared, copied = {"a": inner, "b": inner}, {"a": inner, "b": [1]}
    assert canonical(shared) != canonical(copied)
    assert canonical({"x": [inner, inner]}) != canonical({"x": [inner, [1]]})
    assert canonical({"x": 0.0}) != canonical({"x": -0.0})
    for one, other in [(1, True), (1, 1.0), (0, False), ({1: 0, 2: 0}, {2: 0, 1: 0}), ([], ()), ({1: 0}, {1.0: 0})]:
        assert canonical({"x": one}) != canonical({"x": other})
    endless = []
    endless.append(endless)
    assert canonical({"x": endless}) == canonical({"x": endless})


@pytest.mark.parametrize(
    "value", [{1}, frozenset(), float("nan"), iter({1: 2}), (x for x in ()), len, object(), {}.keys()]
)
def test_of_what_holds_more_no_state_is_made(value):
    with pytest.raises(states.Incomparable):
        canonical({"x": [(value,)]})


@pytest.mark.parametrize("seed", range(12))
def test_the_watch_changes_nothing_that_a_program_does(seed):
    program = composed.generate(Random(seed), 3)
    for guarded in (False, True):
        tree, _ = instrument.instrument(ast.parse(program.code), "_w_", guarded)
        plain, watched, seen = {}, {"_w_iter": iter, "_w_guard": lambda value: value, "_w_locals": locals}, []
        watched["_w_Watch"] = lambda name: lambda loop, variables: seen.append(loop)
        exec(program.code, plain)
        exec(compile(tree, "watched", "exec"), watched)
        for arguments in program.inputs:
            call = f"{program.entry}({arguments})"
            assert eval(call, watched) == eval(call, plain)
