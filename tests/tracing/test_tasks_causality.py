"""The order of steps against an oracle: generated programs keep vector clocks of their own, and send them along."""

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.tracing import Frame, Isolation, record, resolve
from cwm_jax.tracing.tasks import Message, TaskRun, parse_tasks, record_tasks, render_tasks
from cwm_jax.tracing.wrap import wrap

CRUXEVAL = Path(__file__).parents[1] / "data" / "cruxeval.jsonl"

WORK = """\
{define} work(me, todo, queues):
    clock = [0] * len(queues)
    for other in todo:
        clock[me] += 1
        if other is None:
            item = {wait}queues[me].get()
            clock = list(map(max, clock, item[1]))
        else:
            {wait}queues[other].put((me, tuple(clock)))
"""
STARTS = {
    "threads": """\
import queue, threading
def main():  # << START_OF_TRACE
    queues = [queue.Queue() for _ in PLAN]
    tasks = [threading.Thread(target=work, args=(me, todo, queues)) for me, todo in enumerate(PLAN)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
""",
    "processes": """\
import multiprocessing
def main():  # << START_OF_TRACE
    queues = [multiprocessing.SimpleQueue() for _ in PLAN]
    tasks = [multiprocessing.Process(target=work, args=(me, todo, queues)) for me, todo in enumerate(PLAN)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
""",
    "asyncio": """\
import asyncio
async def main():  # << START_OF_TRACE
    queues = [asyncio.Queue() for _ in PLAN]
    await asyncio.gather(*(work(me, todo, queues) for me, todo in enumerate(PLAN)))
""",
}


@st.composite
def plans(draw) -> list[list[int | None]]:
    """What each task does: send to a task (its number), or receive (None).

    Drawn as one run that works out; as every queue has one reader, all others work out, too.
    """
    count = draw(st.integers(2, 3))
    plan, waiting = [[] for _ in range(count)], [0] * count
    for me, other in draw(st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), max_size=9)):
        if waiting[me] and draw(st.booleans()):
            waiting[me] -= 1
            plan[me].append(None)
        else:
            waiting[other] += 1
            plan[me].append(other)
    return plan


def run_of(kind: str, plan: list, seed: int) -> TaskRun:
    words = {"define": "async def", "wait": "await "} if kind == "asyncio" else {"define": "def", "wait": ""}
    run = record_tasks(
        f"PLAN = {plan}\n{WORK.format(**words)}{STARTS[kind]}", isolation=Isolation.LIMITS_ONLY, seed=seed
    )
    assert (run.verdict, run.unfinished) == ("returned", ()), run.reason
    assert parse_tasks(render_tasks(run)) == run
    return run


@pytest.mark.parametrize("kind", STARTS)
@settings(max_examples=12, deadline=None)
@given(plan=plans(), seed=st.integers(0, 99))
def test_what_happened_before_what_is_what_the_programs_clocks_say(kind, plan, seed):
    run = run_of(kind, plan, seed)
    sends = []  # index, the clock that the program sent along
    values: dict[str, tuple] = {}
    for index, step in enumerate(run.steps):
        if isinstance(step.what, Message) and step.what.kind == "send":
            values[step.what["message"]] = ast.literal_eval(step.what["value"])
            sends.append((index, *values[step.what["message"]]))
    known, after = known_at_the_end(run, values), ended_before(run)
    for first, sender, clock in sends:
        for second, _, other in sends:
            waited = any(
                other[begun] and any(clock[sender] <= known[ended][sender] for ended in after[begun]) for begun in after
            )
            expected = first != second and (clock[sender] <= other[sender] or waited)
            assert run.happened_before(first, second) == expected
    for task in run.tasks[1:]:
        todo = plan[task.number - 1]
        own = [step.what.kind for step in run.steps if step.task == task.number and isinstance(step.what, Message)]
        assert own == ["receive" if other is None else "send" for other in todo]
        assert_received(run, task.number, values)


def known_at_the_end(run: TaskRun, values: dict[str, tuple]) -> list[list[int]]:
    """The clock of each task when it ends, as far as messages tell."""
    known = [[0] * (len(run.tasks) - 1) for _ in run.tasks[1:]]
    for step in run.steps:
        if isinstance(step.what, Message) and step.what.kind in ("send", "receive"):
            clock = values[step.what["message"]][1]
            known[step.task - 1] = list(map(max, known[step.task - 1], clock))
    return known


