"""The server: clients on a port of localhost, or one on standard input and output."""

import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO

from cwm_jax.worldmodel.debugger.dap.adapter import Adapter
from cwm_jax.worldmodel.debugger.dap.wire import BadMessage, read_messages, write_message

_AT_ONCE = ("pause", "disconnect", "terminate")  # stop a command that is under way


def serve(where: str, make: Callable[[], Adapter]) -> int:
    """Serves until interrupted, or until the client leaves where it has standard input and output to itself.

    Args:
      where: a port, 0 for any free one, or `-`.
      make: an adapter for each client.

    Raises:
      ValueError: `where` is neither. OSError: the port is taken.
    """
    if where == "-":
        out = sys.stdout.buffer
        sys.stdout = sys.stderr  # whatever prints must not print among the messages
        _converse(sys.stdin.buffer, out, make())
        return 0
    if not where.isdigit() or int(where) > 65535:
        raise ValueError(f"--dap {where}: write a port from 0 to 65535, or - for standard input and output")
    with socket.create_server(("127.0.0.1", int(where))) as server:
        print(f"debug adapter on 127.0.0.1:{server.getsockname()[1]}", flush=True)
        while True:
            client, _ = server.accept()
            threading.Thread(target=_serve_one, args=(client, make), daemon=True).start()


def _serve_one(client: socket.socket, make: Callable[[], Adapter]) -> None:
    try:
        with client, client.makefile("rb") as coming, client.makefile("wb") as going:
            _converse(coming, going, make())
    except OSError as error:  # the client is gone: nobody to tell, others go on
        print(f"debug: a client left: {error}", file=sys.stderr)


def _converse(coming: BinaryIO, going: BinaryIO, adapter: Adapter) -> None:
    """Answers a client until it leaves. A second thread works, so that a pause reaches a command under way."""
    requests: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
    worker = threading.Thread(target=_work, args=(requests, going, adapter), daemon=True)
    worker.start()
    try:
        for message in read_messages(coming):
            if isinstance(message, BadMessage):
                print(f"debug: ignored what is no message: {message}", file=sys.stderr)
                continue
            command = message.get("command")
            if command in _AT_ONCE:
                adapter.paused = True
            requests.put(message)
            if command == "disconnect":
                break
    finally:  # also where the client broke the connection off
        adapter.paused = True
        requests.put(None)
        worker.join()


def _work(requests: "queue.SimpleQueue[dict | None]", going: BinaryIO, adapter: Adapter) -> None:
    try:
        while (request := requests.get()) is not None:
            for message in adapter.handle(request):
                write_message(going, message)
    except (OSError, ValueError) as error:  # the latter where its file is closed already
        print(f"debug: a client left: {error}", file=sys.stderr)
