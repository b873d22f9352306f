"""What the agent remembers of connections beside their records, for decisions and for the last words.

Decides: how long: until the record goes; of those that have ended, the last few names stay. Never touches: engines. A
restarted agent begins with nothing of it, and does no worse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.emit import emit
from host_agent.flood import is_half_open
from host_agent.policy import HOST, History
from host_agent.records import Records
from host_agent.reload import Outcome
from host_agent.statistics import ADDED
from host_agent.team import TeamState

NAMES = 1000
"""Of connections that have ended and have no record; so late an order for one of them comes at most."""


@dataclass
class Tracked:
    """base: the record's host_segments when the connection went to a NIC. leaked: segments that the host's TCP got
    all the same, by earlier stays on NICs. last: the record as it was last seen. ended: its engine is done with it; an
    RST that was only seen to pass is no proof of that. counted: bytes and retransmissions, by engines it has left."""

    history: History = field(default_factory=History)
    last: Record | None = None
    base: int | None = None
    leaked: int = 0
    moves: int = 0
    ended: bool = False
    counted: tuple[int, int, int] = (0, 0, 0)

    def moved(self, outcome: Outcome, record: Record) -> None:
        self.moves += 1
        if outcome.saved:
            some, more, again = self.counted
            bytes_in, bytes_out, retransmits = outcome.saved.counted
            self.counted = some + bytes_in, more + bytes_out, again + retransmits
        if outcome.plan.source == HOST:
            self.base = record.host_segments
        elif outcome.target == HOST and self.base is not None:
            self.leaked += record.host_segments - self.base - outcome.held_frames
            self.base = None

    def describe(self, names: TeamState) -> dict[str, Any]:
        assert self.last is not None
        r = self.last
        leaked = self.leaked + (r.host_segments - self.base if self.base is not None else 0)
        facts = {"nic": names.name(r.nic), "offloaded": r.offloaded, "epoch": r.epoch, "moves": self.moves}
        facts |= {"packets": r.packets, "bytes": r.bytes, "bytes_out": r.bytes_out, "strays": r.strays}
        return facts | {"host_segments": r.host_segments, "host_segments_while_offloaded": leaked}


class Tracker:
    """All connections that the agent has heard of and that have a record. who: as its events call the agent."""

    def __init__(self, who: str, team: TeamState) -> None:
        self._who, self._team = who, team
        self._tracked: dict[Connection, Tracked] = {}
        self._over: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._tracked) + len(self._over)

    def of(self, connection: Connection) -> Tracked:
        known = self._tracked.get(connection)
        if known is None:
            known = self._tracked[connection] = Tracked()
        return known

    def ended(self, connection: Connection) -> bool:
        known = self._tracked.get(connection)
        return connection in self._over if known is None else known.ended

    def counted(self) -> dict[Connection, dict[str, int]]:
        return {one: dict(zip(ADDED, tracked.counted, strict=True)) for one, tracked in self._tracked.items()}

    def end(self, connection: Connection, record: Record | None) -> None:
        """Its engine is done with it. record: which stays for a while, but others may remove it."""
        if record is None:
            self.gone(connection)
            self._note(connection)
        else:
            tracked = self.of(connection)
            tracked.ended, tracked.last = True, record

    def gone(self, connection: Connection, record: Record | None = None) -> None:
        """Its record is about to go, or (None) has gone. Nothing is said of those that never were more than a SYN: a
        flood of them would fill the disk."""
        tracked = self._tracked.pop(connection, None)
        if tracked is None and (record is None or is_half_open(record)):
            return
        tracked = tracked or Tracked()
        self._say(connection, tracked, record)
        if tracked.ended:
            self._note(connection)

    def forget(self, connection: Connection) -> None:
        """Another connection has its identifier."""
        self.gone(connection)
        if connection in self._over:
            del self._over[connection]

    def say_last_words(self, records: Records) -> None:
        """Of every connection that still has a record; of the others it was said when that went."""
        for connection, record in records.all():
            self._say(connection, self._tracked.pop(connection, Tracked()), record)
        for connection in list(self._tracked):
            self.gone(connection)

    def _note(self, connection: Connection) -> None:
        self._over |= {connection: None}
        while len(self._over) > NAMES:
            del self._over[next(iter(self._over))]

    def _say(self, connection: Connection, tracked: Tracked, record: Record | None) -> None:
        """One `record` event, as it was last seen."""
        tracked.last = record or tracked.last
        if tracked.last is not None:
            emit(self._who, "record", **connection.fields(), **tracked.describe(self._team))
