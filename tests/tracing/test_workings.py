"""Workings tell the truth: what they say comes out is what real runs did next."""

import ast
from random import Random

import pytest

from cwm_jax.tracing import Isolation, record, record_many, resolve
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.compact.source import Source
from cwm_jax.tracing.compact.symbols import EQUALS, PASSES
from cwm_jax.tracing.compact.workings import elements
from cwm_jax.tracing.sources import composed, strawberry
from cwm_jax.tracing.trace import Trace
from cwm_jax.tracing.wrap import wrap

FORM = Compact()


def runs(family, count=200):
    contexts = [family.generate(Random(seed), 1).contexts()[0] for seed in range(count)]
    return record_many(contexts, isolation=Isolation.LIMITS_ONLY)


def lines_in_a_row(trace: Trace):
    """`(line, locals, next line, locals then)` of neighbouring line frames of one call."""
    for (frame, before), (then, after) in zip(
        zip(trace.frames, resolve(trace)), zip(trace.frames[1:], resolve(trace)[1:])
    ):
        if frame.event == then.event == "line":
            yield frame.line, dict(before), then.line, dict(after)


@pytest.mark.parametrize("family", [strawberry, composed])
def test_a_condition_said_to_hold_is_taken(family):
    said = 0
    for trace in runs(family):
        flow, workings = Source(trace.context).flow, Source(trace.context).workings
        for line, state, then, _ in lines_in_a_row(trace):
            steps = workings.of(line, state)
            if steps and steps[-1] in ("True", "False") and len(flow.steps[line]) == 2:
                assert then == flow.steps[line][steps[-1] == "False"].line, (trace.context, line, steps)
                said += 1
    assert said > 200


@pytest.mark.parametrize("family", [strawberry, composed])
def test_each_step_of_arithmetic_equals_the_value_assigned(family):
    checked = 0
    for trace in runs(family):
        tree, workings = ast.parse(trace.context), Source(trace.context).workings
        targets = {
            node.lineno: node.target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
        }
        for line, state, _, after in lines_in_a_row(trace):
            if line not in targets:
                continue
            for step in workings.of(line, state):
                if step not in (EQUALS, *PASSES) and step[:1].isdigit() and "(" not in step and " " in step:
                    assert repr(eval(step)) == after[targets[line]], (trace.context, line, step)
                    checked += 1
    assert checked > 200


@pytest.mark.parametrize("family", [strawberry, composed])
def test_a_loop_yields_its_elements_in_order(family):
    passes = 0
    for trace in runs(family):
        flow = Source(trace.context).flow
        coming: dict[int, list[str]] = {}
        for line, state, then, after in lines_in_a_row(trace):
            loop = flow.loops.get(line)
            if not isinstance(loop, ast.For) or not isinstance(loop.target, ast.Name):
                continue
            ends = flow.loops[line].body[-1].end_lineno
            if line not in coming:
                coming[line] = list(elements(loop.iter, state) or [])
            if line < then <= ends:
                assert coming[line].pop(0) == after[loop.target.id]
                passes += 1
            else:
                assert coming.pop(line) == []
    assert passes > 200


def compact(code, arguments=""):
    trace = record(wrap(code, "f", arguments), isolation=Isolation.LIMITS_ONLY)
    return "".join(FORM.frames(trace))


@pytest.mark.parametrize(
    "body, shown",
    [
        ("n = len(xs) + 1", "n<|arg_sep|><|0|>7<|1|>8<|2|><|equals|>2 + 1<|equals|>3"),
        ("xs.append(xs[0])", "xs<|arg_sep|>xs[0]<|equals|>[7, 8, 7]"),
        ("d = {}; d['a'] = 1", "<|equals|>1<|equals|>{'a': 1}"),
        ("ok = 8 in xs", "ok<|arg_sep|><|0|>7<|1|>8<|equals|>True"),
        ('k = f"{k:02d}"', "k<|arg_sep|>f\"{5:02d}\"<|equals|>'05'"),
        ('k = f"{xs}"', "k<|arg_sep|>[7, 8]<|equals|>'[7, 8]'"),
        ("k += 17", "k<|arg_sep|>5 + 17<|equals|>12<|equals|>22"),
        ("xs = xs[::-1]", "xs<|arg_sep|><|0|>7<|1|>8<|2|><|equals|>[8, 7]"),
        ("m = xs", "m<|arg_sep|>xs<|equals|>[7, 8]"),
        ("k -= k + 2", "k<|arg_sep|>5 - (5 + 2)<|equals|>5 - 7<|equals|>-2"),
        ("ok = k % 2 == 1", "ok<|arg_sep|>5 % 2 == 1<|equals|>1 == 1<|equals|>True"),
        ("k = 1 if xs else k / 0", "k<|arg_sep|>1 if xs else 5 / 0<|equals|>1"),
    ],
)
def test_what_is_shown(body, shown):
    assert shown in compact(f"def f(xs, k):\n    {body}\n    return k", "[7, 8], 5")


def test_a_returned_tuple_shows_its_parts():
    shown = compact("def f(xs, k):\n    return xs, k", "[7, 8], (5, 'a')")
    assert "[7, 8]<|equals|>(5, 'a')" in shown and "<|return_sep|><|L2|>([7, 8], (5, 'a'))" in shown


def test_a_loop_is_counted_off_once_and_then_numbered():
    text = compact("def f(s):\n    n = 0\n    for c in s:\n        n += 1\n    return n", "'ab'")
    assert text.count("<|0|>'a'<|1|>'b'<|2|><|equals|><|0|>c<|arg_sep|>'a'") == 1
    assert "<|again|><|L3|><|1|>c<|arg_sep|>'b'" in text and "<|again|><|L3|><|2|><|line_sep|><|L5|>" in text


@pytest.mark.parametrize("iterable", ["g(s)", "range(100)", "range(0, 5, 0)", "missing", "n", "zip(s, s)", "range(s)"])
def test_what_is_not_known_is_left_out(iterable):
    assert elements(ast.parse(iterable, mode="eval").body, {"s": "'ab'", "n": "3"}) is None
