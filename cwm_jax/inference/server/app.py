"""The HTTP side: routes, what goes in and what comes out. Starlette and pydantic are all it takes (our choice: FastAPI
would add a layer whose errors are not OpenAI's)."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cwm_jax.inference.request import QueueFull
from cwm_jax.inference.served import Limits, Served
from cwm_jax.inference.server.bodies import ChatBody, CompletionBody
from cwm_jax.inference.server.completions import Completions
from cwm_jax.inference.server.conversations import Conversation
from cwm_jax.inference.server.errors import ApiError, invalid
from cwm_jax.inference.server.gate import Gate
from cwm_jax.inference.server.meters import Clock, Meters
from cwm_jax.inference.server.pieces import Piece, Spoken, joined, pieces
from cwm_jax.inference.server.thread import Answers, EngineFailed, EngineThread, TooSlow

T = TypeVar("T")
_JSON = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}


def make_app(served: Served, thread: EngineThread, limits: Limits, token: str | None, created: int) -> Starlette:
    """The ASGI application.

    Args:
      served: the model.
      thread: its engine at work.
      limits: of every client.
      token: what `/v1` asks for as `Authorization: Bearer TOKEN`; None asks for nothing.
      created: when the model began to be served, in seconds of the epoch.
    """
    meters = Meters(served.engine)
    site = Site(served, thread, limits, meters, created)
    routes = [
        Route("/v1/completions", site.completions, methods=["POST"]),
        Route("/v1/chat/completions", site.conversations, methods=["POST"]),
        Route("/v1/models", site.models),
        Route("/v1/models/{name:path}", site.models),
        Route("/health", site.health),
        Route("/metrics", site.metrics),
    ]
    gate = Middleware(Gate, limits=limits, token=token, meters=meters, paths=[route.path for route in routes])
    handlers = {ApiError: _refusal, HTTPException: _no_such_thing, Exception: _own_fault}
    return Starlette(routes=routes, middleware=[gate], exception_handlers=handlers)


class Site:
    """What stands behind the routes."""

    def __init__(self, served: Served, thread: EngineThread, limits: Limits, meters: Meters, created: int):
        self._served, self._thread, self._limits = served, thread, limits
        self._meters, self._created = meters, created

    async def completions(self, request: Request) -> Response:
        return await self._answer(request, CompletionBody, Completions)

    async def conversations(self, request: Request) -> Response:
        return await self._answer(request, ChatBody, Conversation)

    async def models(self, request: Request) -> Response:
        if (name := request.path_params.get("name")) is not None:
            self._check_model(name)
        engine = self._served.engine
        model = {
            "id": self._served.name,
            "object": "model",
            "created": self._created,
            "owned_by": "cwm_jax",
            "max_model_len": engine.config.max_length,
            "weights": self._served.weights,
            "weights_version": engine.version,
        }
        return JSONResponse(model if name is not None else {"object": "list", "data": [model]})

    async def health(self, request: Request) -> Response:
        if self._thread.failed:
            raise ApiError(503, f"the engine stopped: {self._thread.failed}")
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return PlainTextResponse(self._meters.text(), media_type="text/plain; version=0.0.4")

    async def _answer(self, request: Request, kind: type, work: type) -> Response:
        raw, clock = await _read(request, self._limits.body), self._meters.clock()
        # Reading, encoding and writing what is large takes long; others are answered meanwhile.
        body = await asyncio.to_thread(_validated, kind, raw)
        if body.model is not None:
            self._check_model(body.model)
        job = await asyncio.to_thread(work, body, self._served, self._limits)
        answers = await _unless_gone(request, self._submit(job))
        if body.stream:
            return _Stream(_events(job, self._spoken(job, answers, clock)), answers)
        try:
            return await _unless_gone(request, _whole(job, self._spoken(job, answers, clock)))
        except TimeoutError:
            raise ApiError(504, f"no answer in {self._limits.seconds:g} s; ask for fewer tokens") from None
        except EngineFailed as error:
            raise ApiError(503, f"no answer: {error}") from None
        finally:
            answers.close()

    async def _submit(self, job: Completions | Conversation) -> Answers:
        try:
            return await self._thread.submit(job.asked.requests, self._limits.seconds, bool(job.body.stream))
        except QueueFull as error:
            raise ApiError(429, f"too many requests wait: {error}", code="queue_full") from None
        except ValueError as error:
            raise ApiError(400, str(error)) from None
        except EngineFailed as error:
            raise ApiError(503, f"no answer: {error}") from None

    async def _spoken(
        self, job: Completions | Conversation, answers: Answers, clock: Clock
    ) -> AsyncIterator[tuple[int, Piece]]:
        spoken = [Spoken(self._served.vocabulary, job.asked.ends) for _ in job.asked.requests]
        async for index, piece in pieces(answers, spoken):
            clock.made(index, len(piece.tokens), spoken[index].over)
            yield index, piece

    def _check_model(self, name: str) -> None:
        if name != self._served.name:
            message = f"there is no model {name!r} here; write {self._served.name!r}, or leave model out"
            raise ApiError(404, message, "model", "model_not_found")


class _Stream(StreamingResponse):
    """Server-sent events; when they end, however they end, so does the work for them."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], answers: Answers):
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.close()


