"""Engines, as far as an agent's conversations know them: a socket to be met at, and what they say."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from host_agent.connection import Connection
from host_agent.engines import Engines
from host_agent.verbs import VERSION, Link, Message
from tests.turned import TurnedLoop


class Engine:
    """One that listens, and says what the test says."""

    def __init__(self, path: Path) -> None:
        self.path, self.link = path, Link(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.listens()

    def listens(self) -> None:
        self.path.unlink(missing_ok=True)
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.bind(str(self.path))
        self._control.listen(1)
        self._control.setblocking(False)

    def accept(self) -> None:
        """The last of those that wait."""
        with suppress(BlockingIOError):
            while True:
                sock, _ = self._control.accept()
                self.link.close()
                self.link = Link(sock)
        self.link.send(Message("ready", {"version": VERSION}))

    def hear(self) -> list[Message]:
        return [one for one in self.link.receive() if one.verb != "hello"]

    def answer(self, asked: Message, **fields: Any) -> None:
        self.link.send(Message("reply", {"re": asked.fields["id"], **fields}))

    def holds(self, **states: Connection) -> None:
        """Is asked, and says so."""
        (asked,) = self.hear()
        assert asked.verb == "query"
        self.answer(asked, connections=[{"connection": one, "state": state} for state, one in states.items()])

    def die(self) -> None:
        self._control.close()
        self.link.close()


def end(engines: Engines, nics: Iterable[Engine], loop: TurnedLoop) -> None:
    """Of both sides of all conversations."""
    for peer in engines.peers.values():
        peer.close()
    for nic in nics:
        nic.die()
    loop.epoll.close()
