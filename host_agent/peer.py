"""The agent's end of its conversation with one engine.

Decides: which move a reply belongs to. Never touches: what messages mean.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from host_agent.verbs import VERSION, Link, Message, PeerGone

if TYPE_CHECKING:
    from host_agent.reload import Steps

_ids = itertools.count(1)


class EnginePeer:
    """Raises PeerGone when the engine is not there."""

    def __init__(self, path: str):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(path)
        except OSError as error:
            raise PeerGone(f"engine at {path}: {error.strerror}") from None
        self._link = Link(sock)
        self.fd = sock.fileno()
        self._waiting: dict[int, Steps] = {}
        self.send(Message("hello", {"version": VERSION}))

    def send(self, message: Message) -> None:
        self._link.send(message)

    def ask(self, message: Message, steps: Steps) -> None:
        """Sends a message whose reply belongs to a move. Raises PeerGone; no reply is waited for then."""
        number = next(_ids)
        message.fields["id"] = number
        self.send(message)
        self._waiting[number] = steps

    def answered(self, reply: Message) -> Steps | None:
        """The move that waits for this reply."""
        return self._waiting.pop(reply.fields["re"], None)

    def unanswered(self) -> list[Steps]:
        """The moves that still wait for this engine."""
        return list(self._waiting.values())

    def flush(self) -> bool:
        """Sends what the socket did not take before; True when nothing is left."""
        return self._link.flush()

    def receive(self) -> Iterator[Message]:
        for message in self._link.receive():
            if message.verb == "ready" and message.fields.get("version") != VERSION:
                raise PeerGone(f"it speaks version {message.fields.get('version')}, this agent {VERSION}")
            yield message

    def close(self) -> None:
        self._link.close()
