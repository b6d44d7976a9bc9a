"""The flow of control read off the syntax tree holds for what real runs do."""

import ast
import json
from pathlib import Path
from random import Random

import pytest

from cwm_jax.tracing import Isolation, record_many
from cwm_jax.tracing.flow import END, Flow, Step
from cwm_jax.tracing.sources import composed, strawberry
from cwm_jax.tracing.trace import Trace
from cwm_jax.tracing.wrap import wrap

DATA = Path(__file__).parent.parent / "data"


def flow_of(code: str) -> Flow:
    return Flow(ast.parse(code))


def steps_taken(trace: Trace):
    """`(line, next line)` within each call; the next line is 0 where the call returns."""
    calls: list[int] = []
    for frame in trace.frames:
        if frame.event == "call":
            calls.append(frame.line)
            continue
        yield calls[-1], frame.line if frame.event == "line" else 0
        if frame.event == "return":
            calls.pop()
        else:
            calls[-1] = frame.line


_OTHER = (
    *(ast.Try, ast.With, ast.Raise, ast.Yield),
    *(ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


def takes_other_ways(context: str) -> bool:
    """Whether a line may come again within its own statement, or an exception or a generator goes elsewhere."""
    nodes = list(ast.walk(ast.parse(context)))
    several = any(
        isinstance(node, ast.stmt) and not hasattr(node, "body") and node.lineno < node.end_lineno for node in nodes
    )
    return several or any(isinstance(node, _OTHER) for node in nodes)


@pytest.mark.parametrize("family", [strawberry, composed])
def test_generated_programs_go_no_other_way(family):
    contexts = [family.generate(Random(seed), 1).contexts()[0] for seed in range(150)]
    for trace in record_many(contexts, isolation=Isolation.LIMITS_ONLY):
        flow = flow_of(trace.context)
        for line, after in steps_taken(trace):
            assert Step(after, flow.again(line, after)) in flow.steps[line], f"{line} -> {after} in\n{trace.context}"


def test_real_functions_go_no_other_way_until_they_raise():
    rows = [json.loads(line) for line in (DATA / "cruxeval.jsonl").read_text().splitlines()]
    contexts = [wrap(row["code"], "f", row["input"]) for row in rows]
    followed = 0
    for trace in record_many(contexts, isolation=Isolation.LIMITS_ONLY):
        if takes_other_ways(trace.context):
            continue
        flow = flow_of(trace.context)
        for line, after in steps_taken(trace):
            assert Step(after, flow.again(line, after)) in flow.steps[line], f"{line} -> {after} in\n{trace.context}"
            followed += 1
    assert followed > 1000


def test_ways_of_every_statement():
    flow = flow_of(
        "def f(xs):\n"
        "    'Doc.'\n"
        "    for x in xs:\n"
        "        if x:\n"
        "            continue\n"
        "        elif xs:\n"
        "            break\n"
        "    else:\n"
        "        x = 0\n"
        "    try:\n"
        "        g()\n"
        "    except ValueError:\n"
        "        x = 1\n"
        "    finally:\n"
        "        x = 2\n"
        "    return x\n"
    )
    again = Step(3, again=True)
    assert flow.steps == {
        1: (Step(3),),
        3: (Step(4), Step(9)),
        4: (Step(5), Step(6)),
        5: (again,),
        6: (Step(7), again),
        7: (Step(10),),
        9: (Step(10),),
        10: (Step(11),),
        11: (Step(15),),
        12: (Step(13),),
        13: (Step(15),),
        15: (Step(16),),
        16: (END,),
    }


def test_calls_are_those_of_functions_of_the_context_innermost_first():
    flow = flow_of("def g(x):\n    return x\ndef f(x):\n    if g(len(x)):\n        return f(g(x))\n    return x.g(x)\n")
    assert flow.calls == {4: [1], 5: [1, 3]}


def test_other_ways_out_go_through_finally_and_cases_follow_each_other():
    flow = flow_of(
        "@cache\n"
        "def f(x):\n"
        "    y: int\n"
        "    def g(): return 1\n"
        "    for x in x:\n"
        "        try:\n"
        "            break\n"
        "        finally:\n"
        "            x = 0\n"
        "    match x:\n"
        "        case 1:\n"
        "            return f(1)\n"
        "        case _:\n"
        "            x = 2\n"
    )
    assert flow.steps[1] == (Step(4),) and 2 not in flow.steps and 3 not in flow.steps
    assert set(flow.steps[4]) == {Step(5), END}  # the next statement, and what calling it does
    assert flow.steps[7] == (Step(9),) and flow.steps[9] == (Step(5, again=True),)
    assert flow.steps[10] == (Step(11),) and flow.steps[11] == (Step(12), Step(13))
    assert flow.steps[13] == (Step(14), END) and flow.calls == {12: [1]}
