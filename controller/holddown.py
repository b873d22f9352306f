"""Hold-down: a port that comes back must stay up for `updelay` before it counts, one that goes must stay away for
`downdelay`, as in Linux bonding; but in seconds.

What differs from bonding: the data plane leaves a dead port at once, whatever `downdelay`; the delay only holds
back the re-enumeration, so a short flap moves nobody else. Knows ports and times, no LAGs. Pure: time is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable


class HoldDown:
    """`usable` are the ports that count as up."""

    def __init__(self, updelay_s: float = 0.0, downdelay_s: float = 0.0) -> None:
        self.delays_s = {True: updelay_s, False: downdelay_s}
        self.usable: set[int] = set()
        self._waiting: dict[int, float] = {}  # port -> when it changes

    def start(self, usable: Iterable[int]) -> None:
        """Begin with these ports, nothing being waited for."""
        self.usable = set(usable)
        self._waiting.clear()

    def seen(self, port: int, up: bool, now: float, at_once: bool = False) -> None:
        """The port's link changed. A change back ends the waiting."""
        self._waiting.pop(port, None)
        if up == (port in self.usable):
            return
        if at_once or self.delays_s[up] <= 0:
            self._settle(port)
        else:
            self._waiting[port] = now + self.delays_s[up]

    def tick(self, now: float) -> None:
        """Let those change whose time has come."""
        for port in [port for port, due in self._waiting.items() if due <= now]:
            del self._waiting[port]
            self._settle(port)

    def due(self) -> float | None:
        """When `tick` has something to do."""
        return min(self._waiting.values(), default=None)

    def held(self) -> list[int]:
        """Ports that are being waited for."""
        return sorted(self._waiting)

    def _settle(self, port: int) -> None:
        self.usable ^= {port}
