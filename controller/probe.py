"""Which wires carry frames both ways, asked far more often than LACP does: Markers (802.1AX, 6.5), which the other
end must answer on the same port. Decides when to ask, and what silence means. Pure.

An ARP request or neighbour solicitation, as Linux' arp_interval sends it, would not do: a team answers by whichever
member its own hash says, so the answer proves nothing about the wire that the question went by.

Silence on all wires at once says nothing of wires: then the other end does not answer (its agent is being started
anew), and everything stays as it is; when it answers again, all wires have as many rounds as ever. A wire that was
found dead must answer as often in a row to be alive again.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_MISSED = 3
"""So many rounds without an answer, while another wire has one, and a wire is dead."""
BACK_AFTER = 3
_WRAP = 0xFFFFFFFF


class Prober:
    """`alive` are the ports whose wire is in order; one that has just got its carrier must answer once."""

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.alive: set[int] = set()
        self.round = 0
        self._answered: dict[int, int] = {}  # port with carrier -> the last round that it answered
        self._needed: dict[int, int] = {}  # port that is not alive -> answers in a row until it is
        self._in_a_row: dict[int, int] = {}
        self._silent = 0  # the last round after which nobody had answered of late
        self._next: float | None = None

    def link(self, port: int, up: bool, now: float) -> None:
        """The carrier came or went."""
        if up == (port in self._answered):
            return
        self.alive.discard(port)
        self._answered.pop(port, None)
        if up:
            self._answered[port], self._needed[port], self._in_a_row[port] = self.round, 1, 0
            self._next = now if self._next is None else self._next
        elif not self._answered:
            self._next = None

    def resume(self, ports: Iterable[int]) -> None:
        """An earlier run of this program found these alive."""
        self.alive |= self._answered.keys() & set(ports)

    def tick(self, now: float) -> list[int]:
        """The ports to be asked now, with the number `round`."""
        if self._next is None or now < self._next:
            return []
        self._judge()
        self.round = self.round % _WRAP + 1
        self._next = now + self.period_s
        return sorted(self._answered)

    def answered(self, port: int, number: int) -> None:
        """An answer came in by this port."""
        last = self._answered.get(port)
        if last is None or not last < number <= self.round:
            return  # forged, doubled or late
        self._answered[port] = number
        if port in self.alive:
            return
        self._in_a_row[port] = self._in_a_row[port] + 1 if number == last + 1 else 1
        if self._in_a_row[port] >= self._needed[port]:
            self.alive.add(port)

    def due(self) -> float | None:
        """When there is something to do."""
        return self._next

    def _judge(self) -> None:
        # One that has just got its carrier counts as answered in this round, but says nothing of the other end.
        heard = (last for port, last in self._answered.items() if port in self.alive or self._in_a_row[port])
        if max(heard, default=0) < self.round - 1:
            self._silent = self.round
            return
        for port, last in self._answered.items():
            if port in self.alive and self.round - max(last, self._silent) >= MOST_MISSED:
                self.alive.discard(port)
                self._needed[port], self._in_a_row[port] = BACK_AFTER, 0
