"""Requests in, responses and events out, whatever a client sends."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from cwm_jax.worldmodel.debugger.outcomes import Refused

Request = Callable[[Any, dict], Iterator[Any]]


class Conversation:
    """Answers requests in the order in which they come.

    Attributes:
      requests: by command a method that takes the arguments and gives first the body of the response, then the events
        that follow from it, as (name, body). What it raises before the first becomes the response.
    """

    requests: ClassVar[dict[str, Request]] = {}

    def __init__(self):
        self._sent = 0

    def handle(self, request: dict) -> Iterator[dict]:
        """The response to a request, and the events that follow from it. Never raises."""
        command, arguments = request.get("command"), request.get("arguments")
        answer = {"request_seq": request["seq"] if type(request.get("seq")) is int else 0}
        answer |= {"type": "response", "command": str(command)}
        try:
            if request.get("type") != "request":
                raise Refused(f"only requests are answered, not {request.get('type')!r}")
            known = self.requests.get(command) if isinstance(command, str) else None
            if known is None:
                raise Refused(f"{command!r} is not supported")
            steps = known(self, arguments if isinstance(arguments, dict) else {})
            yield self._numbered(answer | {"success": True, "body": next(steps)})
        except Exception as error:  # whatever a client sends, the next request is answered
            text = str(error) if isinstance(error, (ValueError, OSError, RuntimeError)) else f"bad request: {error!r}"
            yield self._numbered(answer | {"success": False, "message": text, "body": _error(text)})
            return
        try:
            for event, body in steps:
                yield self._numbered({"type": "event", "event": event, "body": body})
        except Exception as error:
            for event, body in self._told(f"{error}"):
                yield self._numbered({"type": "event", "event": event, "body": body})

    def _numbered(self, message: dict) -> dict:
        self._sent += 1
        return {"seq": self._sent} | message

    def _told(self, text: str) -> Iterator[Any]:
        yield "output", {"category": "important", "output": f"{text}\n"}


def _error(text: str) -> dict:
    return {"error": {"id": 1, "format": text.replace("{", "(").replace("}", ")"), "showUser": True}}
