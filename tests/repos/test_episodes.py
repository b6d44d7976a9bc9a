"""Episodes of repositories: what the tests' calls did, as the recorder would have it, and as a cut leaves it."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_project import BAD, FILES

from cwm_jax.repos import Build, SuiteLimits
from cwm_jax.tracing import parse, record, render, resolve
from cwm_jax.tracing.language import source_lines
from cwm_jax.tracing.recordings import Caps, read_journal, record_suite
from cwm_jax.tracing.sources.repositories import Repositories
from cwm_jax.tracing.store import Stored, from_bytes, to_bytes
from cwm_jax.tracing.trace import START_MARKER

LIMITS = SuiteLimits(wall_seconds=60, test_seconds=2.0)
WHOLE = Repositories(caps=Caps(depth=9), limits=LIMITS, step_in=1.0)


@pytest.fixture(scope="session")
def recordings(good):
    return record_suite(good, WHOLE.caps, LIMITS)[1]


def named(recordings, name):
    return [one for one in recordings if one.calls[0].code.name == name]


@pytest.mark.parametrize(
    ("name", "call"),
    [("factorial", "factorial(4)"), ("squares", "list(squares(3))"), ("total", "total(4)"), ("guarded", "guarded(3)"),
     ("first", "first(3)"), ("fail", "fail(7)")],
)  # fmt: skip
def test_an_episode_is_what_the_recorder_records(recordings, name, call):
    found = [WHOLE.cut(one, Random(0)) for one in named(recordings, name)]
    peer = record(found[0].context + f"\n{call}\n")
    assert (peer.verdict, peer.frames) in [(trace.verdict, trace.frames) for trace in found]


def test_only_the_package_is_recorded_and_each_call_once(recordings):
    paths = {one.calls[0].code.path for one in recordings}
    assert paths == {"tiny/helper.py", "tiny/counters.py", "tiny/plain.py"}
    assert len(named(recordings, "factorial")) == 4  # of 4, 3, 2 and 1, however often they are called


def test_a_context_has_what_is_reached_and_nothing_else(recordings):
    (one, *_) = named(recordings, "Counter.add")
    whole, over = WHOLE.cut(one, Random(0)), replace(WHOLE, step_in=0.0).cut(one, Random(0))
    for trace in (whole, over):
        assert trace.context.startswith("from __future__ import annotations\n\n# tiny/helper.py\n")
        assert trace.context.index("FACTOR = 2") < trace.context.index("# tiny/counters.py")
        assert trace.context.count("__future__") == 1
        assert f"    def add(self, x):  # twice{START_MARKER}\n" in trace.context
        assert "stranger" not in trace.context and "def traced" in trace.context
    events = [(frame.event, frame.source.strip()) for frame in over.frames]
    at = events.index(("call", "def double(x: int) -> int:"))
    assert events[at + 1] == ("return", "return x * FACTOR")
    assert len(whole.frames) == len(over.frames) + 1
    made = WHOLE.cut(named(recordings, "Counter.__init__")[0], Random(0))
    assert "def double" not in made.context, "no frame lies there"


def states(trace):
    return [(f.event, f.source, state, f.value) for f, state in zip(trace.frames, resolve(trace))]


@given(seed=st.integers(), step_in=st.floats(0, 1), depth=st.integers(0, 4), data=st.data())
def test_every_cut_is_a_sound_trace(recordings, seed, step_in, depth, data):
    one = data.draw(st.sampled_from([one for one in recordings if one.calls[-1].left]))
    trace = replace(WHOLE, step_in=step_in, caps=Caps(depth=depth)).cut(one, Random(seed))
    assert parse(render(trace)) == trace and trace.context.count(START_MARKER) == 1
    compile(trace.context, "<context>", "exec")
    lines = source_lines(trace.context)
    assert all(lines[frame.line - 1] == frame.source for frame in trace.frames)
    depths = [{"call": 1, "return": -1}.get(frame.event, 0) for frame in trace.frames]
    assert sum(depths) == 0 and all(sum(depths[:n]) >= 0 for n in range(len(depths)))
    whole = iter(states(WHOLE.cut(one, Random(seed))))
    assert all(state in whole for state in states(trace)), "no part of the whole trace, in order"


def stored_in(build: Build, dropped: Counter, **caps) -> list[Stored]:
    source = Repositories(caps=Caps(**caps), limits=LIMITS)
    return [found.stored for found in source.episodes(build, dropped)]


def test_episodes_are_stored_and_the_same_twice(good):
    dropped = Counter()
    found = stored_in(good, dropped)
    assert [from_bytes(to_bytes(stored)) for stored in found] == found
    assert {stored.kind for stored in found} == {"episode"}
    origins = Counter(stored.origin for stored in found)
    assert origins["tiny/tiny/plain.py:factorial"] == 4 and "tiny/tiny/plain.py:now" not in origins
    assert "tiny/tiny/plain.py:where" not in origins, "it shows a path of this machine"
    machine = {str(good.environment), sys.base_prefix} - {"/usr", "/usr/local"}
    assert not any(path in render(one.trace) for one in found for path in machine)
    assert dropped["not the same twice"] == 1 and dropped["a path of this machine"] >= 1
    assert found == stored_in(good, Counter())


def test_tests_that_fail_give_no_episodes_and_others_do(tiny):
    text = BAD.replace("MARK", "/usr/mark").replace("PORT", "1")
    build, dropped = tiny.build(test_bad=text, test_good=FILES["tests/test_good.py"]), Counter()
    found = stored_in(build, dropped)
    assert dropped["project: tests fail"] == 1
    assert not any("forever" in stored.origin for stored in found)
    assert any(stored.origin.endswith("Counter.add") for stored in found)


@pytest.mark.parametrize(
    ("caps", "reason"),
    [({"frames": 5}, "the test reaches a cap"), ({"chars": 5}, "the test reaches a cap"),
     ({"value_chars": 3}, "a value is too long")],
)  # fmt: skip
def test_caps_hold(good, caps, reason):
    dropped = Counter()
    for stored in stored_in(good, dropped, **caps):
        assert len(stored.trace.frames) <= caps.get("frames", 1000)
        assert all(len(v) <= caps.get("value_chars", 1000) for f in stored.trace.frames for _, v in f.locals or ())
    assert dropped[reason] > 0


@given(cuts=st.lists(st.binary(max_size=40), max_size=6), seed=st.integers())
def test_a_damaged_journal_is_read_as_far_as_it_goes(cuts, seed):
    whole = [json.dumps(line).encode() for line in JOURNAL]
    assert len(list(read_journal(whole))) == 1
    lines = [*whole, *cuts]
    Random(seed).shuffle(lines)
    assert len(list(read_journal(lines))) <= 1


JOURNAL = [
    ["python", "3.11.7"], ["file", 0, "a.py", "def f(x):\n    return x\n"], ["code", 0, 0, "f", 1], ["test", "t"],
    [0, 2, 1, {"x": "1"}, 0, 1, 0, 2, 1], [1, 2, 2, {"x": ".."}], [2, 2, 2, "1", "returned"],
]  # fmt: skip


def test_the_plugin_needs_nothing_of_ours(good):
    """It runs on the standard library and pytest."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import calls; print([m for m in sys.modules if 'cwm' in m])"
    folder = "cwm_jax/tracing/child"
    answer = subprocess.run([good.python, "-c", code, folder], capture_output=True, text=True)
    assert (answer.stdout.strip(), answer.returncode) == ("[]", 0), answer.stderr
