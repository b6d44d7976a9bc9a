"""A server as the world model: a debugger over it shows the real run, and says what a checkpoint here would say."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

import pytest

from cwm_jax.sandbox import Isolation
from cwm_jax.text import special_tokens as st
from cwm_jax.text.llama3 import Llama3Vocabulary
from cwm_jax.text.load import VOCABULARY
from cwm_jax.tracing.cwm_text import CwmText
from cwm_jax.tracing.language import EVENT_OF, TraceSyntaxError
from cwm_jax.tracing.sources import composed, strawberry
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.debugger import Program, Session
from cwm_jax.worldmodel.debugger.outcomes import Refused
from cwm_jax.worldmodel.models.choice import Choice
from cwm_jax.worldmodel.models.endpoint import Endpoint
from cwm_jax.worldmodel.models.local import LocalModel
from cwm_jax.worldmodel.models.model import Ask, CannotDo
from cwm_jax.worldmodel.predict import WorldModel
from cwm_jax.worldmodel.real import RealRun, paired

FORM = CwmText()
REAL = RealRun(Isolation.LIMITS_ONLY)
WORDS = """def g(n):
    if n == 2:
        raise ValueError("ünï ☃ 𝄞")
    return [k * n for k in (1, 2)]
def f(xs):
    seen = {}
    for x in xs:
        try:
            seen[x] = sum(g(x)) + len(g(x + 5))
        except ValueError as e:
            seen['n"o'] = str(e)
    return seen
