"""A client from the package index (dap-python) and the protocol's own schema (from debugpy) judge the server."""

import json
from pathlib import Path

import debugpy
from dap import Client
from dap.handler import Handler
from jsonschema import Draft4Validator

_SCHEMA = Path(debugpy.__file__).parent / "_vendored/pydevd/_pydevd_bundle/_debug_adapter/debugProtocol.json"
_DEFINITIONS = json.loads(_SCHEMA.read_text())["definitions"]


def check(message):
    """Fails unless a message is what the protocol's schema says."""
    if message["type"] == "event":
        kind = message["event"][0].upper() + message["event"][1:] + "Event"
    elif message["success"]:
        kind = message["command"][0].upper() + message["command"][1:] + "Response"
    else:
        kind = "ErrorResponse"
    assert kind in _DEFINITIONS, kind
    Draft4Validator({"$ref": f"#/definitions/{kind}", "definitions": _DEFINITIONS}).validate(message)


class _Handler(Handler):
    """As the package's, where that is at odds with the schema: it takes the empty body of an acknowledgement for a
    whole response, and the numbers of breakpoints that were hit and of targets for texts."""

    def handle_response(self, response):
        if response.success and not response.body:
            self.client._pending_requests.pop(response.request_seq)
            return response
        if response.success and response.command == "gotoTargets":
            for target in response.body["targets"]:
                target["id"] = str(target["id"])
        return super().handle_response(response)

    def handle_event(self, event):
        if isinstance(event.body, dict) and "hitBreakpointIds" in event.body:
            event.body["hitBreakpointIds"] = [str(number) for number in event.body["hitBreakpointIds"]]
        return super().handle_event(event)

    def _parse_message(self, data):
        check(data)
        self.client.seen.append(data)
        return super()._parse_message(data)


class Editor:
    """A connected editor; its attributes are the requests of the client, sent and answered."""

    def __init__(self, going, coming):
        self._going, self._coming = going, coming
        self.client = Client("cwm", lines_start_at1=True)
        self.client.handler = _Handler(self.client)
        self.client.seen = self.seen = []
        self._unread = []
        self.capabilities = self._answer()

    def __getattr__(self, name):
        def request(*arguments, **named):
            getattr(self.client, name)(*arguments, **named)
            return self._answer()

        return request

    def send(self, command, arguments=None):
        """Any request; its response."""
        self.client.send_request(command, arguments)
        return self._answer()

    def event(self, name):
        """The body of the next event of this name; others before it are passed over."""
        while True:
            for index, message in enumerate(self._unread):
                if message["type"] == "event" and message["event"] == name:
                    del self._unread[: index + 1]
                    return message["body"]
            self._receive()

    def stop(self):
        """Where it stopped: the event, and file line and function of the top of the stack."""
        event = self.event("stopped")
        top = self.stack_trace(event["threadId"]).stackFrames[0]
        ended = event.get("description", "").startswith("the program has returned")
        return "end" if ended else event["reason"], top.line, top.name

    def locals(self, frame=None):
        """The locals of a stack frame, by name."""
        frame = frame or self.stack_trace(1).stackFrames[0].id
        scope = self.scopes(frame).scopes[0]
        return {each.name: each for each in self.variables(scope.variablesReference).variables}

    def _answer(self):
        """What the client makes of the response: its body, or the response itself where it has none or failed."""
        waiting = max(self.client._pending_requests)
        self._going.write(self.client.send())
        self._going.flush()
        while waiting in self.client._pending_requests:
            answers = self._receive()
        return answers[-1]

    def _receive(self):
        before = len(self.seen)
        data = self._coming.read1(1 << 16)
        assert data, "the server closed the connection"
        answers = list(self.client.receive(bytes(data)))
        new = self.seen[before:]
        self._unread += new
        return [answer for answer, message in zip(answers, new, strict=True) if message["type"] == "response"]
