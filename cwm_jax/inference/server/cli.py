"""The `serve` verb: a model behind the OpenAI API."""

import argparse
import asyncio
import signal
import socket
import sys
import time
from dataclasses import replace
from ipaddress import ip_address

from cwm_jax import config

_FAREWELL = 5  # seconds in which those whose requests could not end are told so


def main(argv: list[str]) -> int:
    """Runs `serve` with these arguments; 0 when it was told to stop, 1 if the engine failed."""
    files, overrides, rest = config.split_gin_flags(argv)
    parser = argparse.ArgumentParser(
        prog="python -m cwm_jax serve",
        description="Serve a model as the OpenAI API does: /v1/completions, /v1/chat/completions, /v1/models; /health "
        "answers 200 once it is ready, /metrics tells Prometheus. SIGTERM and Ctrl-C let running requests end first.",
        epilog="--gin_file=F reads a `Serve` configuration, such as experiments/cwm_32b/serve.gin; "
        "--gin.Class.field=VALUE overrides one value, such as --gin.EngineConfig.slots=64.",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="D",
        help="folder of a run, or of weights with their vocabulary; default: the newest run, else the project's model",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine alone")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0 takes a free one")
    parser.add_argument("--token", metavar="T", help="have /v1 ask for `Authorization: Bearer T`")
    arguments = parser.parse_args(rest)
    if not 0 <= arguments.port < 1 << 16:
        parser.error(f"--port {arguments.port}: ports are from 0, which takes a free one, to 65535")
    if arguments.token == "":
        parser.error("--token is empty; write one, or leave it out")
    listener = _bind(arguments.host, arguments.port)

    from cwm_jax.checkpoints.default import default_checkpoint
    from cwm_jax.inference.served import Serve, load

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # now: some of what was imported has a handler of its own
    serve = config.load(files, overrides, Serve)
    serve = replace(serve, checkpoint=arguments.checkpoint or serve.checkpoint or str(default_checkpoint()))
    served = load(serve)
    _warm_up(served)
    host = listener.getsockname()[0]
    if not _is_local(host) and arguments.token is None:
        print(f"serve: whoever reaches {host} may use this model; --token T asks who they are", file=sys.stderr)
    return asyncio.run(_serve(serve, served, listener, arguments.token))


async def _serve(serve, served, listener: socket.socket, token: str | None) -> int:
    """Answers until it is told to stop, or the engine fails."""
    import uvicorn

    from cwm_jax.inference.server.app import make_app
    from cwm_jax.inference.server.thread import EngineThread

    thread = EngineThread(served, serve.limits.unread)
    app = make_app(served, thread, serve.limits, token, int(time.time()))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",  # whatever else is installed: one way is tested
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=serve.limits.connections,
            timeout_graceful_shutdown=serve.limits.drain + _FAREWELL,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # the server raises again what it was stopped by: that is no failure
        signal.signal(number, lambda *_: None)

    def failed() -> None:
        server.should_exit = True

    async def attend() -> None:
        while not (server.started or server.should_exit):
            await asyncio.sleep(0.01)
        print(f"serving {served.name} at {_address(listener)}/v1", flush=True)
        while not server.should_exit:
            await asyncio.sleep(0.1)
        await asyncio.sleep(serve.limits.drain)
        thread.give_up("the server was told to stop; ask another one")

    thread.start(failed)
    attending = asyncio.create_task(attend())
    await server.serve(sockets=[listener])
    attending.cancel()
    thread.stop()
    if thread.failed:
        print(f"serve: the engine stopped: {type(thread.failed).__name__}: {thread.failed}", file=sys.stderr)
    return 1 if thread.failed else 0


def _bind(host: str, port: int) -> socket.socket:
    """A socket that has the address, and refuses connections as long as nobody listens.

    Raises:
      ValueError: it cannot be had.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ValueError(
            f"--host {host} --port {port}: {error}; name an address of this machine and a free port"
        ) from None
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_local(host: str) -> bool:
    return ip_address(host).is_loopback


def _warm_up(served) -> None:
    """Compiles all that requests need, before the first of them comes: a client would wait, and all others with it."""
    from cwm_jax.report.progress import progress

    with served.in_force(), progress("compiling", 100, unit="%") as bar:
        for share in served.engine.compile():
            bar.update(round(100 * share))
