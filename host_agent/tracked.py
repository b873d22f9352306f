"""What the agent remembers of connections beside their records, for decisions and for the last words.

Decides: nothing. Never touches: engines. A restarted agent begins with nothing of it, and does no worse.
"""

from __future__ import annotations

from collections import Counter
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
    counted: Counter[str] = field(default_factory=Counter)

    def moved(self, outcome: Outcome, record: Record) -> None:
        self.moves += 1
        self.counted.update({key: outcome.saved[key] for key in ADDED})
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
    """All connections that the agent has heard of."""

    def __init__(self) -> None:
        self._tracked: dict[Connection, Tracked] = {}

    def of(self, connection: Connection) -> Tracked:
        return self._tracked.setdefault(connection, Tracked())

    def ended(self, connection: Connection) -> bool:
        known = self._tracked.get(connection)
        return known is not None and known.ended

    def counted(self) -> dict[Connection, Counter[str]]:
        return {connection: tracked.counted for connection, tracked in self._tracked.items()}

    def forget(self, connection: Connection) -> None:
        """Another connection has its identifier."""
        self._tracked.pop(connection, None)

    def remember(self, connection: Connection, records: Records) -> None:
        """Keeps the record as it is now, for it is about to go; but not of those that never were more than a SYN: a
        flood of them would take all memory."""
        record = records.get(connection)
        if record is not None and (connection in self._tracked or not is_half_open(record)):
            self.of(connection).last = record

    def say_last_words(self, who: str, records: Records, team: TeamState) -> None:
        """One `record` event for every connection that ever had one."""
        for connection, record in records.all():
            self.of(connection).last = record
        for connection, tracked in self._tracked.items():
            if tracked.last is not None:
                emit(who, "record", **connection.fields(), **tracked.describe(team))
