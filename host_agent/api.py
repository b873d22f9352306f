"""The agent's local API: JSON lines over a Unix stream socket, one request and one answer per line.

Decides: the form of requests and answers. Never touches: how they are carried out (desk.py).

    {"do": "records"}                                   {"ok": true, "records": [...]}
    {"do": "counters"}                                  {"ok": true, "nics": {...}}
    {"do": "team"}                                      {"ok": true, "nics": [...]}
    {"do": "floods"}                                    {"ok": true, "floods": [{port, records, per_s, sources}, ...]}
    {"do": "statistics"}                                {"ok": true, "nics": {...}, "host", "connections", "team"}
    {"do": "lacp"}                                      {"ok": true, "members": [...], "text": ..., ...}
    {"do": "offload" | "reload", src, sport, dst, dport, "nic"}    answered when the move is over
    {"do": "upload", src, sport, dst, dport}
    {"do": "add_nic" | "remove_nic", "nic"}             answered at once; what it holds moves behind
    anything that cannot be served                      {"ok": false, "error": one line}
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host_agent.desk import Desk, Refused

if TYPE_CHECKING:
    from host_agent.agent import Agent


class Api:
    """Serves any number of clients from the agent's event loop."""

    def __init__(self, path: str, agent: Agent):
        self._loop, self._desk = agent.loop, Desk(agent)
        Path(path).unlink(missing_ok=True)  # an earlier agent's, which was killed
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(8)
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), lambda _mask: self._accept())

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(1.0)  # answers are small; a client that does not read them is let go
        pending = b""

        def readable(_mask: int) -> None:
            nonlocal pending
            try:
                data = client.recv(65536)
            except OSError:
                data = b""
            if not data:
                self._loop.unwatch(client.fileno())
                client.close()
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._serve(client, line)

        self._loop.watch(client.fileno(), readable)

    def _serve(self, client: socket.socket, line: bytes) -> None:
        try:
            self._desk.serve(json.loads(line), lambda answer: _send(client, answer))
        except Refused as error:
            _send(client, {"error": str(error)})
        except (ValueError, KeyError, TypeError) as error:
            _send(client, {"error": f"not a request: {error!r}"})


def _send(client: socket.socket, answer: dict[str, Any]) -> None:
    with suppress(OSError):  # it may have gone without waiting for its answer
        client.sendall(json.dumps({"ok": "error" not in answer, **answer}).encode() + b"\n")
