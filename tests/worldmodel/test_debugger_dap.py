"""The Debug Adapter Protocol server, driven by a client from the package index; every message is held to the schema."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from dap_client import Editor, check
from debugger_variants import Variants
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.debugger import Program
from cwm_jax.worldmodel.debugger.dap import Adapter
from cwm_jax.worldmodel.debugger.dap.server import _converse, _serve_one
from cwm_jax.worldmodel.real import RealRun

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = "experiments/tiny/strawberry.py"
SOURCE = {"path": str(ROOT / EXAMPLE)}
REAL = RealRun(Isolation.LIMITS_ONLY)


@contextmanager
def editor_of(predictor=REAL, program=None):
    """An editor connected to a server in this process."""
    ours, theirs = socket.socketpair()
    adapter = Adapter(lambda launch: predictor, REAL, program)
    thread = threading.Thread(target=_serve_one, args=(theirs, lambda: adapter), daemon=True)
    thread.start()
    with ours, ours.makefile("rb") as back, ours.makefile("wb") as out:
        editor = Editor(out, back)
        yield editor
        editor.disconnect()
        thread.join(10)
        assert not thread.is_alive()


def launched(editor, breakpoints=(), **arguments):
    assert editor.send("launch", {"program": str(ROOT / EXAMPLE), **arguments}).success
    editor.event("initialized")
    answer = editor.set_breakpoints(SOURCE, list(breakpoints))
    assert editor.configuration_done().success
    return answer


def test_a_whole_session():
    with editor_of() as editor:
        assert editor.capabilities.supportsStepBack and editor.capabilities.supportsSetVariable
        set_ = launched(editor, [{"line": 5, "condition": "count == 1"}, {"line": 7}])
        assert [(each.verified, each.line) for each in set_.breakpoints] == [(True, 5), (True, 9)]
        assert editor.stop() == ("entry", 20, "main")
        assert editor.continue_(1).allThreadsContinued
        assert editor.stop() == ("breakpoint", 5, "count_letters")
        assert {name: each.value for name, each in editor.locals().items()} == {
            "s": "'strawberry'", "letter": "'r'", "count": "1", "ch": "'r'"
        }  # fmt: skip
        frames = editor.stack_trace(1).stackFrames
        assert [(frame.name, frame.line) for frame in frames] == [("count_letters", 5), ("f", 16), ("main", 21)]
        assert editor.locals(frames[1].id)["word"].value == "'strawberry'"
        assert editor.evaluate("count + len(s)", frames[0].id).result == "11"
        assert "no local" in editor.evaluate("zzz", frames[0].id).message
        editor.step_back(1)
        assert editor.stop() == ("step", 4, "count_letters")
        editor.next(1)
        assert editor.stop() == ("step", 5, "count_letters")
        editor.step_out(1)
        assert editor.stop() == ("step", 17, "f")
        editor.step_in(1)
        assert editor.stop() == ("step", 9, "format_answer")
        editor.reverse_continue(1)
        assert editor.stop() == ("breakpoint", 5, "count_letters")
        editor.reverse_continue(1)
        assert editor.stop() == ("step", 20, "main")
        editor.set_breakpoints(SOURCE, [])
        editor.continue_(1)
        assert editor.stop() == ("end", 21, "main")
        assert editor.locals()["__return__"].value == "'strawberry: 0003'"
        editor.continue_(1)
        editor.event("terminated")
        editor.restart()
        assert editor.stop() == ("entry", 20, "main")


def test_every_frame_of_the_real_run_is_stepped_through():
    true = REAL.trace((ROOT / EXAMPLE).read_text()).frames
    with editor_of() as editor:
        launched(editor)
        lines = [editor.stop()[1]]
        for _ in true[1:]:
            editor.step_in(1)
            lines.append(editor.stop()[1])
        assert lines == [frame.line for frame in true]


COUNTDOWN = "def f(n):\n    steps = 0\n    while n > 1:\n        n -= 2\n        steps += 1\n    return steps\n"


def test_what_if(tmp_path):
    path = tmp_path / "countdown.py"
    path.write_text(COUNTDOWN)
    contexts = [wrap(COUNTDOWN, "f", str(n)) for n in (4, 6)]
    with editor_of(Variants(contexts)) as editor:
        editor.send("launch", {"program": str(path), "function": "f", "args": "4", "stopOnEntry": False})
        editor.event("initialized")
        where = {"path": str(path)}
        editor.set_function_breakpoints([{"name": "f"}, {"name": "nope"}])
        assert [each["verified"] for each in editor.seen[-1]["body"]["breakpoints"]] == [True, False]
        wrong = editor.set_breakpoints(where, [dict(line=3, condition="n ==")])
        assert not wrong.breakpoints[0].verified and "no expression" in wrong.breakpoints[0].message
        assert not editor.set_breakpoints({"path": "/other.py"}, [dict(line=3)]).breakpoints[0].verified
        editor.configuration_done()
        assert editor.stop() == ("breakpoint", 1, "f")
        frames = editor.stack_trace(1).stackFrames
        assert frames[1].source.sourceReference and frames[1].source.path is None  # the line that calls f
        assert "return f(4)" in editor.source(frames[1].source.sourceReference).content
        scopes = editor.scopes(frames[0].id).scopes
        assert [scope.name for scope in scopes] == ["Locals", "Confidence"]
        outer = editor.scopes(frames[1].id).scopes[0]
        assert not editor.set_variable(outer.variablesReference, "n", "6").success
        inner = editor.scopes(frames[0].id).scopes[0]
        assert "no local 'm'" in editor.set_variable(inner.variablesReference, "n", "m").message
        assert editor.set_variable(inner.variablesReference, "n", "n + 2").value == "6"
        editor.continue_(1)
        assert editor.stop()[0] == "end" and editor.locals()["__return__"].value == "3"
        told = editor.evaluate("verify", context="repl").result
        assert "✗ frame 3 of" in told and "you had changed something" in told
        assert "undo the last command" in editor.evaluate("help back", context="repl").result
        assert editor.evaluate("back 2", context="repl").result.startswith("--Call--")
        assert editor.stop() == ("goto", 1, "f")
        assert editor.locals()["n"].value == "4"
        editor.step_in(1), editor.stop()
        (target,) = editor.goto_targets(where, 6).targets
        editor.goto(1, int(target.id))
        assert editor.stop() == ("goto", 6, "f")
        assert not editor.goto(1, 1).success


def test_containers_unfold():
    context = wrap("def f(x):\n    return x", "f", "{'a': [1, (2, None)], 3: object()}")
    context = context.replace("object()", "'b'")
    with editor_of(program=Program.of_context(context)) as editor:
        editor.send("launch", {})
        editor.event("initialized")
        editor.configuration_done()
        editor.stop()
        for _ in range(2):
            editor.step_in(1), editor.stop()
        x = editor.locals()["x"]
        inside = editor.variables(x.variablesReference).variables
        assert [(each.name, each.value, each.type) for each in inside] == [
            ("'a'", "[1, (2, None)]", "list"),
            ("3", "'b'", "str"),
        ]
        first, second = editor.variables(inside[0].variablesReference).variables
        assert (first.value, second.evaluateName) == ("1", "x['a'][1]")
        assert editor.evaluate(second.evaluateName, editor.stack_trace(1).stackFrames[0].id).result == "(2, None)"


def test_bad_requests_are_explained_and_nothing_stops():
    with editor_of() as editor:
        for command in ("next", "continue", "stackTrace", "scopes", "evaluate", "goto", "restart", "setVariable"):
            answer = editor.send(command, {"threadId": 1, "frameId": 1, "expression": "1", "variablesReference": 1})
            assert not answer.success and "no program is launched" in answer.message
        assert "nowhere.py" in editor.send("launch", {"program": "nowhere.py"}).message
        assert "not supported" in editor.send("dance").message
        launched(editor)
        editor.stop()
        assert not editor.send("scopes", {"frameId": 99}).success
        assert not editor.send("variables", {}).success
        assert editor.variables(4711).variables == []
        assert editor.threads().threads[0].name == "real run"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_ARGUMENTS = ["source", "breakpoints",
              "threadId", "frameId", "variablesReference", "name", "value", "expression", "line",
              "targetId", "context", "startFrame", "levels", "start", "count", "arguments", "path"]  # fmt: skip
_COMMANDS = ["setBreakpoints", "setFunctionBreakpoints", "threads", "stackTrace", "scopes", "variables", "setVariable",
             "evaluate", "gotoTargets", "goto", "source", "pause", "next", "stepBack", "initialize"]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "command": st.sampled_from(_COMMANDS) | _JSON,
                "type": st.just("request") | _JSON,
                "seq": st.integers(0) | _JSON,
            },
            optional={"arguments": st.dictionaries(st.sampled_from(_ARGUMENTS), _JSON) | _JSON},
        ),
        max_size=6,
    )
)
def test_no_request_kills_the_server(requests):
    adapter = Adapter(lambda launch: REAL, REAL, Program.of_context((ROOT / EXAMPLE).read_text()))
    list(adapter.handle({"type": "request", "seq": 1, "command": "launch", "arguments": {}}))
    for request in requests:
        first, *events = adapter.handle(request)
        assert first["type"] == "response" and isinstance(first["success"], bool)
        for message in (first, *events):
            json.dumps(message)
            if message["type"] == "event" or message["success"]:
                check(message)
    (answer,) = adapter.handle({"type": "request", "seq": 9, "command": "threads"})
    assert answer["success"]


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\r\n\r\n",
        b"Hello\r\n\r\n",
        b"Content-Length: 3\r\n\r\n{{{",
        b"Content-Length: 2\r\n\r\n[]",
        b"Content-Length: -5\r\n\r\n",
        b"Content-Length: 99999999999\r\n\r\n",
        b"\xff" * 10_000 + b"\r\n\r\n",
    ],
)
def test_rubbish_on_the_wire_is_passed_over(rubbish, capfd):
    from io import BytesIO

    request = json.dumps({"type": "request", "seq": 1, "command": "threads"}).encode()
    whole = b"" if b"999" in rubbish else b"Content-Length: %d\r\n\r\n%s" % (len(request), request)
    out = BytesIO()
    _converse(BytesIO(rubbish + whole), out, Adapter(lambda launch: REAL, REAL, None))
    assert out.getvalue().count(b'"success": true') == (1 if whole else 0)


def test_a_pause_stops_what_is_under_way():
    with editor_of() as editor:
        launched(editor)
        editor.stop()
        editor.client.continue_(1)
        editor.pause(1)
        assert editor.stop()[0] in ("pause", "end")


def test_the_verb_serves_on_a_port_and_on_standard_input():
    command = [sys.executable, "-m", "cwm_jax", "debug", EXAMPLE, "--real", "--unsafe", "--dap"]
    with subprocess.Popen([*command, "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline().rsplit(":", 1)[1])
        for _ in range(2):  # one after another
            with socket.create_connection(("127.0.0.1", port)) as client:
                converse(Editor(client.makefile("wb"), client.makefile("rb")))
        server.kill()
    with subprocess.Popen([*command, "-"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        converse(Editor(server.stdin, server.stdout))
        assert server.wait(20) == 0


def converse(editor):
    editor.send("launch", {})
    editor.event("initialized")
    editor.configuration_done()
    assert editor.stop() == ("entry", 20, "main")
    editor.next(1)
    assert editor.stop() == ("step", 21, "main")
    editor.disconnect()


def test_what_the_extension_starts_answers(tmp_path):
    """The manifest names an executable that is an adapter; linked from elsewhere, as VS Code finds it."""
    manifest = json.loads((ROOT / "experiments/vscode/package.json").read_text())
    (debugger,) = manifest["contributes"]["debuggers"]
    linked = tmp_path / "extension"
    linked.symlink_to(ROOT / "experiments/vscode")
    environment = os.environ | {"CWM_PYTHON": sys.executable}
    with subprocess.Popen(
        [linked / debugger["program"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as adapter:
        editor = Editor(adapter.stdin, adapter.stdout)
        properties = debugger["configurationAttributes"]["launch"]["properties"]
        model = {"checkpoint", "endpoint", "model", "vocabulary"}
        assert {"program", "function", "args", "stopOnEntry", "real"} | model == set(properties)
        assert "nowhere" in editor.send("launch", {"program": "nowhere.py"}).message
        editor.disconnect()
        assert adapter.wait(20) == 0


CLIENT = Path(sys.prefix) / "node_modules"


@pytest.mark.skipif(
    not shutil.which("node") or not (CLIENT / "@vscode/debugadapter-testsupport").exists(),
    reason="VS Code's test client is not installed: npm install --prefix .venv @vscode/debugadapter-testsupport",
)
def test_the_client_of_vs_code_itself(tmp_path):
    start = tmp_path / "adapter"
    start.write_text(f"cd {ROOT} && exec {sys.executable} -m cwm_jax debug --real --unsafe --dap -\n")
    done = subprocess.run(
        ["node", Path(__file__).with_name("vscode_client.js"), start, ROOT / EXAMPLE],
        env=os.environ | {"NODE_PATH": str(CLIENT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "stack": [["count_letters", 5], ["f", 16], ["main", 21]],
        "locals": {"s": "'strawberry'", "letter": "'r'", "count": "0", "ch": "'r'"},
    }


def test_a_restart_may_bring_other_arguments(tmp_path):
    path = tmp_path / "countdown.py"
    path.write_text(COUNTDOWN)
    arguments = {"program": str(path), "function": "f", "args": "4"}
    with editor_of() as editor:
        editor.send("launch", arguments)
        editor.event("initialized")
        editor.set_breakpoints({"path": str(path)}, [{"line": 6}])
        editor.configuration_done()
        editor.stop(), editor.continue_(1)
        assert editor.stop() == ("breakpoint", 6, "f") and editor.locals()["steps"].value == "2"
        editor.send("restart", {"arguments": arguments | {"args": "8"}})
        assert editor.stop()[0] == "entry"
        editor.continue_(1)
        assert editor.stop() == ("breakpoint", 6, "f") and editor.locals()["steps"].value == "4"


def test_a_restart_reads_the_file_again(tmp_path):
    path = tmp_path / "countdown.py"
    path.write_text(COUNTDOWN)
    with editor_of() as editor:
        editor.send("launch", {"program": str(path), "function": "f", "args": "4"})
        editor.event("initialized")
        editor.configuration_done()
        editor.stop()
        path.write_text("\n\n" + COUNTDOWN)
        editor.send("restart", {})
        assert editor.stop()[0] == "entry"
        editor.set_function_breakpoints([{"name": "f"}])
        editor.continue_(1)
        assert editor.stop()[1:] == (3, "f")


def test_clients_may_count_lines_from_zero():
    adapter = Adapter(lambda launch: REAL, REAL, None)

    def ask(command, **arguments):
        answer, *events = adapter.handle({"type": "request", "seq": 1, "command": command, "arguments": arguments})
        check(answer)
        return answer["body"], events

    ask("initialize", adapterID="cwm", linesStartAt1=False)
    ask("launch", program=str(ROOT / EXAMPLE), stopOnEntry=False)
    assert ask("setBreakpoints", source=SOURCE, breakpoints=[{"line": 4}])[0]["breakpoints"][0]["line"] == 4
    assert [event["event"] for event in ask("configurationDone")[1]] == ["stopped"]
    frames = ask("stackTrace", threadId=1)[0]["stackFrames"]
    assert [frame["line"] for frame in frames] == [4, 15, 20]
    assert ask("gotoTargets", source=SOURCE, line=5)[0]["targets"] == [{"id": 6, "label": "return count", "line": 5}]


def test_a_prediction_that_cannot_be_made_still_stops():
    """Whatever a predictor raises in the middle of things, the editor hears of it and stands where it stood."""

    class Tired(RealRun):
        def futures(self, context, frames, **asked):
            if len(frames) > 2:
                raise ValueError("a program has 9,999 tokens")
            return super().futures(context, frames, **asked)

    with editor_of(Tired(Isolation.LIMITS_ONLY)) as editor:
        launched(editor)
        editor.stop()
        for _ in range(2):
            editor.step_in(1)
            before = editor.stop()
        editor.continue_(1)
        assert "9,999 tokens" in editor.event("output")["output"]
        assert editor.stop() == before == ("step", 14, "f")
