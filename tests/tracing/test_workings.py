"""Workings tell the truth: what they say comes out is what real runs did next."""

import ast
import re
from random import Random

import pytest

from cwm_jax.tracing import Isolation, record, record_many, resolve
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.compact.source import Source
from cwm_jax.tracing.compact.symbols import EQUALS, NAME_END
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
            for step in steps_of(workings.of(line, state)):
                if re.fullmatch(r"-?\d+( [-+*%] -?\d+)+", step):
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


def steps_of(pieces):
    """The steps of a working as text, of locals the values alone."""
    return re.sub(rf"\w+{re.escape(NAME_END)}", "", "".join(pieces)).split(EQUALS)


def compact(code, arguments=""):
    trace = record(wrap(code, "f", arguments), isolation=Isolation.LIMITS_ONLY)
    return "".join(FORM.frames(trace))


@pytest.mark.parametrize(
    "body, shown",
    [
        ("n = len(xs) + 1", "xs<|0|>7<|1|>8<|2|><|equals|>2 + 1<|set|>n·3"),
        ("xs.append(xs[0])", "xs[0]<|set|>xs·[7, 8, 7]"),
        ("d = {}; d['a'] = 1", "<|equals|>1<|set|>d·{'a': 1}"),
        ("ok = 8 in xs", "<|0|>7<|1|>8True<|set|>ok·True"),
        ('k = f"{k:02d}"', "f\"{k·5:02d}\"<|set|>k·'05'"),
        ('k = f"{xs}"', "xs·[7, 8]<|set|>k·'[7, 8]'"),
        ("k += 17", "k·5 + 17<|equals|>12<|set|>k·22"),
        ("xs = xs[::-1]", "xs<|0|>7<|1|>8<|2|><|set|>xs·[8, 7]"),
        ("m = xs", "xs·[7, 8]<|set|>m·[7, 8]"),
        ("k -= k + 2", "k·5 - (k·5 + 2)<|equals|>5 - 7<|set|>k·-2"),
        ("ok = k % 2 == 1", "k·5 % 2 == 1<|equals|>1 == 1True<|set|>ok·True"),
        ("k = 1 if xs else k / 0", "1 if xs else k·5 / 0<|set|>k·1"),
        ("ys = ['a', 'b']\n    k = '-'.join(ys)", "'-' ys<|0|>'a'<|1|>'b'<|2|>"),
        ("k += len(xs)", "xs<|0|>7<|1|>8<|2|><|equals|>k·5 + 2<|set|>k·7"),
    ],
)
def test_what_is_shown(body, shown):
    assert shown.replace("·", NAME_END) in compact(f"def f(xs, k):\n    {body}\n    return k", "[7, 8], 5")


def test_a_returned_tuple_shows_its_parts():
    shown = compact("def f(xs, k):\n    return xs, k", "[7, 8], (5, 'a')")
    assert (
        "xs<|arg_sep|>[7, 8]<|equals|>k<|arg_sep|>(5, 'a')" in shown
        and "<|return_sep|><|L2|>([7, 8], (5, 'a'))" in shown
    )


def test_a_loop_is_counted_off_once_and_then_numbered():
    text = compact("def f(s):\n    n = 0\n    for c in s:\n        n += 1\n    return n", "'ab'")
    assert text.count("s<|0|>'a'<|1|>'b'<|2|><|set|><|0|>c<|arg_sep|>'a'") == 1
    assert "<|again|><|L3|><|set|><|1|>c<|arg_sep|>'b'" in text and "<|again|><|L3|><|2|><|line_sep|><|L5|>" in text


@pytest.mark.parametrize("iterable", ["g(s)", "range(100)", "range(0, 5, 0)", "missing", "n", "zip(s, s)", "range(s)"])
def test_what_is_not_known_is_left_out(iterable):
    assert elements(ast.parse(iterable, mode="eval").body, {"s": "'ab'", "n": "3"}) is None


def test_arguments_are_looked_up_before_they_are_handed_over():
    code = "def g(a, n):\n    return a\ndef f(word):\n    k = 3\n    return g(word, k)"
    shown = compact(code, "'ab'").replace(NAME_END, "·")
    assert "word·'ab'<|equals|>k·3<|call_sep|><|L1|>a·'ab'<|frame_sep|>n·3" in shown
