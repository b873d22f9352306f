"""What one end says of a traffic that may be many connections: sums, in events of a few hundred bytes.

Pure apart from the emitter it is given. Digests add up modulo 2^256, so the sum is the same at both ends in whatever
order connections end, and of a single connection it is the digest itself.
"""

from collections.abc import Callable
from typing import Any

from scenarios.transfer import Transfer

TOGETHER_S = 0.1
"""Between two reports about many connections; a single one reports by itself."""
PORTS = 400
"""Of how many connections one event tells; 400 ports have less than 2,800 characters."""


class Ends:
    """How a traffic's connections ended at this end."""

    def __init__(self) -> None:
        """None yet."""
        self.connections = self.broken = self.sent = self.received = 0
        self._sent_sum = self._received_sum = 0
        self.error: str | None = None
        self.first_difference: int | None = None

    def add(self, transfer: Transfer) -> None:
        """One more that is over."""
        self.connections += 1
        self.sent += transfer.sent
        self.received += transfer.check.bytes
        self._sent_sum = (self._sent_sum + int(transfer.sent_sha256, 16)) % (1 << 256)
        self._received_sum = (self._received_sum + int(transfer.check.sha256, 16)) % (1 << 256)
        if self.first_difference is None:
            self.first_difference = transfer.check.first_difference
        if transfer.error or transfer.check.first_difference is not None:
            self.fail(transfer.error)

    def fail(self, error: str | None) -> None:
        """One that was broken off, or never was."""
        self.broken += 1
        self.error = self.error or error

    def facts(self) -> dict[str, Any]:
        """The keys of `done` and `served`."""
        return {
            "error": self.error,
            "connections": self.connections,
            "broken": self.broken,
            "sent_bytes": self.sent,
            "sent_sha256": f"{self._sent_sum:064x}",
            "received_bytes": self.received,
            "received_sha256": f"{self._received_sum:064x}",
            "first_difference": self.first_difference,
        }


class Progress:
    """Adds up what connections report; `tell` emits it. A single connection's reports go out at once."""

    def __init__(self, emit: Callable[..., None], traffic: str, direction: str, alone: bool) -> None:
        """`direction`: send or receive, from the client's point of view."""
        self._emit, self._alone = emit, alone
        self._keys = {"traffic": traffic, "dir": direction}
        self._bytes, self._gap, self._new = 0, 0.0, False

    def of_one(self) -> Callable[[int, float], None]:
        """The report of one connection."""
        before = 0

        def report(received: int, gap: float) -> None:
            nonlocal before
            self._bytes, before = self._bytes + received - before, received
            self._gap, self._new = max(self._gap, gap), True
            if self._alone:
                self.tell()

        return report

    def tell(self) -> None:
        """Emit what has come together since the last time, if anything has."""
        if self._new:
            self._emit("progress", **self._keys, bytes=self._bytes, gap_ms=round(self._gap * 1000, 3))
            self._gap, self._new = 0.0, False
