"""The built-in application: a TCP server in the server node that sends and checks seeded bytes.

    python -m scenarios.app --name app --listen /run/app.sock

A connection begins with the client's line of JSON, which names the traffic and its seed; a relay in front may
hide every address. One thread for each connection. Emits `ready`, then `progress` for what clients send and
`served` at each connection's end. SIGTERM ends it.
"""

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from scenarios.events import Emitter
from scenarios.transfer import Order, Transfer, errno_name

LONGEST_HEADER = 4096
HEADER_S = 30.0


def read_header(sock: socket.socket) -> dict[str, Any]:
    """The client's line. Raises ValueError when it is none, OSError when the connection fails."""
    sock.settimeout(HEADER_S)
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)  # no further: the stream begins after it
        if not byte or len(line) > LONGEST_HEADER:
            raise ValueError("the connection did not begin with a line that asks for traffic")
        line += byte
    asked = json.loads(line)
    if not isinstance(asked, dict):
        raise ValueError("the first line asks for nothing")
    return asked


def serve(sock: socket.socket, emit: Emitter) -> None:
    """One connection from its first line to its end."""
    with sock:
        try:
            asked = read_header(sock)
            traffic, seed = str(asked["traffic"]), int(asked["seed"])
            send, receive = int(asked["send"]), int(asked["receive"])
        except OSError as error:
            emit("served", error=errno_name(error))
            return
        except (ValueError, KeyError) as error:
            emit("served", error=f"bad request: {error}")
            return

        def report(received: int, gap: float) -> None:
            emit("progress", traffic=traffic, dir="send", bytes=received, gap_ms=round(gap * 1000, 3))

        order = Order(seed, "receive", receive, "send", send, closes_first=False)
        deadline = time.monotonic() + float(asked.get("limit_s", 60.0))
        transfer = Transfer(sock, order, report, time.monotonic, deadline, float(asked.get("idle_s", 30.0)))
        transfer.run()
        emit(
            "served",
            traffic=traffic,
            error=transfer.error,
            sent_bytes=transfer.sent,
            sent_sha256=transfer.sent_sha256,
            received_bytes=transfer.check.bytes,
            received_sha256=transfer.check.sha256,
            first_difference=transfer.check.first_difference,
        )


def listen(where: str) -> socket.socket:
    """A listener at the path of a Unix socket, or at an address and port."""
    if where.startswith("/"):
        return socket.create_server(where, family=socket.AF_UNIX, backlog=1024)
    host, _, port = where.rpartition(":")
    return socket.create_server((host, int(port)), backlog=1024)


def _name(listener: socket.socket) -> str:
    """Where it listens, with the port that the kernel chose if it was to choose."""
    name = listener.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="scenarios.app")
    parser.add_argument("--name", required=True)
    parser.add_argument("--listen", required=True, metavar="PATH|ADDRESS:PORT")
    arguments = parser.parse_args()
    emit = Emitter(arguments.name)
    listener = listen(arguments.listen)
    # The threads hold nothing that needs cleaning up: the events are out, the kernel closes the sockets.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    emit("ready", listen=_name(listener))
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, emit), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
