"""A server that answers from what programs really do: the perfect model, and what a test makes of it."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cwm_jax.text import special_tokens as st
from cwm_jax.text.llama3 import Llama3Vocabulary
from cwm_jax.tracing import Frame, Isolation, Trace, record
from cwm_jax.tracing.language import frame_segments, parse
from cwm_jax.tracing.wrap import wrap

_MISSING = 404, {"error": {"message": "no such path"}}
EVENT = re.compile(r"<\|(?:call|return)_sep\|>$")


def byte_vocabulary(folder: Path) -> Path:
    """The file of a vocabulary in which every byte is a token, beside CWM's special tokens."""
    path = folder / "ranks"
    lines = (b"%s %d" % (base64.b64encode(bytes([byte])), byte) for byte in range(256))
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@lru_cache(maxsize=256)
def truth(context: str) -> Trace:
    return record(context, isolation=Isolation.LIMITS_ONLY)


class Oracle:
    """What the server says, and what tests change about it.

    Attributes:
      changes: what becomes of the real trace of a context.
      draws: argument lists that call frames are drawn with, by the order of seeds; then come those of `inputs`.
      inputs: of each function, by its code: the arguments that are right.
      says: what becomes of an answer in words.
      surprises: a token of a forced document is not the likeliest where this says so of (context, index of the frame).
      reads_symbols, returns_ids, tells_ranks, talks, completes: what kind of server it is.
      longest: tokens of an answer; what is asked for would be short for a vocabulary of bytes.
      refuses: fields of a request that it does not know.
      asked: the requests, as they came.
    """

    def __init__(self, vocabulary: Path, inputs: dict[str, str]):
        self.vocabulary = Llama3Vocabulary.load(vocabulary)
        self.inputs = inputs
        self.changes: Callable[[Trace], Trace] = lambda trace: trace
        self.draws: tuple[str, ...] = ()
        self.says: Callable[[str], str] = lambda text: text
        self.surprises: Callable[[str, int], bool] = lambda context, frame: False
        self.reads_symbols = self.returns_ids = self.tells_ranks = self.talks = self.completes = True
        self.longest: int | None = None
        self.refuses: set[str] = set()
        self.asked: list[dict] = []

    def reply(self, path: str, body: dict) -> tuple[int, dict]:
        self.asked.append(body)
        if unknown := self.refuses & body.keys():
            return 400, {"error": {"message": f"unknown field {min(unknown)}", "type": "invalid_request_error"}}
        if path == "/v1/chat/completions":
            return self._chat(body) if self.talks else _MISSING
        if not self.completes:
            return _MISSING
        prompt = body["prompt"] if isinstance(body["prompt"], str) else self.vocabulary.decode(body["prompt"])
        if body.get("prompt_logprobs") is not None:
            return 200, self._choice(body, "", "length", prompt_logprobs=self._forced(prompt, body["prompt"]))
        text, finish = self._goes_on(prompt, body), "stop"
        ids = self._ids(text)
        stops = set(body.get("stop_token_ids", ())) | {self.vocabulary.eos_id}
        if found := [index for index, token in enumerate(ids) if token in stops]:
            ids = ids[: found[0] + 1]
        for stop in body.get("stop") or ():
            text = text.partition(stop)[0]
        if self.longest is not None and len(ids) > self.longest:
            ids, finish = ids[: self.longest], "length"
            text = self.vocabulary.decode(ids)
        more = {}
        if body.get("return_token_ids") and self.returns_ids:
            text = self.vocabulary.decode(ids)
            more = {"token_ids": ids, "logprobs": {"token_logprobs": [-0.001] * len(ids)}}
        return 200, self._choice(body, text.removesuffix(st.END_OF_TEXT), finish, **more)

    def _choice(self, body: dict, text: str, finish: str, **more) -> dict:
        length = len(self._ids(body["prompt"]) if isinstance(body["prompt"], str) else body["prompt"])
        usage = {"prompt_tokens": length, "completion_tokens": len(self._ids(text)), "total_tokens": 0}
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None, **more}
        head = {"id": "1", "object": "text_completion", "created": 0, "model": "oracle"}
        return {**head, "choices": [choice], "usage": usage}

    def _ids(self, text: str) -> list[int]:
        if not self.reads_symbols:
            return self.vocabulary.encode(text)
        return self.vocabulary.encode_segments(re.split(f"({st.TRACE_TOKEN_PATTERN.pattern})", text))

    def _goes_on(self, prompt: str, body: dict) -> str:
        if st.FRAME_SEP * 2 in prompt:
            return ""
        if not prompt.startswith(st.BEGIN_OF_TEXT + st.TRACE_CONTEXT_START):
            return self.says(self._in_words(prompt))
        context, _, given = prompt.partition(st.TRACE_CONTEXT_START)[2].partition(st.FRAME_SEP)
        frames = parse(EVENT.sub("", prompt)).frames
        if "main()" in context:
            trace = self.changes(truth(context))
        else:
            code = context.replace("  # << START_OF_TRACE", "").strip("\n").rpartition("\nassert ")[0]
            draws = (*self.draws, self.inputs[code])
            arguments = draws[min(body["seed"], len(draws) - 1)]
            if frames:
                arguments = ", ".join(value for _, value in frames[0].locals)
            trace = truth(wrap(code, "f", arguments))
            trace = self.changes(replace(trace, frames=trace.frames[2:-1]))
        if given.endswith(st.RETURN_SEP):
            following: tuple[Frame, ...] = (trace.frames[-1],)
        else:
            following = trace.frames[len(frames) :]
        text = "".join(piece for frame in following for piece in frame_segments(frame)) + st.END_OF_TEXT
        return text.removeprefix(EVENT.search(given)[0]) if EVENT.search(given) else text

    def _in_words(self, prompt: str) -> str:
        """The assertion that the last problem asks for: an output by running the function, an input as it is known."""
        code, _, asked = prompt.rpartition("[PYTHON]\n")[2].partition("\n[/PYTHON]")[0].rpartition("\nassert ")
        if asked.endswith(" == ??"):
            call, space = asked.removesuffix(" == ??"), {}
            exec(code, space)
            asked = f"{call} == {eval(call, space)!r}"
        return f"assert {asked.replace('f(??)', f'f({self.inputs.get(code)})')}\n[/ANSWER]"

    def _forced(self, prompt: str, ids: list[int]) -> list[dict | None]:
        context = prompt.partition(st.TRACE_CONTEXT_START)[2].partition(st.FRAME_SEP)[0]
        told: list[dict | None] = [None]
        frame = -1
        for token in ids[1:]:
            surprised = self.surprises(context, frame)
            own = {"logprob": -2.0 if surprised else -1e-5}
            if self.tells_ranks:
                own["rank"] = 2 if surprised else 1
            told.append({str(token): own})
            frame += token == self.vocabulary.token_id(st.FRAME_SEP)  # the first one ends the context
        return told

    def _chat(self, body: dict) -> tuple[int, dict]:
        text = self.says(self._in_words(body["messages"][-1]["content"]))
        message = {"role": "assistant", "content": f"<think>\n[ANSWER] 0 [/ANSWER]?\n</think>\n[ANSWER]\n{text}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        head = {"id": "1", "object": "chat.completion", "created": 0, "model": "oracle"}
        return 200, {**head, "choices": [choice], "usage": usage}

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The URL of the server while the context lasts."""
        oracle = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                models = {"object": "list", "data": [{"id": "oracle", "object": "model", "created": 0}]}
                self._send(*(200, models) if self.path == "/v1/models" else _MISSING)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(*oracle.reply(self.path, body))

            def _send(self, status: int, content: dict):
                raw = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def last_value(trace: Trace, value: str) -> Trace:
    """The trace with another value returned by the entry."""
    return replace(trace, frames=(*trace.frames[:-1], replace(trace.frames[-1], value=value)))
