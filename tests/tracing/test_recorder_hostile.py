"""Programs that fight the recorder: each ends in a verdict with its reason, and keeps what was recorded."""

import textwrap
import time

import pytest

from cwm_jax.tracing import Isolation, Limits, Trace, parse, record, render

SHORT = Limits(wall_seconds=1.5, memory_mb=512, max_value_chars=2_000)


def run(source: str, limits: Limits = SHORT, isolation: Isolation = Isolation.BUBBLEWRAP) -> Trace:
    trace = record(textwrap.dedent(source), limits, isolation)
    assert parse(render(trace)) == trace
    assert trace.complete == (trace.verdict in ("returned", "raised"))
    assert bool(trace.reason) == (trace.verdict != "returned")
    return trace


def main(body: str, before: str = "") -> str:
    """A context whose marked function has this body."""
    return (
        textwrap.dedent(before)
        + "\ndef main():  # << START_OF_TRACE\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
    )


def with_repr(body: str) -> str:
    """A program with one object whose `__repr__` has this body, and a line after it is made."""
    method = textwrap.indent(textwrap.dedent(body).strip(), "        ")
    return main("x = Odd()\ny = 1\nreturn y\n", f"class Odd:\n    n = 0\n    def __repr__(self):\n{method}\n")


@pytest.mark.parametrize("body", [
    "raise ValueError('no')",
    "raise SystemExit(3)",
    "raise KeyboardInterrupt",
    "raise RecursionError",
    "return 7",
    "return None",
    "return repr(self)",
    "return '..'",
    "import sys; sys.setrecursionlimit(100); return repr(self)",
])  # fmt: skip
def test_a_repr_that_fails_shows_the_type_alone(body):
    trace = run(with_repr(body))
    assert trace.verdict == "returned", trace.reason
    assert ("x", "<Odd object>") in trace.frames[2].locals
    assert trace.frames[-1].value == "1"


def test_a_repr_that_prints_reaches_nobody(capfd):
    trace = run(
        with_repr("print('boo', flush=True); import os; os.write(1, b'boo'); os.write(2, b'boo'); return 'odd'")
    )
    assert dict(trace.frames[2].locals)["x"] == "odd"
    assert capfd.readouterr() == ("", "")


def test_a_repr_that_mutates_is_shown_as_it_answers():
    trace = run(with_repr("self.n += 1; return f'odd {self.n}'"))
    assert [dict(frame.locals)["x"] for frame in trace.frames[2:4]] == ["odd 1", "odd 2"]


def test_a_repr_that_returns_a_subclass_of_str_runs_none_of_its_methods():
    before = """
        class Text(str):
            def __eq__(self, other): raise ValueError
            def __str__(self): raise ValueError
            def __len__(self): return -1
            __hash__ = None
        class Odd:
            def __repr__(self): return Text('odd')
    """
    trace = run(main("x = Odd()\ny = 1\nreturn y\n", before))
    assert trace.frames[2].locals == (("x", "odd"),)
    assert trace.frames[3].locals == (("x", ".."), ("y", "1"))


def test_a_repr_with_half_a_surrogate_pair_becomes_text():
    trace = run(with_repr(r"return '\ud83d' + '\ude00'"))
    assert dict(trace.frames[2].locals)["x"] == r"\ud83d\ude00"


@pytest.mark.parametrize("body", ["while True: pass", "return 'x' * 10_000_000", "import os; os._exit(3)"])
def test_a_repr_that_never_ends_or_ends_everything_is_named(body):
    trace = run(with_repr(body))
    assert trace.verdict == {"while": "timeout", "return": "value_limit", "import": "exited"}[body.split()[0]]
    assert "the local 'x'" in trace.reason
    assert [frame.event for frame in trace.frames] == ["call", "line"], "what came before it is kept"


def test_a_repr_that_came_back_is_not_named():
    trace = run(with_repr("return 'odd'").replace("y = 1", "sum(iter(int, 1))"))
    assert trace.verdict == "timeout" and "__repr__" not in trace.reason