def ended_before(run: TaskRun) -> dict[int, list[int]]:
    """By task those that were joined before it began: starting a process waits for all that have ended by then.

    That orders them, and is no message of the program's.
    """
    ended, found = [], {}
    for step in run.steps:
        if isinstance(step.what, Message) and step.what.kind == "join":
            ended.append(int(step.what["task"]) - 1)
        elif isinstance(step.what, Message) and step.what.kind == "spawn":
            found[int(step.what["task"]) - 1] = list(ended)
    return found


def assert_received(run: TaskRun, number: int, values: dict[str, tuple]) -> None:
    """After a receive, the task's variable holds what its send says."""
    states = iter(resolve(run.trace(number)))
    expected = None
    for step in run.steps:
        if step.task != number:
            continue
        if isinstance(step.what, Message):
            expected = values[step.what["message"]] if step.what.kind == "receive" else expected
            continue
        state = next(states)
        if expected is not None and step.what.event == "line":
            assert ast.literal_eval(state["item"]) == expected
            expected = None


@pytest.mark.parametrize("kind", STARTS)
def test_steps_of_a_task_lie_between_its_spawn_and_its_join(kind):
    run = run_of(kind, [[1, 1], [None, 0, None], []], 3)
    for number in (1, 2, 3):
        own = [index for index, step in enumerate(run.steps) if step.task == number]
        spawn, join = (
            next(i for i, s in enumerate(run.steps) if s.task == 0 and s.what == m.what)
            for k in ("spawn", "join")
            for m in run.messages(k)
            if m.what["task"] == str(number)
        )
        assert spawn < own[0] and own[-1] < join
        assert all(run.happened_before(spawn, i) and run.happened_before(i, join) for i in own)


FUNCTIONS = """\
def words(n):
    found = {}
    for letter in "abcab"[:n]:
        found[letter] = found.get(letter, 0) + 1
    return sorted(found.items())
def halves(n):
    for i in range(n):
        yield i / 2
def risky(n):
    total = 0
    try:
        total = sum(halves(n))
        return total / (n - 2)
    except ZeroDivisionError as error:
        return str(error)
"""


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["words", "risky"]), st.integers(0, 5)), min_size=2, max_size=3),
    st.integers(0, 99),
)
def test_in_turns_with_others_a_task_has_the_frames_that_it_has_alone(calls, seed):
    starts = "".join(f"    ts.append(threading.Thread(target={name}, args=({n},)))\n" for name, n in calls)
    main = f"import threading\ndef main():  # << START_OF_TRACE\n    ts = []\n{starts}"
    run = record_tasks(
        f"{FUNCTIONS}{main}    for t in ts: t.start()\n    for t in ts: t.join()\n",
        isolation=Isolation.LIMITS_ONLY,
        seed=seed,
    )
    assert run.verdict == "returned" and parse_tasks(render_tasks(run)) == run
    for number, (name, n) in enumerate(calls, start=1):
        alone = record(wrap(FUNCTIONS, name, str(n)), isolation=Isolation.LIMITS_ONLY)
        assert run.trace(number).frames == alone.frames[2:-1]  # without those of the call itself


def test_a_program_of_one_task_has_its_plain_trace():
    for row in list(map(json.loads, CRUXEVAL.read_text().splitlines()))[:20]:
        context = wrap(row["code"], "f", row["input"])
        run, trace = (
            record_tasks(context, isolation=Isolation.LIMITS_ONLY),
            record(context, isolation=Isolation.LIMITS_ONLY),
        )
        assert run.trace(0) == trace and (run.verdict, run.reason, run.python) == (trace.verdict, "", trace.python)
        assert all(isinstance(step.what, Frame) for step in run.steps) and len(run.tasks) == 1


def test_a_coroutine_has_its_plain_trace():
    context = """\
import asyncio
async def nap(n):
    await asyncio.sleep(n)
    return [n]
async def main():  # << START_OF_TRACE
    future = asyncio.get_running_loop().create_future()
    future.set_result("x")
    return await nap(0), await nap(0.001), await future
"""
    run, trace = (
        record_tasks(context, isolation=Isolation.LIMITS_ONLY),
        record(context, isolation=Isolation.LIMITS_ONLY),
    )
    assert run.trace(0) == trace and trace.frames[-1].value == "([0], [0.001], 'x')"
