"""Which records go: those that nothing was heard of for long, and those that give way to new ones.

Decides: what is removed, and what must go to the host before it can be. Never touches: maps, engines, clocks; time is
passed in.

A record of a connection that is not offloaded is a note: if it goes too early, the next frame makes it anew (block
404). The record of an offloaded one is all that leads a stray to its owner, so it never goes while a NIC has the
connection. Being idle is no fault of a connection: it goes to the host, where it costs the NIC nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from host_agent.connection import Connection
from host_agent.decision import Record, Stage
from host_agent.flood import is_half_open

LINGER = 60.0
"""Seconds that a closed connection's record stays after its last frame: so long late segments must reach the TCP that
keeps its TIME-WAIT (RFC 9293, 3.6.1; Linux: TCP_TIMEWAIT_LEN)."""


@dataclass(frozen=True)
class Aged:
    """remove: records to delete. upload: offloaded connections to move to the host, whose records then age there."""

    remove: tuple[Connection, ...]
    upload: tuple[Connection, ...]


def too_old(
    records: Iterable[tuple[Connection, Record]],
    active: Mapping[Connection, int],
    now: int,
    *,
    age: float | None,
    linger: float = LINGER,
) -> Aged:
    """What is too old at `now` (CLOCK_MONOTONIC, ns).

    age: seconds without a frame; None: for ever. linger: the same for closed connections. active: the connections that
    NICs hold, and when each NIC last saw a frame of it, in ns, as the engines say. An offloaded connection is judged by
    that; one that no NIC speaks of stays, unless it is closed.
    """
    remove: list[Connection] = []
    upload: list[Connection] = []
    for connection, record in records:
        held = record.offloaded and connection in active
        closed = record.closing and not held
        limit = linger if closed else age
        if limit is None or record.stage is not Stage.SETTLED or (record.offloaded and not held and not closed):
            continue
        last = max(record.last_seen, active[connection]) if held else record.last_seen
        if now - last >= limit * 1e9:
            (upload if held else remove).append(connection)
    return Aged(tuple(remove), tuple(upload))


def since(now: int, age: float, linger: float = LINGER) -> tuple[int, int]:
    """For may_be_old(): the latest last frame that can be too old at `now`, and that of a closed connection, which may
    be held by a NIC and then ages as any other. Never below 0, the start of the clock: a machine may have started just
    now."""
    return max(0, now - int(age * 1e9)), max(0, now - int(min(age, linger) * 1e9))


def may_be_old(record: Record, since: int, closed_since: int) -> bool:
    """Whether too_old() can want it, whatever the NICs say: their word only makes a record younger.

    bpf/quiet.bpf.c asks the same in the kernel, so that the others are not copied out of it.
    """
    return record.stage is Stage.SETTLED and record.last_seen <= (closed_since if record.closing else since)


def give_way(records: Iterable[tuple[Connection, Record]], room: int) -> tuple[Connection, ...]:
    """Up to `room` connections whose records go when the records are full: closed ones first, then half-open ones, for
    a flood must not drive out those that are alive, then those that were quiet the longest. Never one that is offloaded
    or on the move."""
    able = [(c, r) for c, r in records if not r.offloaded and r.stage is Stage.SETTLED]
    chosen = heapq.nsmallest(room, able, key=lambda each: _worth(each[1]))
    return tuple(connection for connection, _ in chosen)


def _worth(record: Record) -> tuple[bool, bool, int]:
    return not record.closing, not is_half_open(record), record.last_seen
