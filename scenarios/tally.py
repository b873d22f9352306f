"""What one end says of a traffic that may be many connections: sums, in events of a few hundred bytes.

Pure apart from the emitter it is given. Digests add up modulo 2^256, so the sum is the same at both ends in whatever
order connections end, and of a single connection it is the digest itself.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scenarios.transfer import Stall, Transfer

TOGETHER_S = 0.1
"""Between two reports about many connections; a single one reports by itself."""
PORTS = 400
"""Of how many connections one event tells; 400 ports have less than 2,800 characters."""
TOLD_TOGETHER = 55
"""Of how many ends one event tells; the columns of 55 have less than 3,700 characters."""
TOLD_WRONG = 300
"""How many connections that were not whole are named; 300 numbers have less than 2,000 characters."""
TOLD_RESETS = 300
"""Of how many connections one event tells their resets; their ports and counts have less than 3,600 characters."""

Address = tuple[str, int]


class Ends:
    """How a traffic's connections ended at this end."""

    def __init__(self) -> None:
        """None yet."""
        self.connections = self.broken = self.sent = self.received = 0
        self._sent_sum = self._received_sum = 0
        self.error: str | None = None
        self.first_difference: int | None = None
        self._wrong: list[int] = []

    def add(self, transfer: Transfer) -> None:
        """One more that is over."""
        self.connections += 1
        self.sent += transfer.sent
        self.received += transfer.check.bytes
        self._sent_sum = (self._sent_sum + int(transfer.sent_sha256, 16)) % (1 << 256)
        self._received_sum = (self._received_sum + int(transfer.check.sha256, 16)) % (1 << 256)
        if self.first_difference is None:
            self.first_difference = transfer.check.first_difference
        if transfer.order.index is not None and not transfer.whole:
            self._wrong.append(transfer.order.index)
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
            "wrong": self._wrong if len(self._wrong) <= TOLD_WRONG else None,
        }


class Progress:
    """Adds up what connections report; `tell` emits it. A single connection's reports go out at once."""

    def __init__(
        self,
        emit: Callable[..., None],
        traffic: str,
        direction: str,
        alone: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`direction`: send or receive, from the client's point of view. `clock`: the transfers'."""
        self._emit, self._alone, self._clock = emit, alone, clock
        self._keys = {"traffic": traffic, "dir": direction}
        self._bytes, self._gap, self._new = 0, 0.0, False
        self._stalls: Sequence[Stall] = ()

    def of_one(self) -> Callable[[int, float, Sequence[Stall]], None]:
        """The report of one connection."""
        before = 0

        def report(received: int, gap: float, stalls: Sequence[Stall]) -> None:
            nonlocal before
            self._bytes, before = self._bytes + received - before, received
            self._gap, self._new = max(self._gap, gap), True
            if self._alone:
                self._stalls = stalls
                self.tell()

        return report

    def tell(self) -> None:
        """Emit what has come together since the last time, if anything has."""
        if self._new:
            # Of many connections nobody could read them all; each tells its longest when it ends.
            stalls = [[_ms(self._clock() - ended), _ms(lasted)] for ended, lasted in self._stalls]
            more = {"stalls": stalls} if stalls else {}
            self._emit("progress", **self._keys, bytes=self._bytes, gap_ms=_ms(self._gap), **more)
            self._stalls = ()
            self._gap, self._new = 0.0, False


class Each:
    """What each connection did, told in columns: hundreds of connections in one event, in the order of their ends."""

    def __init__(self, emit: Callable[..., None], traffic: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: the transfers'."""
        self._emit, self._traffic, self._clock = emit, traffic, clock
        self._ends: list[tuple[float, Address, Address, dict[str, Any]]] = []

    def add(self, transfer: Transfer, near: Address, far: Address, said: Mapping[str, int | None]) -> None:
        """One that is over. `said`: what its socket told of itself."""
        ended, lasted = transfer.longest
        facts = {"bytes": transfer.sent + transfer.check.bytes, "longest_stall_ms": _ms(lasted), "stall_at": ended}
        self._ends.append((self._clock(), near, far, {**facts, **said, "index": transfer.order.index}))

    def tell(self) -> None:
        """Emit what has come together since the last time. Times are told as milliseconds before the event's."""
        while self._ends:
            some, self._ends = self._ends[:TOLD_TOGETHER], self._ends[TOLD_TOGETHER:]
            now, (_, (src, _), (dst, dport), _) = self._clock(), some[0]
            columns: dict[str, list[Any]] = {"sports": [near[1] for _, near, _, _ in some]}
            columns["ended_ms_ago"] = [round((now - at) * 1000) for at, *_ in some]
            columns["stall_ended_ms_ago"] = [round((now - facts.pop("stall_at")) * 1000) for *_, facts in some]
            columns |= {key: [facts[key] for *_, facts in some] for key in some[0][3]}
            self._emit("ended", traffic=self._traffic, src=src, dst=dst, dport=dport, **columns)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