@pytest.mark.parametrize(("body", "verdict", "words"), [
    ("import sys\nsys.exit(3)", "raised", "SystemExit(3)"),
    ("raise KeyboardInterrupt", "raised", "KeyboardInterrupt()"),
    ("return 1 / 0", "raised", "ZeroDivisionError('division by zero')"),
    ("class S(list):\n    def __enter__(self): pass\n    def __exit__(self, *_): return self.pop()\n"
     "s = S([False, True, True])\nfor x in 'aba':\n    with s: raise ValueError(x)", "raised", "ValueError('a')"),
    ("import os\nos._exit(3)", "exited", "status 3"),
    ("import os\nos.abort()", "crashed", "SIGABRT"),
    ("import ctypes\nctypes.string_at(0)", "crashed", "SIGSEGV"),
    ("main()", "depth_limit", "max_depth=…"),
    ("while True:\n    x = 1", "frame_limit", "max_frames=…"),
    ("while True: pass", "timeout", "wall_seconds=…"),
    ("sum(iter(int, 1))", "timeout", "wall_seconds=…"),
    ("x = 'a' * 100_000_000\nreturn 1", "value_limit", "'x'"),
    ("x = ['a' * 100_000_000]\nreturn 1", "value_limit", "'x'"),
    ("x = {1: ('b', [b'a' * 100_000_000])}\nreturn 1", "value_limit", "'x'"),
    ("x = [0] * 10_000_000\nreturn 1", "value_limit", "'x'"),
    ("x = []\nfor i in range(60): x = [x, x]\nreturn 1", "value_limit", "'x'"),
    ("return 'a' * 100_000_000", "value_limit", "the return value of 'main'"),
    ("raise ValueError('a' * 100_000_000)", "value_limit", "the exception in 'main'"),
    ("x = [bytearray(2**26) for _ in range(1000)]", "memory_limit", "memory_mb=…"),
    ("x = 1\nimport sys\nsys.settrace(None)\ny = 2", "trace_replaced", "sys.settrace"),
    ("import sys\nsys.settrace(lambda *a: None)", "trace_replaced", "sys.settrace"),
    ("breakpoint()", "trace_replaced", "sys.settrace"),
    ("import sys\nsys._getframe().f_trace = None\nreturn 1", "unfinished", "main"),
    ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "killed", "killed"),
])  # fmt: skip
def test_every_end_has_its_verdict_and_reason(body, verdict, words):
    trace = run(main(body))
    assert (trace.verdict, words in trace.reason) == (verdict, True), trace.reason
    assert trace.frames[0].event == "call", "what was recorded until then is kept"


@pytest.mark.parametrize(("source", "verdict", "words"), [
    ("def main(:  # << START_OF_TRACE\n    pass\n", "syntax_error", "SyntaxError"),
    ("def main():  # << START_OF_TRACE\n    return '\0'\n", "syntax_error", "null bytes"),
    ("def main():\n    return 1\n", "entry_missing", "start marker"),
    ("x = '''\ndef f():  # << START_OF_TRACE\n'''\n", "entry_missing", "start marker"),
    ("def main(a):  # << START_OF_TRACE\n    return a\n", "entry_missing", "argument"),
    ("class A:\n    def f(self):  # << START_OF_TRACE\n        return 1\n", "entry_missing", "top-level"),
    ("def main():  # << START_OF_TRACE\n    return 1\nmain = 5\n", "entry_missing", "not callable"),
    ("def main():  # << START_OF_TRACE\n    return 1\nmain = int\n", "entry_missing", "never entered"),
    ("async def main():  # << START_OF_TRACE\n    yield 1\n", "entry_missing", "async generator"),
    ("import no_such_module\ndef main():  # << START_OF_TRACE\n    pass\n", "module_raised", "no_such_module"),
    ("import sys\nsys.exit(4)\ndef main():  # << START_OF_TRACE\n    pass\n", "module_raised", "SystemExit: 4"),
    ("sum(iter(int, 1))\ndef main():  # << START_OF_TRACE\n    pass\n", "timeout", "wall_seconds"),
    ("def main():  # << START_OF_TRACE\n    yield 1\ng = main()\nnext(g)\n", "unfinished", "suspended"),
])  # fmt: skip
def test_a_program_without_a_run_says_why(source, verdict, words):
    trace = run(source)
    assert (trace.verdict, words in trace.reason) == (verdict, True), trace.reason


def test_unbounded_recursion_keeps_exactly_the_calls_allowed():
    trace = run("def main():  # << START_OF_TRACE\n    main()\n", Limits(max_depth=50))
    assert trace.verdict == "depth_limit"
    assert sum(frame.event == "call" for frame in trace.frames) == 50


@pytest.mark.parametrize("frames", [1, 7, 8, 9])
def test_the_frame_limit_is_exact(frames):
    source = main("for i in range(2):\n    i\nreturn 1")  # eight frames
    trace = run(source, Limits(max_frames=frames))
    assert trace.verdict == ("returned" if frames >= 8 else "frame_limit")
    assert len(trace.frames) == min(frames, 8)


@pytest.mark.parametrize("chars", [300, 1_000, 5_000])
def test_the_text_never_exceeds_its_limit(chars):
    trace = run(main("x = []\nwhile True:\n    x.append(1)\n"), Limits(max_trace_chars=chars))
    assert trace.verdict == "trace_limit"
    assert 0.7 * chars - 100 < len(render(trace)) <= chars


def test_a_program_that_closes_every_file_is_recorded_to_its_end():
    trace = run(main("import os\nos.closerange(0, 1000)\nx = 1\nreturn x"))
    assert (trace.verdict, trace.frames[-1].value) == ("returned", "1")


def test_a_program_that_scribbles_on_every_file_breaks_nothing_of_ours():
    body = """
        import os
        for number in range(3, 100):
            try:
                os.pwrite(number, b'\\n[0,1,{"a": [[]]}]\\n[[[\\n' * 100, 0)
            except OSError:
                pass
        for number in range(3, 100):
            try:
                os.ftruncate(number, 0)
            except OSError:
                pass
        return 1
    """
    assert run(main(body)).verdict in ("corrupted", "crashed")


