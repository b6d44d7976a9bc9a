"""Narration: what it states is what the frames hold; long loops stay short; it reads back exactly."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.text.special_tokens import CWM_IDS
from cwm_jax.tracing import Isolation, parse, record, record_many, render, resolve
from cwm_jax.tracing.narration import Final, final_of, final_value, narrate
from cwm_jax.tracing.narration.wording import QUOTED, closing, quote, unquote
from cwm_jax.tracing.sources import composed, strawberry
from cwm_jax.tracing.trace import Frame, Trace

IN_FULL = 10**9
UNSAFE = {"isolation": Isolation.LIMITS_ONLY}
# Generators, exceptions, recursion, comprehensions, classes, closures: what the generated programs do not do.
CODE = {
    "generator": """
def g(n):
    for i in range(n):
        got = yield i
        if got:
            n += got

def f():
    it = g(3)
    total = next(it) + it.send(5)
    for v in it:
        total += v
        if v > 1:
            break
    it.close()
    return total
""",
    "exceptions": """
def bad(x):
    try:
        return 1 // x
    finally:
        x = 5

def f():
    seen = []
    for x in [2, 0, 'a']:
        try:
            bad(x)
        except ZeroDivisionError as error:
            seen.append(str(error))
        except TypeError:
            seen = seen + ["type"]
            del x
    return seen
""",
    "recursion": "def f(n=4):\n    if n < 2:\n        return 1\n    else:\n        return n * f(n - 1)\n",
    "inline": """
def f():
    k = 2
    def twice(x, *, by=lambda v: v * k): return by(x)
    xs = [twice(x) for x in range(6) if x != 3]
    return sorted(xs, key=lambda x: -x), {x: y for x in xs for y in "ab"}, sum(x for x in xs)
""",
    "classes": """
class Stack:
    kind = "stack"
    def __init__(self):
        self.items = []
    def __repr__(self):
        return f"Stack(\\n`{self.items}`)"
    def __iter__(self):
        return self
    def __next__(self):
        if not self.items: raise StopIteration
        return self.items.pop()

def f():
    s = Stack()
    while len(s.items) < 4:
        s.items += [len(s.items)]
    for item in s:
        pass
    class Local:
        a = 1
    return s
""",
    "async": """
import asyncio
async def part(n):
    await asyncio.sleep(0)
    return n + 1

async def several():
    async with asyncio.Lock():
        return [await part(n) for n in range(2)]

def f():
    return asyncio.run(several())
""",
    "raises": "def f():\n    x = [1]\n    for i in range(5):\n        x[i]\n",
    "one line": "def f(n=5):\n    while n: n -= 1\n    for i in 'abcde': n += len(i)\n    if n: n = 0\n    return n\n",
    "many lines": """
def f(a=1, b=2):
    if (a and
            b): c = 3
    for x in range(
        a,
        b + 3,
    ):
        a += (x *
              b)
    return max(
        a,
        b)
