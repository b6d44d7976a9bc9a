"""Errors as clients of the OpenAI API know them."""

import re
from itertools import takewhile
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse

_KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    499: "client_closed_request",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}
_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "1"},  # seconds: a slot is free again after a few steps
    504: {"x-should-retry": "false"},  # OpenAI's client would have the long answer made three times
}


class ApiError(Exception):
    """What a client is told instead of an answer.

    Args:
      status: of HTTP.
      message: what is wrong and what to do.
      param: the field of the request.
      code: a name that programs look for.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of it."""
        kind = _KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, _HEADERS.get(self.status))


def refused(field: str, value: Any, fix: str, code: str | None = None) -> ApiError:
    """The error of a field with a value that cannot be."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
    return ApiError(400, f"{field}={shown}: {fix}", field, code)


def invalid(error: ValidationError) -> ApiError:
    """The first thing that is wrong with a body."""
    errors = error.errors(include_url=False)
    first, field = errors[0], _field(errors[0]["loc"])
    match first["type"]:
        case "json_invalid":
            return ApiError(400, f"the body is no JSON: {first['ctx']['error']}; send one JSON object", None, "no_json")
        case "missing":
            return ApiError(400, f"{field} is missing; send it", field)
        case "extra_forbidden":
            return refused(field, first["input"], "there is no such field here; leave it out", "unknown_field")
    reasons = dict.fromkeys(one["msg"].removeprefix("Value error, ") for one in errors if _field(one["loc"]) == field)
    return refused(field or "the body", first["input"], " or ".join(reasons))


def _field(place: tuple[int | str, ...]) -> str:
    """The field at a place; what follows it there are the kinds that it may have."""
    names = takewhile(lambda part: isinstance(part, int) or (re.fullmatch(r"[a-z_]+", part) and part != "str"), place)
    return ".".join(map(str, names))
