"""Rewriting: a model's words are kept only where they end in the value of the trace. A real server answers."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cwm_jax.tracing import Isolation, record
from cwm_jax.tracing.narration import Rewriter, final_value, narrate

TRACE = record("def main():  # << START_OF_TRACE\n    x = [2]\n    return x * 2\n", isolation=Isolation.LIMITS_ONLY)
NARRATION = narrate(TRACE)
AGREES = "We double the list.\nThe final value is `[2, 2]`."
SLEEP = "sleep"


class Endpoint(BaseHTTPRequestHandler):
    """Answers each request with the next of `server.answers`: a status, `SLEEP`, raw bytes or what the model says."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["Authorization"], body))
        answer = self.server.answers.pop(0)
        if answer == SLEEP:
            self.server.woken.wait(10)
            self.close_connection = True
            return
        status = answer if isinstance(answer, int) else 200
        message = {"role": "assistant", "content": answer}
        content = answer if isinstance(answer, bytes) else json.dumps({"choices": [{"message": message}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.answers, server.requests, server.woken = [], [], threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.woken.set()
    server.shutdown()
    server.server_close()
    thread.join()


def rewrite(server, *answers, **settings):
    server.answers[:] = answers
    base_url = f"http://127.0.0.1:{server.server_port}/v1"
    rewriter = Rewriter("tiny", base_url, **{"pause_seconds": 0.01, "retries": 0, **settings})
    return rewriter.rewrite(TRACE, NARRATION)


def test_an_answer_that_agrees_is_kept(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    done = rewrite(server, f"<think>[2] twice?\nThe final value is `7`.</think>\n\n{AGREES}\n", key_variable="SOME_KEY")
    assert (done.fate, done.text) == ("kept", AGREES + "\n")
    path, authorization, body = server.requests[0]
    assert (path, authorization, body["model"]) == ("/v1/chat/completions", "Bearer secret", "tiny")
    assert NARRATION in body["messages"][-1]["content"] and TRACE.context in body["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        ("It is 4.\nThe final value is `[2, 3]`.", "disagrees"),
        ("The run ends with the exception `[2, 2]`.", "disagrees"),
        ("The list is doubled.", "disagrees"),
        (f"<|frame_sep|>{AGREES}", "control_token"),
        (f"<|eot_id|>{AGREES}", "control_token"),
        (None, "malformed"),
        (b"<html>", "malformed"),
        (b'{"choices": []}', "malformed"),
        (b"[]", "malformed"),
        (401, "http_401"),
        (500, "http_500"),
    ],
)
def test_any_other_answer_is_dropped_and_the_rules_words_stay(server, answer, fate):
    done = rewrite(server, answer)
    assert (done.fate, done.text) == (fate, NARRATION)


def test_fates_can_be_counted(server):
    answers = [AGREES, 500, AGREES, "no", 404]
    assert Counter(rewrite(server, answer).fate for answer in answers) == {
        "kept": 2,
        "http_500": 1,
        "disagrees": 1,
        "http_404": 1,
    }


def test_a_silent_endpoint_times_out(server):
    done = rewrite(server, SLEEP, SLEEP, timeout_seconds=0.2, retries=1)
    assert (done.fate, done.text, len(server.requests)) == ("timeout", NARRATION, 2)


def test_what_may_pass_is_tried_again_and_nothing_else(server):
    assert rewrite(server, 503, 429, AGREES, retries=2).fate == "kept"
    assert len(server.requests) == 3
    assert rewrite(server, 503, 503, AGREES, retries=1).fate == "http_503"
    assert rewrite(server, 400, AGREES, retries=1).fate == "http_400"
    assert rewrite(server, "no", AGREES, retries=1).fate == "disagrees"
    assert len(server.requests) == 7


def test_an_endpoint_that_is_not_there_is_told():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.server_close()
    rewriter = Rewriter(base_url=f"http://127.0.0.1:{server.server_port}/v1", retries=1, pause_seconds=0.01)
    done = rewriter.rewrite(TRACE, NARRATION)
    assert (done.fate, done.text) == ("unreachable", NARRATION)
    assert final_value(done.text).value == "[2, 2]"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"retries": -1}, "retries"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, field):
    with pytest.raises(ValueError, match=field):
        Rewriter(**settings)
