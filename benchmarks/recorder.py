"""Frames a second of the recorder, with full locals, against a plain `sys.settrace` recorder.

    python benchmarks/recorder.py [--quick] [--out FILE]

The plain recorder is what one writes in twenty lines: in this process, every local's `repr` at
every event, addresses out by a regular expression, `..` by comparing texts; no limits, no
isolation, nothing kept if the program dies. Ours is timed end to end: from the context to a
`Trace` in this process, the child interpreter and the way through shared memory included.
Both make equal traces, which is checked.
"""

import argparse
import json
import platform
import random
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

from cwm_jax.tracing import Isolation, Limits, Trace, record, record_many
from cwm_jax.tracing.language import compress, source_lines
from cwm_jax.tracing.trace import Frame

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


def plain_record(context: str) -> Trace:
    """The same trace as ours, the straightforward way."""
    lines = source_lines(context)
    frames: list[Frame] = []
    last, baseline = None, None

    def text(value: object) -> str:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))

    def trace(frame, event, arg):
        nonlocal last, baseline
        if frame.f_code.co_filename != "<context>" or (not frames and frame.f_code.co_name != "main"):
            return None
        source = lines[frame.f_lineno - 1]
        if event in ("call", "line"):
            state = {name: text(value) for name, value in frame.f_locals.items()}
            same = event == "line" and frame is last
            frames.append(Frame(event, source, compress(state, baseline if same else None), line=frame.f_lineno))
            last, baseline = frame, state
        else:
            value = text(arg if event == "return" else arg[1])
            frames.append(Frame(event, source, value=value, line=frame.f_lineno))
            last = None
        return trace

    code = compile(context, "<context>", "exec")
    names = {"__name__": "__main__"}
    exec(code, names)
    sys.settrace(trace)
    try:
        names["main"]()
    finally:
        sys.settrace(None)
    return Trace(context, tuple(frames), verdict="returned", python=platform.python_version())


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


def rows(repeats: int) -> list[dict]:
    found = []

    def keep(**row) -> None:
        found.append(row)
        rates = f"{row['ours']:>10,} {row['unit']}  plain {row['theirs']}  ratio {row['ratio']}"
        print(f"{row['case']:>28}  {rates}", flush=True)

    def compare(case: str, contexts: list[str], count: int) -> None:
        traces = list(record_many(contexts, isolation=Isolation.LIMITS_ONLY))
        assert traces == [plain_record(context) for context in contexts], f"{case}: the two recorders disagree"
        ours, theirs = seconds(
            repeats,
            lambda: list(record_many(contexts, isolation=Isolation.LIMITS_ONLY)),
            lambda: [plain_record(context) for context in contexts],
        )
        ours, theirs = count / ours, count / theirs
        keep(case=case, ours=round(ours), theirs=round(theirs), peer="plain sys.settrace recorder",
             unit="frames/s", ratio=round(ours / theirs, 2), goal=1.0, bound=None)  # fmt: skip

    for case, context in CASES.items():
        frames = len(plain_record(context).frames)
        copies = 30_000 // frames  # so that starting the child hardly counts; one program has a row of its own
        compare(case, [context] * copies, copies * frames)
    small = corpus()
    compare("2,000 small programs", small, sum(len(plain_record(context).frames) for context in small))
    for isolation in Isolation:
        rate = 1 / seconds(5 * repeats, lambda: record(small[0], Limits(), isolation))[0]
        keep(case=f"one program, {isolation.value}", ours=round(rate, 1), theirs=None, peer=None,
             unit="programs/s", ratio=None, goal=None, bound=None)  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three repeats instead of nine")
    parser.add_argument("--out", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    result = {"benchmark": "recorder", "machine": machine, "rows": rows(3 if arguments.quick else 9)}
    line = json.dumps(result)
    if arguments.out:
        arguments.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