"""
CONTEXTS = [wrap(WORDS, "f", "[1, 2, 3]"), *(s.generate(Random(7), 1).contexts()[0] for s in (strawberry, composed))]


class Right:
    """A server whose model is always right, streamed token by token; every byte is a token.

    Attributes:
      breaks: bytes of a stream after which the connection is lost; None for never.
      gone: streams whose client went away before their end.
      slow: it writes on only after a while.
    """

    def __init__(self, vocabulary):
        self._vocabulary = vocabulary
        self.breaks = None
        self.gone = 0
        self.slow = False
        right = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._whole({"object": "list", "data": [{"id": "right", "object": "model", "created": 0}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not body.get("stream"):  # whether names of control tokens are tokens
                    usage = {"prompt_tokens": 16, "completion_tokens": 1, "total_tokens": 17}
                    self._whole({"id": "1", "object": "text_completion", "created": 0, "choices": [], "usage": usage})
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    for count, chunk in enumerate(right.chunks(body)):
                        if count == right.breaks:
                            return
                        if right.slow and count % 50 == 49:
                            time.sleep(0.05)
                        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                    self.wfile.write(b"data: [DONE]\n\n")
                except OSError:
                    right.gone += 1

            def _whole(self, content):
                raw = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def chunks(self, body):
        in_ids = not isinstance(body["prompt"], str)
        prompt = self._vocabulary.decode(body["prompt"]) if in_ids else body["prompt"]
        context, _, given = prompt.partition(st.TRACE_CONTEXT_START)[2].partition(st.FRAME_SEP)
        pieces = [piece for piece in re.split(f"({st.TRACE_TOKEN_PATTERN.pattern})", given) if piece]
        asked = EVENT_OF[pieces.pop()] if pieces and pieces[-1] in EVENT_OF else None
        frames = []
        with pytest.raises(TraceSyntaxError):
            for told in FORM.told(context, pieces):
                frames.append(told.frame)
        (future,) = REAL.futures(context, frames, first=asked)
        answer = [*FORM.prefix(context, [each.frame for each in future.frames]), st.END_OF_TEXT][asked is not None :]
        for piece in answer:
            for token in self._vocabulary.encode_segments([piece]):
                text = self._vocabulary.decode([token])
                if not in_ids and len(piece.encode()) > len(piece):
                    text = piece if token == self._vocabulary.encode_segments([piece])[-1] else ""
                yield self._chunk(text, [token])
        yield self._chunk("", [], "stop")

    def _chunk(self, text, tokens, finish=None):
        logprobs = {"token_logprobs": [-0.5] * len(tokens), "tokens": [], "text_offset": [], "top_logprobs": []}
        choice = {"index": 0, "text": text, "token_ids": tokens, "finish_reason": finish, "logprobs": logprobs}
        return {"id": "1", "object": "text_completion", "created": 0, "model": "right", "choices": [choice]}

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("bytes") / "ranks"
    path.write_bytes(b"".join(b"%s %d\n" % (base64.b64encode(bytes([byte])), byte) for byte in range(256)))
    return path


@pytest.fixture
def server(path):
    server = Right(Llama3Vocabulary.load(path))
    yield server
    server.close()


@pytest.mark.parametrize("in_ids", [True, False], ids=["ids", "text"])
@pytest.mark.parametrize("context", CONTEXTS, ids=["words", "strawberry", "composed"])
def test_any_walk_over_a_server_shows_the_real_run(server, path, context, in_ids):
    model = WorldModel(Endpoint(server.url, vocabulary=path if in_ids else None))
    true = REAL.trace(context).frames
    rng = Random(5)
    session = Session(Program.of_context(context), model, REAL)
    while not session.ended:
        name = rng.choice(["step", "next", "return_", "out", "until", "reverse_step", "back"])
        try:
            getattr(session, name)()
        except Refused:
            assert name in ("reverse_step", "back")
        frames = [each.frame for each in session.frames]
        assert len(paired(true, frames).places) == len(frames)
        assert session.verify().index is None
    session.reset()
    session.continue_()
    assert tuple(each.frame for each in session.frames) == true
    assert [each.frame.line for each in session.frames] == [frame.line for frame in true]
    values = [p for each in session.frames for _, p in each.values]
    assert values and max(values) < 0.5  # a value is two quotes at least, each a token here


def test_a_stream_is_read_no_further_than_it_is_wanted(server, path):
    model = WorldModel(Endpoint(server.url, vocabulary=path))
    server.slow = True
    (future,) = model.futures(CONTEXTS[0], [], until=lambda new: len(new) == 2)
    assert len(future.frames) == 2 and not future.complete
    for _ in range(200):
        if server.gone:
            return
        time.sleep(0.05)
    raise AssertionError("the server still writes for nobody")


def test_of_several_streams_each_ends_when_its_reader_has_enough(server, path):
    model = Endpoint(server.url, vocabulary=path)
    server.slow = True
    asks = [Ask((*FORM.context(CONTEXTS[0]), "<|call_sep|>"), 5000, seed=seed) for seed in range(2)]
    with model.speak(asks) as (first, _):
        for _, _ in zip(range(3), first):
            pass
        for _ in range(200):
            if server.gone == 1:
                break
            time.sleep(0.05)
        assert server.gone == 1  # the other one still waits to be read


def test_a_lost_connection_is_an_error_and_the_session_stays(server, path):
    session = Session(Program.of_context(CONTEXTS[1]), WorldModel(Endpoint(server.url, vocabulary=path)), REAL)
    before = session.frames
    server.breaks = 3
    with pytest.raises(ConnectionError, match="broke"):
        session.step()
    assert session.frames == before
    server.breaks = None
    session.step()
    assert len(session.frames) == 2


def test_a_choice_names_one_model(path):
    with pytest.raises(ValueError, match="are those of a server; name it as endpoint"):
        Choice(vocabulary=path)
    with pytest.raises(ValueError, match="two models"):
        Choice(checkpoint=Path("runs/x"), endpoint="http://127.0.0.1:1")
    with pytest.raises(ConnectionError, match="does not answer"):
        Choice(endpoint="http://127.0.0.1:1").open()
    assert issubclass(CannotDo, ValueError)


def test_a_served_run_says_what_the_run_says(trained_run):
    command = [sys.executable, "-m", "cwm_jax", "serve", "--checkpoint", trained_run, "--port", "0"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = re.search(r"http://\S+/v1", process.stdout.readline())[0]
            served = WorldModel(Choice(endpoint=url, vocabulary=trained_run / "data" / VOCABULARY).open())
            here = WorldModel(LocalModel(trained_run))
            for context in CONTEXTS[1:]:
                frames = REAL.trace(context).frames[:4]
                asked = {"until": lambda new: len(new) == 3, "temperature": 1.0, "samples": 3, "seed": 9}
                for one, other in zip(served.futures(context, frames, **asked), here.futures(context, frames, **asked)):
                    assert frames_of(one) == frames_of(other)
                    assert one.logprob == pytest.approx(other.logprob, rel=1e-3)
        finally:
            process.terminate()


def frames_of(future):
    return [each.frame for each in future.frames]