@pytest.mark.parametrize("records", [
    r'["end","returned",""]',
    r'["end","no such verdict",""]',
    r'["end","raised",""]',
    r'["end",["raised"],""]',
    r'["end","exited",5]',
    r'["render",[],""]',
    r'["start",3,""]',
    r'[0,1,{"a":1}]',
    r'[0,[],{}]',
    r'[9,1,{}]',
    r'[2,1,null]',
    r'[3,1,{"a":"1"}]',
    r'[' * 5_000,
    r'["end","returned",""]]]',
    "\xff\xfe",
])  # fmt: skip
def test_a_forged_recording_is_a_trace_or_a_verdict(records):
    forged = f'\n["start","3",""]\n{records}\0'.encode()
    body = f"""
        import os
        for number in range(3, 100):
            try:
                os.pwrite(number, {forged!r}, 0)
            except OSError:
                pass
        os._exit(0)
    """
    run(main(body))


def test_processes_are_bounded_and_gone_afterwards():
    body = """
        import os, time
        n = 0
        try:
            for _ in range(200):
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
                n += 1
        except OSError:
            pass
        return n
    """
    started = time.monotonic()
    trace = run(main(body), Limits(processes=10))
    assert trace.verdict == "returned"
    assert 0 < int(trace.frames[-1].value) < 10
    assert time.monotonic() - started < 50, "nobody waits for what the program left behind"


def test_a_forked_copy_writes_nothing_into_the_trace():
    body = """
        import os
        if os.fork() == 0:
            x = 'copy'
            return x
        os.wait()
        return 'original'
    """
    trace = run(main(body))
    assert (trace.verdict, trace.frames[-1].value) == ("returned", "'original'")
    assert "'copy'" not in [frame.value for frame in trace.frames]


def test_threads_run_beside_the_trace():
    body = """
        import threading
        def work(): return [n for n in range(1000)]
        threads = [threading.Thread(target=work) for _ in range(5)]
        for t in threads: t.start()
        for t in threads: t.join()
        return len(threads)
    """
    trace = run(main(body))
    assert (trace.verdict, trace.frames[-1].value) == ("returned", "5")


def test_killing_the_parent_process_reaches_nobody():
    trace = run(main("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nreturn 1"))
    assert trace.verdict in ("returned", "raised"), trace.reason  # raised: a process of another user


def test_a_signal_handler_that_raises_ends_in_a_verdict():
    body = """
        import signal
        def handler(*_): raise TimeoutError('late')
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        n = 0
        while True:
            n += 1
    """
    trace = run(main(body), Limits(max_frames=10**6, max_trace_chars=10**8, wall_seconds=5))
    assert trace.verdict in ("raised", "interrupted", "trace_replaced"), trace.reason
    assert trace.verdict == "raised" or "signal handler" in trace.reason


def test_names_and_namespaces_that_are_no_variables():
    body = """
        class Space(dict):
            def items(self): raise ValueError
            def __iter__(self): raise ValueError
        class Meta(type):
            @classmethod
            def __prepare__(cls, name, bases): return Space()
        locals()[5] = 'five'
        class A(metaclass=Meta):
            x = 1
        return A.x
    """
    trace = run(main(body))
    assert (trace.verdict, trace.frames[-1].value) == ("returned", "1")


def test_a_frame_of_no_line_of_the_context():
    body = "code = compile('\\n' * 500 + 'x = 1', '<context>', 'exec')\nexec(code, {})\nreturn 1"
    trace = run(main(body), Limits())
    assert trace.verdict == "returned"
    assert any(frame.line == 501 and frame.source == "\n" for frame in trace.frames)


def test_control_tokens_in_the_context_are_refused():
    with pytest.raises(ValueError, match=r"<\|frame_sep\|>"):
        record("def main():  # << START_OF_TRACE\n    return '<|frame_sep|>'\n")


def test_half_a_surrogate_pair_in_the_context_is_refused():
    with pytest.raises(ValueError, match="surrogate"):
        record("def main():  # << START_OF_TRACE\n    return '\ud800'\n")


def test_control_tokens_as_values_are_escaped():
    trace = run(main("x = '<|frame' + '_sep|>'\nreturn x"))
    assert trace.frames[-1].value == "'<|frame_sep|>'"
    assert render(trace).count("<|frame_sep|>") == len(trace.frames) + 1


def test_a_program_that_lowers_the_recursion_limit_ends_in_a_verdict():
    trace = run(main("import sys\nsys.setrecursionlimit(30)\ndef f(n): return f(n + 1)\nreturn f(0)"))
    assert trace.verdict in ("raised", "trace_replaced"), trace.reason
    assert trace.verdict == "raised" or "recursion limit" in trace.reason


def test_limits_far_beyond_any_machine_are_refused_or_harmless():
    assert run(main("return 1"), Limits(wall_seconds=1e12, max_depth=10**9, max_frames=10**12)).verdict == "returned"
    with pytest.raises(ValueError, match=r"max_trace_chars=.*memory_mb=512"):
        Limits(max_trace_chars=10**12, memory_mb=512)
