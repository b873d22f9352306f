"""Connections that have left a NIC without a link: their TCP sockets are closed when nobody waits for us any more.

Decides: when. Never touches: connections that live here (holding.py); channels, for an application must hear at once
when the next owner of its connection closes that.

Nothing new comes to a NIC without a link, so nobody needs their room; but others may still be here that wait to be
saved, and to close a socket takes as long as a twentieth of a move. Those with full queues do not come here: the
memory of these is the machine's, and the new engine's sockets want as much at that moment.
"""

from __future__ import annotations

import socket

from host_agent import repair
from host_agent.loop import Loop

LATER, TURN, SOME = 1.0, 0.001, 100
"""Seconds until the first are closed, and from some of them to the next; how many those are."""


class Left:
    def __init__(self, loop: Loop):
        self._loop = loop
        self._left: list[socket.socket] = []

    def add(self, tcp: socket.socket) -> None:
        """Of a frozen one that lives elsewhere, and that nobody watches."""
        if not self._left:
            self._loop.after(LATER, self._close_some)
        self._left.append(tcp)

    def close_all(self) -> None:
        """A context may come that has the name of one of them."""
        while self._left:
            repair.discard(self._left.pop())

    def _close_some(self) -> None:
        for _ in range(min(len(self._left), SOME)):
            repair.discard(self._left.pop())
        if self._left:
            self._loop.after(TURN, self._close_some)
