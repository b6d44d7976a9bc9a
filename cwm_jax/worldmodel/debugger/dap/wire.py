"""Messages as bytes: a header with the length, an empty line, JSON."""

import json
from collections.abc import Iterator
from typing import BinaryIO

_LONGEST = 8 << 20  # bytes of a message; a client has no reason to send more
_LONGEST_HEADER = 4096


class BadMessage(ValueError):
    """Bytes that are no message; those that follow can still be read."""


def write_message(stream: BinaryIO, message: dict) -> None:
    """Writes one message and flushes."""
    body = json.dumps(message).encode()
    stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    stream.flush()


def read_messages(stream: BinaryIO) -> Iterator[dict | BadMessage]:
    """Messages up to the end of the stream; what is none comes as the error that says so."""
    while True:
        length, header = None, b""
        while (line := stream.readline(_LONGEST_HEADER)).strip():
            header += line
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
        if not line:
            return
        if length is None:
            if header:
                yield BadMessage(f"no Content-Length in the header {header[:80]!r}")
            continue
        if length > _LONGEST:
            yield BadMessage(f"a message of {length:,} bytes; at most {_LONGEST:,} are read")
            _skip(stream, length)
            continue
        body = stream.read(length)
        if len(body) < length:
            return
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            yield BadMessage(f"no JSON: {error}")
            continue
        yield message if isinstance(message, dict) else BadMessage(f"no JSON object: {body[:80]!r}")


def _skip(stream: BinaryIO, length: int) -> None:
    while length > 0 and (chunk := stream.read(min(length, 1 << 16))):
        length -= len(chunk)
