"""Connections that have left a NIC without a link: their sockets are closed when nobody waits for this engine any more.

Decides: when. Never touches: connections that live here (holding.py).

Nothing new comes to a NIC without a link, so nobody needs their room; but others may still be here that wait to be
saved, and to close two sockets takes a tenth of a move.
"""

from __future__ import annotations

from host_agent import repair
from host_agent.held import Held
from host_agent.loop import Loop

LATER, TURN, SOME = 1.0, 0.001, 100
"""Seconds until the first are closed, and from some of them to the next; how many those are."""


class Left:
    def __init__(self, loop: Loop):
        self._loop = loop
        self._left: list[Held] = []

    def add(self, held: Held) -> None:
        """A frozen one that lives elsewhere, and whose descriptors nobody watches."""
        if not self._left:
            self._loop.after(LATER, self._close_some)
        self._left.append(held)

    def close_all(self) -> None:
        """A context may come that has the name of one of them."""
        while self._left:
            close(self._left.pop())

    def _close_some(self) -> None:
        for _ in range(min(len(self._left), SOME)):
            close(self._left.pop())
        if self._left:
            self._loop.after(TURN, self._close_some)


def close(held: Held) -> None:
    """The network hears nothing of it, nor does the application, whose channel somebody else has."""
    repair.discard(held.tcp)
    held.channel.close()
