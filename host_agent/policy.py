"""What the agent does about what it is told: pure decisions, over the records and the team.

Decides: whether, when and where a connection moves. Never touches: maps, sockets, engines, clocks; time is passed in.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import NamedTuple

from host_agent.connection import Connection, key_of
from host_agent.decision import Record, Stage

HOST = -1
"""The place of a connection that is not offloaded; NIC ids count from 0."""

HOLD_DOWN = 0.1
"""Seconds after a connection left a NIC during which its frames there are late ones, not a new choice of the switch.
It covers what can still be queued on the old link; such frames are forwarded all the same."""

FAULT_WINDOW = 3.0
"""Seconds after a link died during which a move takes what is in flight for lost. The guess at a NIC may have been
wrong and its first burst may not have come through; sending it twice costs little, a retransmission timeout much."""

RECOVERY = 0.05
"""Seconds after a dead link moved a connection during which it stays where it is. Its frames are forwarded, and what
was lost is being sent again: moved once more, its TCP would forget what it has already got out of order and told the
peer that it need not send again."""

SEEN_FOR = 1.0
"""Seconds during which the sequence numbers of the last move still tell old segments from new ones: 2**31 bytes
must not have passed meanwhile."""

RETRY = 0.2
"""Seconds until a refused offload is tried again."""


def threshold(after_bytes: int | None) -> int:
    """What the frame path compares bytes with; None: never."""
    return 2**64 - 1 if after_bytes is None else after_bytes


class OnFault(Enum):
    """What becomes of an offloaded connection whose link dies."""

    RELOAD = "reload"  # onto a surviving NIC at once: a guess, which the first frame corrects
    UPLOAD = "upload"  # to the host, for good
    ON_FIRST_PACKET = "on_first_packet"  # to the host, until a frame shows the switch's choice


class Choice(Enum):
    """How a NIC is chosen where the switch's choice is not known."""

    LEAST_LOADED = "least_loaded"
    ROUND_ROBIN = "round_robin"
    BY_HASH = "by_hash"


class Plan(NamedTuple):
    """One move. source, target: NIC id or HOST. cause: policy, link_down, link_up, rebalance, stray, drain,
    idle, urgent_data, low_memory or command. resend: what was in flight is lost. fallbacks: places to try, in order,
    when the target refuses. record: as it was found, if only a move or its end changes it: that of one on a NIC."""

    connection: Connection
    source: int
    target: int
    cause: str
    resend: bool = False
    fallbacks: tuple[int, ...] = ()
    record: Record | None = None


class Seen(NamedTuple):
    """The peer's sequence numbers when the connection last moved, and when that was (seconds)."""

    snd_una: int
    rcv_nxt: int
    at: float


@dataclass
class History:
    """What the agent remembers of one connection beside its record. left: NIC id -> seconds when it was moved away.
    fault: seconds when a dead link last moved it."""

    left: dict[int, float] = field(default_factory=dict)
    fault: float | None = None
    seen: Seen | None = None

    def in_flight_is_lost(self, now: float) -> bool:
        return self.fault is not None and now - self.fault < FAULT_WINDOW


@dataclass(frozen=True)
class Evidence:
    """A frame at block 414: the NIC it came in by, the record's epoch then, its sequence numbers and payload."""

    nic: int
    epoch: int
    seq: int = 0
    ack: int = 0
    length: int = 0


def should_reload(record: Record, found: Evidence, history: History, active: Iterable[int], now: float) -> bool:
    """Block 414: a frame of an offloaded connection came in by another NIC. Is that the switch's new choice?"""
    if not record.offloaded or record.stage is not Stage.SETTLED:
        return False
    if record.epoch != found.epoch or record.nic == found.nic or found.nic not in active:
        return False
    if history.fault is not None and now - history.fault < RECOVERY:
        return False
    if history.seen and now - history.seen.at < SEEN_FOR and not _in_window(found, history.seen):
        return False
    left = history.left.get(found.nic)
    return left is None or now - left >= HOLD_DOWN


def _in_window(found: Evidence, seen: Seen) -> bool:
    """Neither an old segment nor an old acknowledgement (RFC 9293, 3.4; comparison modulo 2**32)."""
    half = 2**31
    return (found.seq + found.length - seen.rcv_nxt) % 2**32 < half and (found.ack - seen.snd_una) % 2**32 < half


class Chooser:
    """Picks a NIC by a strategy. Its only state is the turn of round robin."""

    def __init__(self, choice: Choice):
        self._choice = choice
        self._turn = -1

    def pick(self, candidates: Iterable[int], load: Mapping[int, int], connection: Connection) -> int | None:
        """One of the candidates; load: offloaded connections by NIC. None when there are none."""
        nics = sorted(candidates)
        if not nics:
            return None
        match self._choice:
            case Choice.LEAST_LOADED:
                return min(nics, key=lambda nic: (load.get(nic, 0), nic)) if len(nics) > 1 else nics[0]
            case Choice.ROUND_ROBIN:
                self._turn = next((nic for nic in nics if nic > self._turn), nics[0])
                return self._turn
            case Choice.BY_HASH:
                return nics[zlib.crc32(key_of(connection)) % len(nics)]