""",
}
STRAWBERRY = Path("experiments/tiny/strawberry.py")
MAIN = "\ndef main():  # << START_OF_TRACE\n    return f()\n"


def written(name):
    return record(CODE[name] + MAIN, **UNSAFE)


def told(text):
    """What a reader knows from a narration: `(line, locals)` at each line told and what each call handed back."""
    calls, lines, handed = [], [], []
    for sentence in text.splitlines()[:-1]:
        bare = re.sub(QUOTED, "`", sentence.strip())
        if re.match(r"(Pass|Line \d+ is reached|In |The other|On this line)", bare):
            continue
        if re.search(r" (starts|is entered|goes on from)\b", bare) and not bare.startswith("Line"):
            calls.append({})
        if place := re.match(r"(?:\(depth \d+\) )?Line (\d+), `", bare):
            lines.append((int(place[1]), dict(calls[-1])))
        change(calls[-1], sentence)
        if done := re.search(r"(returns `|hands back `|yields `| is left by the exception| ends)\.$", bare):
            handed.append(unquote(re.findall(QUOTED, sentence)[-1]) if "`" in done[0] else None)
            calls.pop()
    return lines, handed


def change(state, sentence):
    """Applies the changes that a sentence states."""
    for over in re.findall(f"going over ({QUOTED})", sentence):
        state[".0"] = unquote(over)
    for name, how, value in re.findall(f"({QUOTED}) (=|is set to|becomes) ({QUOTED})", sentence):
        state[unquote(name)] = unquote(value)
        assert how == "=" or sentence.count(name)
    for name, before, after in re.findall(f"({QUOTED}) goes from ({QUOTED}) to ({QUOTED})", sentence):
        assert state[unquote(name)] == unquote(before) != unquote(after)
        state[unquote(name)] = unquote(after)
    for name in re.findall(f"({QUOTED}) is no longer bound", sentence):
        del state[unquote(name)]


def held(trace):
    """What the frames hold of the same."""
    frames = list(zip(trace.frames, resolve(trace)))
    lines = [(frame.line, state) for frame, state in frames if frame.event == "line"]
    return lines, [frame.value for frame in trace.frames if frame.event == "return"]


def agree(stated, values):
    """An ending without a value says less than the frame, which then shows `None`."""
    return len(stated) == len(values) and all(a == b or (a is None and b == "None") for a, b in zip(stated, values))


def generated(seed):
    rng = Random(seed)
    programs = [strawberry.generate(rng, 1), composed.generate(rng, 1), composed.generate(rng, 1)]
    return list(record_many([context for program in programs for context in program.contexts()], **UNSAFE))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_stated_changes_are_those_of_the_frames(seed):
    for trace in generated(seed):
        in_full, short = narrate(trace, IN_FULL), narrate(trace)
        lines, handed = told(in_full)
        assert (lines, handed) == held(trace)
        rest = iter(lines)
        found, _ = told(short)
        assert all(line in rest for line in found), "with loops summed up, what is still told is told rightly"
        assert found[-1] == lines[-1]
        assert final_value(short) == final_value(in_full) == final_of(trace) == Final("returned", handed[-1])
        check_conditions(in_full, lines)


def check_conditions(text, lines):
    """Evaluates each condition whose outcome is stated, with the locals that it was reached with."""
    sentences = [line.strip() for line in text.splitlines() if re.match(r"\s*Line \d+, `", line)]
    for sentence, (_, state) in zip(sentences, lines, strict=True):
        if stated := re.search(r": the condition is (true|false)", sentence):
            head = unquote(re.search(QUOTED, sentence)[0])
            test = re.fullmatch(r"(?:if|elif|while) (.*):", head)[1]
            values = {name: ast.literal_eval(value) for name, value in state.items()}
            assert bool(eval(test, values)) == (stated[1] == "true"), sentence


@pytest.mark.parametrize("name", CODE)
def test_so_are_those_of_every_feature_of_the_language(name):
    trace = written(name)
    lines, values = held(trace)
    stated, handed = told(narrate(trace, IN_FULL))
    assert stated == lines and agree(handed, values)
    rest = iter(lines)
    assert all(line in rest for line in told(narrate(trace))[0])
    assert final_value(narrate(trace)) == final_of(trace) == Final(trace.verdict, final_of(trace).value)


def test_what_happens_to_calls_is_said_in_words():
    generator, exceptions = narrate(written("generator"), IN_FULL), narrate(written("exceptions"), IN_FULL)
    assert "`g` yields `0`." in generator and "`g` goes on from line 4, `got = yield i`, with" in generator
    assert "comes up on line 4" in generator and "GeneratorExit" in generator
    assert "Line 4 raises `ZeroDivisionError(" in exceptions and "reaches line 12, `bad(x)`." in exceptions
    assert "`bad` returns `0`." in exceptions and "`bad` returns `None`." not in exceptions
    assert "`f` starts inside 2 other calls of itself, with `n` = `2`." in narrate(written("recursion"))
    assert narrate(written("raises")).endswith(
        "The run ends with the exception `IndexError('list index out of range')`.\n"
    )


@pytest.mark.parametrize(
    "body",
    [
        "    t = 0\n    for i in range(N):\n        if i % 3 == 0:\n            t += i\n    return t\n",
        "    t = N\n    while t:\n        for c in 'ab':\n            u = c\n        t -= 1\n    return t\n",
        "    return sum(i * i for i in range(N))\n",
        "    return max((i % 7 for i in range(N)), key=lambda i: i % 5)\n",
        "    return len([i % 7 for i in range(N) if i == 3])\n",
    ],
)
def test_a_long_loop_is_told_in_constant_space(body):
    short, long = (record(f"def main():  # << START_OF_TRACE\n{body.replace('N', n)}", **UNSAFE) for n in ("20", "600"))
    assert len(long.frames) > 20 * len(short.frames)
    assert len(narrate(long)) < 1.2 * len(narrate(short)) < len(narrate(short, IN_FULL))
    assert final_value(narrate(long)) == Final("returned", long.frames[-1].value)


def test_a_summary_says_what_the_passes_had_in_common():
    text = narrate(record(STRAWBERRY.read_text(), **UNSAFE))
    passes = text[text.index("Passes 2 to 9") :].split("\n")
    assert "In passes 2 and 4 to 7, with `ch` = `'t'`, `'a'`, `'w'`, `'b'` and `'e'` in turn: line 4" in passes[1]
    assert "In passes 3, 8 and 9, with `ch` = `'r'`: line 4 is true; line 5 (`count += 1`) runs" in passes[2]
    assert passes[2].endswith("; `count` goes up by `1` each time.")
    assert "`count` goes from `0` to `3`" in passes[3] and "pass 10 begins with `ch` = `'y'`." in passes[4]


def test_deep_recursion_is_told():
    trace = record(CODE["recursion"].replace("n=4", "n=600") + MAIN, **UNSAFE)
    text = narrate(trace)
    assert "(depth 600) " in text and told(text)[0] == held(trace)[0]


nasty = st.sampled_from(
    [*CWM_IDS, "`", "text ", 'text "', "\\u0060", "<|", "|", "\n", "\r", "\u2028", "\0", "The final value is `1`."]
)
texts = st.lists(nasty | st.text(max_size=4), max_size=5).map("".join)


@given(texts)
def test_any_text_can_be_quoted(text):
    quoted = quote(text)
    assert unquote(quoted) == text and re.fullmatch(QUOTED, quoted) and len(quoted.splitlines()) == 1
    assert "<|" not in quoted


@given(st.sampled_from(["returned", "raised"]), texts, texts)
def test_the_closing_sentence_reads_back_exactly(how, value, before):
    final = Final(how, value)
    assert final_value(f"{before}\n{closing(final)}\n\n") == final


@pytest.mark.parametrize(
    "text",
    ["", "so it is 3", "The final value is 3.", 'The final value is `text "a`.', "The final value is `3`.\nIs it?"],
)
def test_other_texts_state_no_final_value(text):
    assert final_value(text) is None


@given(texts, texts.filter(lambda text: not any(token in text for token in CWM_IDS)))
def test_no_control_token_gets_in(value, comment):
    line = "    return x  # " + comment.replace("\n", "").replace("\r", "").replace("\0", "") + "\n"
    state = (("x", value),)
    frames = (
        Frame("call", "def main(x):\n", state, line=1),
        Frame("line", line, state, line=2),
        Frame("return", line, value=value, line=2),
    )
    text = narrate(Trace(f"def main(x):\n{line}", frames))
    assert not any(token in text for token in CWM_IDS)
    assert final_value(text) == Final("returned", value)


def test_a_trace_that_breaks_off_is_told_as_far_as_it_goes():
    whole = written("exceptions")
    for end in range(len(whole.frames)):
        text = narrate(Trace(whole.context, whole.frames[:end], complete=False))
        assert final_value(text) == Final("stopped")
        lines, _ = told(text)
        assert lines == held(whole)[0][: len(lines)]


def test_what_cannot_be_narrated_is_refused():
    trace = written("recursion")
    with pytest.raises(ValueError, match="line numbers"):
        narrate(parse(render(trace)))
    with pytest.raises(ValueError, match="longest_told=1"):
        narrate(trace, 1)
    with pytest.raises(ValueError, match="belongs to no call"):
        narrate(Trace(trace.context, trace.frames[1:]))


def test_the_trace_verb_prints_it():
    words = ["trace", str(STRAWBERRY), "--format", "narration"]
    done = subprocess.run([sys.executable, "-m", "cwm_jax", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == narrate(record(STRAWBERRY.read_text()))
    assert done.stdout.endswith("The final value is `'strawberry: 0003'`.\n")