async def _events(job: Completions | Conversation, spoken: AsyncIterator[tuple[int, Piece]]) -> AsyncIterator[str]:
    """The answers as server-sent events; an error after the first of them is one too."""
    made = [0] * len(job.asked.requests)
    try:
        for chunk in job.first():
            yield _event(chunk)
        async for index, piece in spoken:
            made[index] += len(piece.tokens)
            for chunk in job.chunk(index, piece):
                yield _event(chunk)
        if job.body.stream_options and job.body.stream_options.include_usage:
            yield _event(job.last(made))
    except (TimeoutError, TooSlow, EngineFailed) as error:
        status = {TimeoutError: 504, TooSlow: 429}.get(type(error), 503)
        yield _event(ApiError(status, str(error) or "the answer took too long; ask for fewer tokens").body)
    yield "data: [DONE]\n\n"


async def _whole(job: Completions | Conversation, spoken: AsyncIterator[tuple[int, Piece]]) -> Response:
    """The answers as one object."""
    gathered: list[list[Piece]] = [[] for _ in job.asked.requests]
    async for index, piece in spoken:
        gathered[index].append(piece)
    return await asyncio.to_thread(lambda: _json(job.whole(list(map(joined, gathered)))))


def _validated(kind: type[T], raw: bytes) -> T:
    """The body; raises ApiError where it is none."""
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise invalid(error) from None


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What `work` gives, unless its client leaves: then it is cancelled.

    Raises:
      ApiError: the client left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, "the client left")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read(request: Request, most: int) -> bytes:
    """The body.

    Raises:
      ApiError: it is too large, or no JSON by its header.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # also what keeps a page in a browser from posting here
        raise ApiError(415, f"Content-Type={kind!r}: send application/json", "Content-Type")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise ApiError(413, f"the body is larger than {most:,} bytes; send less", code="body_too_large")
    return body


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, **_JSON)}\n\n"


def _json(content: dict[str, Any]) -> Response:
    return Response(json.dumps(content, **_JSON), media_type="application/json")


async def _refusal(request: Request, error: ApiError) -> Response:
    return error.response()


async def _no_such_thing(request: Request, error: HTTPException) -> Response:
    told = {404: "there is no such address", 405: f"{request.method} does not work here"}.get(error.status_code)
    message = f"{request.url.path}: {told or error.detail}; see /v1/completions, /v1/chat/completions, /v1/models"
    return ApiError(error.status_code, message).response()


async def _own_fault(request: Request, error: Exception) -> Response:
    return ApiError(500, "the server met an error of its own; its log tells more").response()
