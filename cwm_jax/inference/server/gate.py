"""What every request passes: the token, the time it may take, and the count of it."""

import asyncio
import hmac
import time
from collections.abc import Sequence

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cwm_jax.inference.served import Limits
from cwm_jax.inference.server.errors import ApiError
from cwm_jax.inference.server.meters import Meters

_GRACE = 5.0  # seconds in which an answer that took too long can still say so


class Gate:
    """ASGI middleware.

    Args:
      app: what stands behind.
      limits: of time.
      token: what `/v1` asks for; None asks for nothing.
      meters: where requests are counted.
      paths: those that are counted each by itself.
    """

    def __init__(self, app: ASGIApp, limits: Limits, token: str | None, meters: Meters, paths: Sequence[str]):
        self._app, self._limits, self._meters, self._paths = app, limits, meters, set(paths)
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            async with asyncio.timeout(self._limits.seconds + _GRACE):
                self._check(scope)
                await self._app(scope, receive, sending)
        except ApiError as error:
            await error.response()(scope, receive, sending)
        except ClientDisconnect:
            status = 499
        except TimeoutError:
            if status:
                raise  # the client does not read; its connection is closed
            await ApiError(504, f"{self._limits.seconds:g} s were not enough; send less").response()(
                scope, receive, sending
            )
        except Exception:
            status = 500  # told by the server's last resort, around all of this
            raise
        finally:
            if status in (0, 499):
                self._meters.gone()
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._meters.request(path, status or 499, time.monotonic() - began)

    def _check(self, scope: Scope) -> None:
        """Raises ApiError unless the request may pass; `/health` and `/metrics` are for all."""
        if self._token is None or not scope["path"].startswith("/v1"):
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, token = given.partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise ApiError(
                401, "Authorization: send the header with `Bearer TOKEN`", "Authorization", "invalid_api_key"
            )
