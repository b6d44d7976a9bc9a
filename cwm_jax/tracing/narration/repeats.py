"""Loop compression: which stretches of a run are only summed up, and the sentences that do it.

Of a loop with many passes the first and the last are told. Those between are grouped by the lines that they ran
and how its conditions came out; each group is told once, with what was the same in each of its passes.
Calls that one line makes again and again, as `map` and comprehensions do, are summed up likewise.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from cwm_jax.tracing.narration.run import Call, Run, changed
from cwm_jax.tracing.narration.syntax import Block
from cwm_jax.tracing.narration.wording import join, quote

# Our choices: as much as a reader takes in at once.
_GROUPS = 3
_VALUES = 8
_SHORT = 40
_CYCLE = 4  # as in `max(map(f, xs), key=g)`
_INTEGER = re.compile(r"-?\d{1,18}")


class Stretch(NamedTuple):
    """Frames that are summed up.

    Attributes:
      starts: where each pass or call begins, and last where the telling goes on.
      numbered: whether they are the passes of a loop from the second on.
      calls: whether they are calls that one line makes.
    """

    starts: tuple[int, ...]
    numbered: bool = False
    calls: bool = False


def loops(run: Run, call: Call) -> Iterator[tuple[Block | None, list[int]]]:
    """The passes of each loop that a call ran: its block, and for each pass the frame at which it begins.

    Of code within a line there is no block, and a pass is each time that its first line is reached.
    """
    if call.code.kind == "inline":
        lines = [index for index in call.frames if run.frames[index].event == "line"]
        yield None, [index for index in lines if run.frames[index].line == run.frames[lines[0]].line]
        return
    running: list[tuple[Block, list[int]]] = []
    before = 0
    for index in call.frames:
        frame = run.frames[index]
        if frame.event != "line":
            continue
        while running and not running[-1][0].head <= frame.line <= running[-1][0].end:
            yield _finished(run, *running.pop())
        block = run.block(index)
        if block and block.kind != "if":
            if not running or running[-1][0] != block:
                running.append((block, [index]))
            elif block.in_body(before):
                running[-1][1].append(index)
        before = frame.line
    while running:
        yield _finished(run, *running.pop())


def numbered(call: Call, block: Block | None) -> bool:
    """Whether the passes that `loops` gives are all that there were since the loop was entered."""
    return block is not None and block.body != block.head and not call.resumed


def _finished(run: Run, block: Block, starts: list[int]) -> tuple[Block, list[int]]:
    """Without the last visit to the head if that only found the loop to be over."""
    return block, starts if block.body == block.head or run.entered(starts[-1]) else starts[:-1]


def stretches(run: Run, longest_told: int) -> dict[int, Stretch]:
    """What to sum up, by the first frame of each stretch: of repetitions of more than `longest_told`, all between
    the first and the last."""
    found: dict[int, Stretch] = {}
    for call in run.calls:
        for block, starts in loops(run, call):
            if len(starts) > longest_told:
                found[starts[1]] = Stretch(tuple(starts[1:]), numbered(call, block))
    for _, step in groupby(_by_step(run), key=lambda call: (call.parent, call.during)):
        for starts in _cycles(list(step), longest_told):
            found[starts[1]] = Stretch(tuple(starts[1:]), calls=True)
    return found


def _by_step(run: Run) -> list[Call]:
    """The calls, those that one step made side by side."""
    return sorted(run.calls, key=lambda call: (-1 if call.during is None else call.during, call.frames[0]))


def _cycles(calls: list[Call], longest_told: int) -> Iterator[list[int]]:
    """Where in the calls of one step the same calls come again and again: the frame at which each round begins."""
    codes = [call.code for call in calls]
    at = 0
    while at < len(codes):
        for length in range(1, _CYCLE + 1):
            end = at + length
            while end < len(codes) and codes[end] == codes[end - length]:
                end += 1
            if (rounds := (end - at) // length) > longest_told:
                yield [calls[at + length * number].frames[0] for number in range(rounds)]
                at += length * rounds - 1
                break
        at += 1


def summary(run: Run, stretch: Stretch) -> list[str]:
    """The sentences for a stretch."""
    starts = stretch.starts
    first, count = run.frames[starts[0]], len(starts) - 1
    more = "once more" if count == 1 else f"{count} more times"
    if stretch.calls:
        return [_entered(run, starts, more)]
    if stretch.numbered:
        opening = f"Pass{'es' if count > 1 else ''} {_ranges(range(2, count + 2))} of the loop on line {first.line}:"
    else:
        opening = f"Line {first.line} is reached {more}:"
    groups: dict[tuple, list[int]] = defaultdict(list)
    for number in range(count):
        groups[_path(run, starts[number], starts[number + 1])].append(number)
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    quoted: set[int] = set()
    told = []
    for path, numbers in ranked[:_GROUPS]:
        told += _group(run, stretch, _told(run, path, quoted), numbers)
    if others := sum(len(numbers) for _, numbers in ranked[_GROUPS:]):
        told.append(f"The other {others} go other ways through these lines.")
    net = [change(*item) for item in changed(run.states[starts[0]], run.states[starts[-1]])]
    told.append(f"Over all these, {join(net) or 'no local variable changes'}.")
    return [opening, *("  " + line for line in told)]


def change(name: str, before: str | None, after: str | None) -> str:
    """One change of a local in words: what was long is not repeated."""
    if after is None:
        return f"{quote(name)} is no longer bound"
    if before is None:
        return f"{quote(name)} is set to {quote(after)}"
    if len(before) > _SHORT:
        return f"{quote(name)} becomes {quote(after)}"
    return f"{quote(name)} goes from {quote(before)} to {quote(after)}"


def _path(run: Run, start: int, end: int) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """The lines that the call of frame `start` reached after it in one pass, and what came of each."""
    path: dict[int, set[str]] = defaultdict(set)
    index = run.following[start]
    while index is not None and index < end:
        path[run.frames[index].line] |= _outcomes(run, index)
        index = run.following[index]
    path[run.frames[start].line] |= {f"enters {name}" for name in run.entered_from(start)}
    return tuple((line, tuple(sorted(outcomes))) for line, outcomes in sorted(path.items()) if outcomes)


def _outcomes(run: Run, index: int) -> set[str]:
    """What came of a line frame or an exception, in words."""
    if run.frames[index].event == "exception":
        return {f"meets the exception {quote(run.frames[index].value)}"}
    block, ran = run.block(index), "runs"
    if block and block.kind != "for":
        ran = {True: "is true", False: "is false", None: "runs"}[run.entered(index)]
    return {ran, *(f"enters {name}" for name in run.entered_from(index))}


def _told(run: Run, path: tuple, quoted: set[int]) -> list[str]:
    """A path in words; a line is quoted the first time only."""
    told = []
    for line, outcomes in path:
        place = f"line {line}" if line in quoted else f"line {line} ({quote(run.lines[line])})"
        quoted.add(line)
        words = [word for word in outcomes if not (word == "runs" and len(outcomes) > 1)]
        if {"is true", "is false"} <= {*words}:
            words = ["is true at times, false at others", *(word for word in words if not word.startswith("is "))]
        told.append(f"{place} {join(words)}")
    return told


def _group(run: Run, stretch: Stretch, told: list[str], numbers: list[int]) -> list[str]:
    """One way through the loop, `told` in words: which passes took it, for which values, and what it did each time.

    Empty if nothing is known of them but their number.
    """
    starts, count = stretch.starts, len(stretch.starts) - 1
    block = run.block(starts[0])
    passes = _ranges([number + 2 for number in numbers])
    if len(numbers) == count:
        clauses = ["In each" if count > 1 else "In it"]
    elif stretch.numbered and passes.count(",") < _VALUES:
        clauses = [f"In pass{'es' if len(numbers) > 1 else ''} {passes}"]
    else:
        clauses = [f"In {len(numbers)} of them"]
    bound = block.names if block and block.kind == "for" and block.body != block.head else ()
    for name in bound:
        values = [run.states[run.following[starts[number]]].get(name) for number in numbers]
        if None not in values and (listed := _listed(values)):
            clauses.append(f"with {quote(name)} = {listed}")
    steps = [
        f"{quote(name)} goes {'up' if step > 0 else 'down'} by {quote(str(abs(step)))}"
        for name, step in _steady(run, [(starts[number], starts[number + 1]) for number in numbers])
        if name not in bound
    ]
    if steps:
        told = [*told, join(steps) + (" each time" if len(numbers) > 1 else "")]
    return [f"{', '.join(clauses)}: {'; '.join(told)}."] if told else []


def _steady(run: Run, passes: list[tuple[int, int]]) -> list[tuple[str, int]]:
    """The integers that change by the same amount in each of these passes, and by how much."""
    found = []
    for name in run.states[passes[0][0]]:
        ends = [(run.states[start].get(name, ""), run.states[end].get(name, "")) for start, end in passes]
        if all(_INTEGER.fullmatch(value) for pair in ends for value in pair):
            steps = {int(after) - int(before) for before, after in ends}
            if len(steps) == 1 and steps != {0}:
                found.append((name, *steps))
    return found


def _entered(run: Run, starts: tuple[int, ...], more: str) -> str:
    """Sums up rounds of calls that one line makes, and what they handed back if it was always one code's."""
    depth = run.call(starts[0]).depth
    inside = [run.calls[number] for number in sorted({run.call_of[at] for at in range(starts[0], starts[-1])})]
    calls = [call for call in inside if call.depth == depth]
    names = list(dict.fromkeys(call.code.name for call in calls))
    if len(names) > 1:
        return f"On this line {join(names)} are entered in {len(starts) - 1} more rounds."
    # Where an exception went through, the value of a return frame is not what was handed back.
    failed = any(run.frames[own].event == "exception" for call in calls for own in call.frames)
    listed = "" if failed else _listed([run.frames[call.frames[-1]].value for call in calls])
    return f"On this line {names[0]} is entered {more}{listed and f', and hands back {listed}'}."


def _listed(values: list[str]) -> str:
    """These values in words: in turn if they are few, else the different ones among them; empty if many or long."""
    different = list(dict.fromkeys(values))
    if len(different) > _VALUES or any(len(value) > _SHORT for value in different):
        return ""
    if len(different) > 1 and len(values) <= _VALUES:
        return join([quote(value) for value in values]) + " in turn"
    return join([quote(value) for value in different], "or")


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in words: `2, 4 to 7, 9 and 10`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    told: list[str] = []
    for first, last in ranges:
        told += [f"{first} to {last}"] if last > first + 1 else map(str, range(first, last + 1))
    return join(told)
