"""The probe: Marker PDUs that the switch answers prove every wire in both directions, many times a second.

Decides: which members the probe calls dead. Never touches: sockets, clocks; who calls round() keeps the time.

All members are asked together, one round after the other. Three rounds without an answer mean death, but only while
another member is answered: when none is, it is the switch that does not answer, and nothing is known of the wires; once
it answers again, every member has as many rounds as ever. A dead member must answer three rounds in a row to be back.
One that has just got its carrier must answer once.
"""

from __future__ import annotations

from collections.abc import Iterable

MISSED = 3  # rounds
BACK = 3


class Probe:
    """inherited: NICs that are taken for alive at first, for an earlier agent had them up."""

    def __init__(self, inherited: Iterable[int] = ()):
        self.alive: set[int] = set(inherited)
        self.number = 0
        self._silent = 0  # the last round before which nobody had been answered of late
        self._up: set[int] = set()
        self._answered: dict[int, int] = {}  # the last round of each
        self._in_a_row: dict[int, int] = {}
        self._wanted: dict[int, int] = {}  # of those that are not alive: answers in a row until they are

    def carrier(self, nic: int, up: bool) -> None:
        if not up:
            self._up.discard(nic)
            self.alive.discard(nic)
        elif nic not in self._up:
            self._up.add(nic)
            self._answered[nic] = self.number
            self._in_a_row[nic], self._wanted[nic] = 0, 1

    def round(self) -> list[int]:
        """Judges what was asked so far and begins a round of that `number`; gives the NICs to ask."""
        # One that has just got its carrier counts as answered in this round, but says nothing of the switch.
        heard = {nic: self._answered[nic] for nic in self._up if nic in self.alive or self._in_a_row[nic]}
        if max(heard.values(), default=0) < self.number - 1:
            self._silent = self.number
        for nic in self._up & self.alive:
            others = max((last for other, last in heard.items() if other != nic), default=0)
            if self.number - max(heard[nic], self._silent) >= MISSED and others >= self.number - 1:
                self.alive.discard(nic)
                self._in_a_row[nic], self._wanted[nic] = 0, BACK
        self.number = self.number % 0xFFFFFFFF + 1
        return sorted(self._up)

    def answer(self, nic: int, number: int) -> None:
        """A member's answer in a round; late and doubled ones count once, forged numbers not at all."""
        if nic not in self._up or not self._answered[nic] < number <= self.number:
            return
        in_a_row = self._in_a_row[nic] + 1 if number == self._answered[nic] + 1 else 1
        self._answered[nic], self._in_a_row[nic] = number, in_a_row
        if nic not in self.alive and in_a_row >= self._wanted[nic]:
            self.alive.add(nic)
