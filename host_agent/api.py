"""The agent's local API: JSON lines over a Unix stream socket, one request and one answer per line.

Decides: the form of requests and answers. Never touches: how they are carried out (agent.py).

    {"do": "records"}                                      {"ok": true, "records": [...]}
    {"do": "counters"}                                     {"ok": true, "nics": {...}}
    {"do": "offload" | "reload", src, sport, dst, dport, "nic"}    answered when the move is over
    {"do": "upload", src, sport, dst, dport}
    anything else                                          {"ok": false, "error": one line}
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from host_agent.connection import Connection

if TYPE_CHECKING:
    from host_agent.agent import Agent
    from host_agent.reload import Outcome


class ApiError(Exception):
    """A request that cannot be served; the text is the answer."""


class Api:
    """Serves any number of clients from the agent's event loop."""

    def __init__(self, path: str, agent: Agent):
        self._agent = agent
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(8)
        self._listener.setblocking(False)
        agent.loop.watch(self._listener.fileno(), lambda _mask: self._accept())

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
                self._agent.loop.unwatch(client.fileno())
                client.close()
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._serve(client, line)

        self._agent.loop.watch(client.fileno(), readable)

    def _serve(self, client: socket.socket, line: bytes) -> None:
        try:
            request = json.loads(line)
            verb = request["do"]
            if verb == "records":
                _answer(client, records=self._agent.describe_records())
            elif verb == "counters":
                _answer(client, nics=self._agent.describe_counters())
            elif verb in ("offload", "reload", "upload"):
                connection = Connection(*(request[k] for k in Connection._fields))
                self._agent.command(verb, connection, request.get("nic"), lambda o: _tell_outcome(client, o))
            else:
                raise ApiError(f"do: {verb!r} is not records, counters, offload, reload or upload")
        except ApiError as error:
            _send(client, {"ok": False, "error": str(error)})
        except (ValueError, KeyError, TypeError) as error:
            _send(client, {"ok": False, "error": f"not a request: {error!r}"})


def _tell_outcome(client: socket.socket, outcome: Outcome) -> None:
    if outcome.target == outcome.plan.target:
        _answer(client, epoch=outcome.epoch)
    else:
        _send(client, {"ok": False, "error": outcome.reason})


def _answer(client: socket.socket, **fields: Any) -> None:
    _send(client, {"ok": True, **fields})


def _send(client: socket.socket, answer: dict[str, Any]) -> None:
    with suppress(OSError):  # it may have gone without waiting for its answer
        client.sendall(json.dumps(answer).encode() + b"\n")
