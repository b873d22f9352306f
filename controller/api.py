"""The controller's local API: a unix socket, one JSON object a line in, one a line out. Knows no commands
itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from controller.green import eventlet, green_socket

Handler = Callable[[dict[str, Any]], dict[str, Any]]
_LONGEST_LINE = 65536


def listen(path: str) -> Any:
    """Bind the socket; a socket file left by a dead controller is replaced. Raises OSError."""
    if os.path.exists(path):
        os.unlink(path)
    server = green_socket.socket(green_socket.AF_UNIX, green_socket.SOCK_STREAM)
    server.bind(path)
    server.listen(16)
    return server


def serve(server: Any, handle: Handler) -> None:
    """Answer clients for ever, each in a green thread; `handle` raises ValueError for a wrong request."""
    while True:
        client, _ = server.accept()
        eventlet.spawn_n(_converse, client, handle)


def _converse(client: Any, handle: Handler) -> None:
    with client, client.makefile("rwb") as lines:
        try:
            while line := lines.readline(_LONGEST_LINE):
                lines.write(json.dumps(answer(line, handle)).encode() + b"\n")
                lines.flush()
        except OSError:
            pass  # the client has gone; nobody is left to tell


def answer(line: bytes, handle: Handler) -> dict[str, Any]:
    """The reply to one line."""
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError("expected one JSON object a line")
        return {"ok": True, **handle(request)}
    except ValueError as error:
        return {"ok": False, "error": str(error)}
