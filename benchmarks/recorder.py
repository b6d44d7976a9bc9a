"""Frames a second of the recorder, with full locals, against others that record them and against ours in Python.

    python benchmarks/recorder.py [--quick] [--out FILE]

The others are in `recorder_peers.py`. Ours is timed end to end: from the context to a `Trace` in this process, the
child interpreter and the way through shared memory included. All that make traces make equal ones, which is checked;
those that print are checked to print every call and return. `bound` is the rate at which the programs are compiled
and run if nobody records.
"""

import random
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

import recorder_peers as peers
from result import flags, row, tell

from cwm_jax.tracing import Isolation, Limits, Trace, record, record_many, recorder

CASES = {
    "counters": """
def f(n):
    total = odd = even = 0
    name, scale, flag = "strawberry", 1.5, True
    for i in range(n):
        if i % 2:
            odd += 1
        else:
            even += 1
        total += i
    return total
def main():  # << START_OF_TRACE
    return f(700)
""",
    "lists": """
def f(n):
    values, seen, text = [], {}, ""
    for i in range(n):
        values.append(i * 3 % 7)
        seen[i % 10] = values[-1]
        text = text[-20:] + str(i)
    return values[:3], seen
def main():  # << START_OF_TRACE
    return f(80)
""",
    "calls": """
def fib(n):
    if n < 2:
        return n
    return fib(n - 1) + fib(n - 2)
def main():  # << START_OF_TRACE
    return fib(13)
""",
}


def seconds(repeats: int, *works) -> list[float]:
    """The best time of each piece of work, in turns: other programs on the machine only ever add to it."""
    times = [[] for _ in works]
    for _ in range(repeats):
        for work, found in zip(works, times):
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
    return [min(found) for found in times]


def corpus() -> list[str]:
    """Many small programs, as a generator makes them."""
    rng = random.Random(0)
    loop = "def f(s, c):\n    n = 0\n    for x in s:\n        if x == c:\n            n += 1\n    return n\n"
    words = ["".join(rng.choices("abcrst", k=rng.randint(3, 8))) for _ in range(2_000)]
    return [f"\n{loop}def main():  # << START_OF_TRACE\n    return f({word!r}, {word[0]!r})\n" for word in words]


@contextmanager
def in_python() -> Iterator[None]:
    """Our own recorder as it is where its native part is not built."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for script in recorder._CHILD.glob("*.py"):
            shutil.copy(script, folder)
        stack.enter_context(mock.patch.object(recorder, "_CHILD", Path(folder)))
        stack.enter_context(mock.patch.object(recorder, "read_frames", lambda records, *_: records))
        yield


def ours(contexts: list[str]) -> Iterator[Trace]:
    yield from record_many(contexts, isolation=Isolation.LIMITS_ONLY)


def ours_in_python(contexts: list[str]) -> Iterator[Trace]:
    with in_python():
        yield from ours(contexts)


def unrecorded(contexts: list[str]) -> Iterator[object]:
    return map(lambda context: peers.define(context)(), contexts)


# name -> how it records contexts, and the share of them that is enough to time it
PEERS = {
    "plain sys.settrace recorder": (partial(map, peers.plain), 4),
    "hunter": (partial(map, peers.with_hunter), 4),
    "PySnooper": (partial(map, peers.with_pysnooper), 8),
    "snoop": (partial(map, peers.with_snoop), 32),
    "our own recorder in Python": (ours_in_python, 2),
}


def consume(work: Callable[[list[str]], Iterator], contexts: list[str]) -> None:
    """Takes each trace and lets it go, as who writes them to disk does."""
    deque(work(contexts), maxlen=0)


def compare(case: str, contexts: list[str], repeats: int) -> list[dict]:
    """A row for each peer."""
    traces = list(ours(contexts))
    for name, (peer, share) in PEERS.items():
        some = traces[: -(-len(traces) // share)]
        for trace, theirs in zip(some, peer(contexts[: len(some)]), strict=True):
            calls = sum(frame.event in ("call", "return") for frame in trace.frames)
            assert theirs == (trace if isinstance(theirs, Trace) else calls), f"{case}: {name} records something else"
    frames = [len(trace.frames) for trace in traces]
    del traces
    works = [(ours, 1), (unrecorded, 1), *PEERS.values()]
    parts = [(work, contexts[: -(-len(contexts) // share)]) for work, share in works]
    times = seconds(repeats, *(partial(consume, work, some) for work, some in parts))
    mine, bound, *others = (sum(frames[: len(some)]) / time for (_, some), time in zip(parts, times))
    goals = [None if name.startswith("our own") else 5.0 for name in PEERS]
    rates = zip(PEERS, others, goals)
    return [row(case, mine, rate, name, "frames/s", goal, bound) for name, rate, goal in rates]


def rows(repeats: int) -> list[dict]:
    found = []
    cases = {case: [context] * (300_000 // len(peers.plain(context).frames)) for case, context in CASES.items()}
    # So many copies that starting the child hardly counts; one program has rows of its own.
    for case, contexts in (cases | {"8,000 small programs": 4 * corpus()}).items():
        found += compare(case, contexts, repeats)
    small = corpus()[0]
    for isolation in Isolation:
        rate = 1 / seconds(5 * repeats, partial(record, small, Limits(), isolation))[0]
        found.append(row(f"one program, {isolation.value}", rate, None, None, "programs/s"))
    return found


def main() -> None:
    parser = flags(__doc__, "two repeats instead of nine")
    arguments = parser.parse_args()
    tell("recorder", rows(2 if arguments.quick else 9), arguments.out)


if __name__ == "__main__":
    main()
