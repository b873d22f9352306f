"""SYN floods, detected from the records: many connections to one port that begin and do not go on.

Decides: when it is worth a look, what a flood is, and when it is over. Never touches: maps, clocks; time is passed in.

A record of one frame, older than any handshake takes, is half open: its peer asked and never answered. One such record
says nothing; a hundred new ones a second towards one port do. Connections that are offloaded have gone on for certain.

        begun          PATIENCE ago            now
          |<--- WINDOW --->|                    |
          '-- half open? --'-- may still go on -'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from host_agent.connection import Connection
from host_agent.decision import Record, Stage

PATIENCE = 0.5
"""Seconds that a handshake may take."""

WINDOW = 1.0
"""Seconds in which half-open connections are counted."""


@dataclass(frozen=True)
class Flood:
    """records: half-open ones that began within the window, from so many different sources (peer addresses)."""

    port: int
    records: int
    sources: int

    @property
    def per_s(self) -> float:
        return self.records / WINDOW

    def fields(self) -> dict[str, float]:
        return {"port": self.port, "records": self.records, "per_s": self.per_s, "sources": self.sources}


def is_half_open(record: Record) -> bool:
    return record.packets <= 1 and not record.offloaded and record.stage is Stage.SETTLED


@dataclass
class Count:
    """Half-open connections by port, as the records are gone through."""

    records: dict[int, int] = field(default_factory=dict)
    sources: dict[int, set[str]] = field(default_factory=dict)

    def add(self, some: Iterable[tuple[Connection, Record]], now: int) -> None:
        """now: CLOCK_MONOTONIC, ns."""
        newest, oldest = now - int(PATIENCE * 1e9), now - int((PATIENCE + WINDOW) * 1e9)
        for connection, record in some:
            if oldest < record.created <= newest and is_half_open(record):
                self.records[connection.dport] = self.records.get(connection.dport, 0) + 1
                self.sources.setdefault(connection.dport, set()).add(connection.src)


class Floods:
    """per_s: how many half-open connections a second to one port are a flood; it is over at half of that."""

    def __init__(self, per_s: float):
        self._per_s = per_s
        self._look_until = 0.0
        self.now: dict[int, Flood] = {}

    def worth_a_look(self, new: int, seconds: float, now: float) -> bool:
        """new: frames without a record in the last so many seconds. Going through all records is not free."""
        if new >= self._per_s * seconds:
            self._look_until = now + PATIENCE + WINDOW
        return bool(self.now) or now < self._look_until

    def judge(self, count: Count) -> tuple[list[Flood], list[Flood]]:
        """The floods that have begun, and those that are over, as they were last seen."""
        found = {port: Flood(port, number, len(count.sources[port])) for port, number in count.records.items()}
        over = [old for port, old in self.now.items() if _rate(found, port) < self._per_s / 2]
        begun = [new for port, new in found.items() if port not in self.now and new.per_s >= self._per_s]
        for old in over:
            del self.now[old.port]
        self.now |= {port: new for port, new in found.items() if port in self.now or new in begun}
        return begun, over


def _rate(found: Mapping[int, Flood], port: int) -> float:
    return found[port].per_s if port in found else 0.0