def load_of(records: Iterable[tuple[Connection, Record]]) -> dict[int, int]:
    """Offloaded connections by NIC."""
    load: dict[int, int] = {}
    for _, record in records:
        if record.offloaded:
            load[record.nic] = load.get(record.nic, 0) + 1
    return load


@dataclass
class Walk:
    """What a walk through a NIC's records leads to. stranded: offloaded, and no NIC is left to go to."""

    remove: list[Connection] = field(default_factory=list)
    moves: list[Plan] = field(default_factory=list)
    stranded: list[Connection] = field(default_factory=list)
    lost: list[Connection] = field(default_factory=list)


Records = list[tuple[Connection, Record]]


def on_link_down(
    failed: int,
    active: tuple[int, ...],
    records: Records,
    on_fault: OnFault,
    chooser: Chooser,
    load: dict[int, int] | None = None,
) -> Walk:
    """A NIC lost its link. For each of its records: not offloaded -> removed; offloaded -> moved, by policy. load: as
    the chooser knows it, and kept up; None: these are all records."""
    walk, offloaded = _walk(failed, records)
    others = tuple(nic for nic in active if nic != failed)
    load = load_of(records) if load is None else load
    for connection, record in offloaded:
        if on_fault is not OnFault.RELOAD:
            walk.moves.append(Plan(connection, failed, HOST, "link_down", resend=True, record=record))
        else:
            _away(walk, connection, record, others, load, chooser, "link_down", resend=True)
    return walk


def on_adapter_failure(failed: int, records: Records) -> Walk:
    """A NIC is gone with all it held: its offloaded connections are lost; what the host holds goes on. A connection on
    the move is left to its move, which finds the NIC gone."""
    walk, lost = _walk(failed, records)
    walk.lost += [connection for connection, _ in lost]
    return walk


def on_link_up(returned: int, active: tuple[int, ...], records: Records, *, rebalance: bool, chooser: Chooser) -> Walk:
    """A link came back. Connections stranded on NICs without a link go where there is one; with rebalance, the
    returned NIC also gets its share, as a guess that the first frame corrects."""
    walk = Walk()
    load = load_of(records)
    settled = [(c, r) for c, r in records if r.offloaded and r.stage is Stage.SETTLED]
    for connection, record in settled:
        if record.nic not in active:
            _away(walk, connection, record, active, load, chooser, "link_up", resend=True)
    if rebalance and returned in active:
        share = sum(load.get(nic, 0) for nic in active) // len(active)
        for connection, record in settled:
            if load.get(returned, 0) >= share:
                break
            if record.nic in active and record.nic != returned and load[record.nic] > share:
                walk.moves.append(Plan(connection, record.nic, returned, "rebalance", fallbacks=(record.nic,)))
                load[record.nic] -= 1
                load[returned] = load.get(returned, 0) + 1
    return walk


def on_remove(leaving: int, active: tuple[int, ...], records: Records, chooser: Chooser) -> Walk:
    """A NIC is to leave the team: all that it holds goes elsewhere first, to the host where no NIC is left."""
    walk, offloaded = _walk(leaving, records)
    others = tuple(nic for nic in active if nic != leaving)
    load = load_of(records)
    for connection, record in offloaded:
        if not others:
            walk.moves.append(Plan(connection, leaving, HOST, "drain"))
        else:
            _away(walk, connection, record, others, load, chooser, "drain", resend=False)
    return walk


def _walk(nic: int, records: Records) -> tuple[Walk, Records]:
    """Through a NIC's records at rest: those of connections that are not offloaded are removed; the others' fate is to
    be decided. A record that knows of an end of stream stays: a new one would not, and let out the host's late RST."""
    here = [(c, r) for c, r in records if r.nic == nic and r.stage is Stage.SETTLED]
    return Walk(remove=[c for c, r in here if not (r.offloaded or r.fins)]), [(c, r) for c, r in here if r.offloaded]


def _away(
    walk: Walk,
    connection: Connection,
    record: Record,
    others: tuple[int, ...],
    load: dict[int, int],
    chooser: Chooser,
    cause: str,
    *,
    resend: bool,
) -> None:
    target = chooser.pick(others, load, connection)
    if target is None:
        walk.stranded.append(connection)
        return
    load[target] = load.get(target, 0) + 1
    walk.moves.append(Plan(connection, record.nic, target, cause, resend, _fallbacks(target, others), record))


@cache
def _fallbacks(target: int, others: tuple[int, ...]) -> tuple[int, ...]:
    return (*(nic for nic in others if nic != target), HOST)
