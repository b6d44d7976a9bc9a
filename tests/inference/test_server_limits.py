"""What clients must not be able to do to each other, or to the server."""

import asyncio
import http.client
import json
import signal
import socket
import threading
import time

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served_models import SHAPES, Server, one_device, write_served

from cwm_jax.inference.request import Request
from cwm_jax.inference.served import Serve, load
from cwm_jax.inference.server.thread import EngineThread, TooSlow

TOKEN = "geheim"
BODY = 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_served(tmp_path_factory.mktemp("limited") / "tiny")


@pytest.fixture(scope="module")
def server(folder):
    limits = (f"--gin.Limits.body={BODY}", "--gin.Limits.drain=60.0")
    server = Server(folder, one_device(), "--token", TOKEN, *limits)
    yield server
    server.process.kill()


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0, timeout=300)


def post(server, body, path="/v1/completions", **headers):
    """Status, headers and content of a raw request."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=300)
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"} | headers
    connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in given.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, dict(response.headers), content


def metrics(server) -> dict[str, float]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def idle(server) -> dict[str, float]:
    """The metrics once nothing runs or waits."""
    for _ in range(1200):
        found = metrics(server)
        if found["cwm_running"] == found["cwm_waiting"] == 0:
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_without_the_token_nothing_is_said(server):
    for wrong in ("", "Bearer", "Bearer gehei", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ünï".encode()):
        status, headers, content = post(server, {"prompt": "a"}, Authorization=wrong)
        assert status == 401 and headers["www-authenticate"] == "Bearer"
        assert json.loads(content)["error"]["type"] == "authentication_error"
    assert metrics(server)["cwm_slots"] == SHAPES.slots


FIELDS = (
    "prompt", "messages", "model", "max_tokens", "temperature", "top_p", "n", "seed", "stop", "stream", "echo",
    "tools", "tool_choice", "stop_token_ids", "prompt_logprobs", "logit_bias", "reasoning", "role", "content", "type",
    "logprobs", "function", "name", "parameters", "top_logprobs", "best_of", "ignore_eos", "return_token_ids",
    "stream_options",
)  # fmt: skip
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 400)
    | st.sampled_from([-1, 2**63, 10**30, 1e300, 0.5])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
sane = st.fixed_dictionaries(
    {"prompt": st.text(max_size=4) | st.lists(st.integers(0, 300), max_size=4), "max_tokens": st.integers(0, 3)}
) | st.fixed_dictionaries(
    {"messages": st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=4)}), max_size=2),
     "max_tokens": st.integers(1, 3), "reasoning_effort": st.just("none")}
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_body_is_an_error_of_the_server_s_own(data, server):
    odd = data.draw(st.dictionaries(st.sampled_from(FIELDS), anything, max_size=3))
    body = data.draw(st.just(odd) | sane.map(lambda body: body | odd) | anything)
    path = data.draw(st.sampled_from(["/v1/completions", "/v1/chat/completions"]))
    raw = json.dumps(body).encode()
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))] + data.draw(st.binary(max_size=3))
    status, _, content = post(server, raw, path)
    assert status in (200, 400, 404), content
    if status != 200:
        error = json.loads(content)["error"]
        assert set(error) == {"message", "type", "param", "code"} and len(error["message"]) > 10
        assert len(error["message"]) < 600


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"{", 400, ["the body is no JSON", "send one JSON object"]),
        ({"max_tokens": 3}, 400, ["prompt is missing"]),
        ({"prompt": "a", "max_tokens": "x"}, 400, ["max_tokens='x'", "valid integer"]),
        ({"prompt": "a", "best": 4}, 400, ["best=4", "no such field"]),
        ({"prompt": "a", "top_k": 4}, 400, ["top_k=4", "cannot do that", "send -1 or 0"]),
        ({"prompt": "a", "prompt_logprobs": 9}, 400, ["prompt_logprobs=9", f"at most {SHAPES.top_logprobs}"]),
        ({"prompt": "a", "stop": ["x"] * 17}, 400, ["stop="]),
        ({"prompt": "a", "frequency_penalty": 1}, 400, ["frequency_penalty=1", "cannot do that", "send 0"]),
        ({"prompt": "a", "temperature": -1}, 400, ["temperature=-1", "greater than or equal to 0"]),
        ({"prompt": [5, 100_000]}, 400, ["prompt=100000", "ids are from 0"]),
        ({"prompt": ""}, 400, ["it has no token"]),
        ({"prompt": "a", "max_tokens": 1000}, 400, ["max_tokens=1000", f"at most {SHAPES.max_length}"]),
        ({"prompt": "a", "n": 1000}, 400, ["n=1000", "ask for fewer"]),
        ({"prompt": "a", "stop_token_ids": list(range(20))}, 400, ["stop_token_ids=", "at most 5"]),
        ({"prompt": "a", "logprobs": 9}, 400, ["logprobs=9", f"at most {SHAPES.top_logprobs}"]),
        ({"prompt": "a", "stream": True, "prompt_logprobs": 0}, 400, ["stream=True"]),
        ({"prompt": "a" * BODY}, 413, [f"larger than {BODY:,} bytes"]),
    ],
)
def test_errors_name_the_field_the_value_and_the_fix(body, status, told, server):
    found, _, content = post(server, body)
    assert found == status and all(part in json.loads(content)["error"]["message"] for part in told), content


def test_pages_of_others_cannot_post_here(server):
    assert post(server, {"prompt": "a"}, Content_Type="text/plain")[0] == 415


def test_a_full_queue_is_told_at_once_and_leaves_nothing_behind(client, server):
    with pytest.raises(openai.RateLimitError) as refused:
        client.completions.create(model="tiny", prompt="a", n=SHAPES.queue + SHAPES.slots + 20, max_tokens=5)
    assert int(refused.value.response.headers["retry-after"]) >= 1 and refused.value.code == "queue_full"
    idle(server)
    assert client.completions.create(model="tiny", prompt="a", max_tokens=1).choices


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slots(stream, server):
    before = idle(server)
    body = json.dumps({"prompt": "a", "n": 60, "max_tokens": 310, "stream": stream, "ignore_eos": True}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n".encode() + body)
        if stream:
            assert b"200 OK" in connection.recv(1000)
        else:
            while metrics(server)["cwm_running"] == 0:
                time.sleep(0.01)
    after = idle(server)
    assert after["cwm_tokens_made_total"] - before["cwm_tokens_made_total"] < 60 * 310
    assert after['cwm_pages_free{group="0"}'] == before['cwm_pages_free{group="0"}']


def test_a_client_that_does_not_read_is_cancelled(folder):
    """Here beside the engine: what sockets hold back is not ours to say."""
    served = load(Serve(str(folder), engine=SHAPES))

    async def work():
        thread = EngineThread(served, unread=20)
        thread.start()
        slow = await thread.submit([Request((1, 2), 300)], seconds=300, streamed=True)
        quick = await thread.submit([Request((1, 2), 15)], seconds=300, streamed=True)  # fewer than may wait unread
        events = [event async for some in quick for event in some]
        while served.engine.busy:
            await asyncio.sleep(0.01)
        with pytest.raises(TooSlow):
            async for _ in slow:
                pass
        late = await thread.submit([Request((1, 2), 300)], seconds=0.0, streamed=True)
        with pytest.raises(TimeoutError):
            async for _ in late:
                await asyncio.sleep(0.05)
        late.close()
        thread.stop()
        return events

    events = asyncio.run(work())
    assert len(events) == 16 and served.engine.counts.made < 2 * 300


def test_it_stops_when_told_and_lets_running_requests_end(server, client):
    """The last test of this server."""
    parts, begun = [], threading.Event()

    def read():
        for chunk in client.completions.create(
            model="tiny", prompt="a", max_tokens=300, stream=True, seed=1, extra_body={"ignore_eos": True}
        ):
            parts.append(chunk.choices[0])
            begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(60)
    server.process.send_signal(signal.SIGTERM)
    reader.join(60)
    assert parts[-1].finish_reason == "length"
    status, said = server.stop()
    assert status == 0 and "Traceback" not in said and "ERROR" not in said, said
