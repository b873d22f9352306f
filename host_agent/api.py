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

A long answer is made and sent a little in each turn of the loop: the agent hears of a fault meanwhile.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.desk import Answered, Desk, Refused
from host_agent.loop import EDGE, Loop
from host_agent.sweep import TURN

if TYPE_CHECKING:
    from host_agent.agent import Agent

SHARE = 0.001  # seconds of a turn


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
        with suppress(OSError):  # it has gone already
            Client(self._loop, self._desk, self._listener.accept()[0])


class Client:
    """One of them: its requests, and what it has not been sent yet."""

    def __init__(self, loop: Loop, desk: Desk, sock: socket.socket):
        self._loop, self._desk, self._socket = loop, desk, sock
        self._pending = b""
        self._answers: deque[Iterator[bytes]] = deque()
        self._unsent = b""
        self._is_due = self._gone = False
        sock.setblocking(False)
        loop.watch(sock.fileno(), self._ready, EDGE)

    def _ready(self, _mask: int) -> None:
        try:
            while data := self._socket.recv(65536):
                *lines, self._pending = (self._pending + data).split(b"\n")
                for line in lines:
                    self._serve(line)
            self._close()
        except BlockingIOError:
            self._go_on()
        except OSError:
            self._close()

    def _close(self) -> None:
        if not self._gone:
            self._gone = True
            self._answers.clear()
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()

    def _serve(self, line: bytes) -> None:
        try:
            self._desk.serve(json.loads(line), self.answer)
        except Refused as error:
            self.answer({"error": str(error)})
        except (ValueError, KeyError, TypeError, OSError, struct.error, RecursionError) as error:
            self.answer({"error": f"not a request: {error!r}"})

    def answer(self, answer: Answered) -> None:
        """Answers come in whole lines, in the order in which they were given."""
        if not self._gone:  # it may have gone without waiting for its answer
            self._answers.append(_written(answer))
            self._go_on()

    def _go_on(self) -> None:
        """For its share of a turn, and as far as the client takes it."""
        until = time.monotonic() + SHARE
        try:
            while self._unsent or self._answers:
                if not self._unsent:
                    self._unsent = next(self._answers[0], b"")
                    if not self._unsent:
                        self._answers.popleft()
                        continue
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
                if time.monotonic() > until:
                    self._later()
                    return
        except BlockingIOError:  # it reads slowly: its descriptor tells
            return
        except OSError:
            self._close()

    def _later(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.after(TURN, self._due)

    def _due(self) -> None:
        self._is_due = False
        if not self._gone:
            self._go_on()


def _written(answer: Answered) -> Iterator[bytes]:
    """As one line of JSON, in pieces, none of them empty. What an answer has as an iterator of lists is one list."""
    for one in (answer,) if isinstance(answer, dict) else answer:
        if one is None:  # nothing to tell yet
            yield b" "
            continue
        plain = {name: value for name, value in one.items() if not isinstance(value, Iterator)}
        yield json.dumps({"ok": "error" not in one, **plain})[:-1].encode()
        for name in one.keys() - plain.keys():
            mark = f", {json.dumps(name)}: ["
            for some in one[name]:
                yield (mark + json.dumps(some)[1:-1]).encode()
                mark = ", "
            yield b"]" if mark == ", " else f"{mark}]".encode()
        yield b"}\n"
