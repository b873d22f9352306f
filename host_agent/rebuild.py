"""What a restarted agent makes of the records and of what the engines hold.

Decides: who owns each connection. Never touches: maps, engines; it returns what is to be done.

An agent may have died in the middle of a move. The engines are the truth: a context is frozen in the old one until a
new one has it, so every connection lives in at least one of them, or is lost.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from host_agent.connection import Connection
from host_agent.decision import Record, Stage
from host_agent.policy import HOST


@dataclass
class Rebuilt:
    """records: as they must be. discard, thaw, join: what engines are to be told, as (place, connection). lost:
    offloaded connections that nobody holds; over: those among them that had ended. closing: connections that have ended
    but for their last segments."""

    records: dict[Connection, Record] = field(default_factory=dict)
    discard: list[tuple[int, Connection]] = field(default_factory=list)
    thaw: list[tuple[int, Connection]] = field(default_factory=list)
    join: list[tuple[int, Connection]] = field(default_factory=list)
    lost: list[tuple[Connection, Record]] = field(default_factory=list)
    over: list[Connection] = field(default_factory=list)
    closing: list[Connection] = field(default_factory=list)


Held = Mapping[int, Mapping[Connection, str]]


def rebuild(records: Iterable[tuple[Connection, Record]], held: Held) -> Rebuilt:
    """held: for each place (NIC id or HOST) its connections and their state, `live`, `frozen` or `closing`."""
    result = Rebuilt()
    known = dict(records)
    places: dict[Connection, dict[str, int]] = {}
    for place, connections in held.items():
        for connection, state in connections.items():
            places.setdefault(connection, {})[state] = place

    for connection, states in places.items():
        record = known.pop(connection, None)
        owner = next(states[s] for s in ("live", "closing", "frozen") if s in states)
        if "frozen" in states:
            frozen = states["frozen"]
            (result.thaw if owner == frozen and "live" not in states else result.discard).append((frozen, connection))
        if "closing" in states and "live" not in states:
            result.closing.append(connection)
        if owner != HOST and "live" in states:
            result.join.append((owner, connection))
        if record is None:
            if owner == HOST:
                continue  # the next frame makes its record
            record = Record(owner)
        result.records[connection] = _owned_by(record, owner)

    for connection, record in known.items():
        if record.offloaded and record.closing:
            result.over.append(connection)
        elif record.offloaded:
            result.lost.append((connection, record))
        elif record.stage is not Stage.SETTLED:
            result.records[connection] = _owned_by(record, HOST)
    return result


@dataclass
class Compared:
    """What one engine is to be told: `release` again, `discard`, `thaw`, `invalidate`; and what nobody has told of it:
    connections that are `closing`, those that the host's has `accepted`, and what is `lost`."""

    release: list[Connection] = field(default_factory=list)
    discard: list[Connection] = field(default_factory=list)
    thaw: list[Connection] = field(default_factory=list)
    invalidate: list[Connection] = field(default_factory=list)
    closing: list[Connection] = field(default_factory=list)
    accepted: list[Connection] = field(default_factory=list)
    lost: list[tuple[Connection, Record]] = field(default_factory=list)


def compare(
    place: int,
    held: Mapping[Connection, str],
    records: Iterable[tuple[Connection, Record]],
    moving: Container[Connection],
) -> Compared:
    """One engine's connections (as in `rebuild`) with the records, when a conversation with it is begun anew. What is
    moving has its own way to an end. What a NIC has without a record, or the host frozen, was given up before."""
    result, known = Compared(), dict(records)
    for connection, state in held.items():
        record = known.get(connection)
        owner = record.nic if record and record.offloaded else HOST
        here = owner == place
        if connection in moving:
            continue
        if state == "closing":
            if here:
                result.closing.append(connection)
        elif here and (record or state == "live"):
            live = result.accepted if place == HOST else result.release
            (live if state == "live" else result.thaw).append(connection)
        else:
            (result.discard if record and state == "frozen" else result.invalidate).append(connection)
    for connection, record in known.items():
        gone = connection not in held and connection not in moving and not record.closing
        if gone and record.offloaded and record.nic == place:
            result.lost.append((connection, record))
    return result


def _owned_by(record: Record, owner: int) -> Record:
    nic = record.nic if owner == HOST else owner
    return replace(record, nic=nic, offloaded=owner != HOST, stage=Stage.SETTLED)
