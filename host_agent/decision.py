"""Figure 4 of the method: what becomes of one frame that a NIC hands to the teaming software.

Decides: block and action for a frame, from the record of its connection and the NIC it came in by.
Never touches: maps, sockets, clocks; time is passed in.

bpf/team.bpf.c does the same at kernel speed; this is the text it is held against, frame by frame, in tests/kernel.

    402 is there a record? --no--> 404 make one with this NIC, not offloaded; pass up
     |yes
    406 the record's NIC is this NIC? --yes--> 408 pass up
     |no
    410 is the offload flag set? --no--> 412 pass up, learn the NIC
     |yes
    414 forward to the NIC of the record, and tell: the connection should be reloaded onto this NIC
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10  # RFC 9293, 3.1


class Block(IntEnum):
    """The ends of Figure 4; the value is the place in `struct counts` of bpf/team.bpf.c."""

    NEW = 0
    SAME_NIC = 1
    LEARN = 2
    STRAY = 3

    @property
    def label(self) -> str:
        return ("402_404", "406_408", "410_412", "410_414")[self]


class Stage(IntEnum):
    """Where a record is in a move: SETTLED (none), HELD (frames queue), SILENT (and the host's TCP must not speak)."""

    SETTLED = 0
    HELD = 1
    SILENT = 2


class Action(Enum):
    UP = "up"  # to the virtual NIC and the host's TCP
    FORWARD = "forward"  # to the NIC that owns the connection
    HOLD = "hold"  # into the hold queue


@dataclass(frozen=True)
class Record:
    """What the teaming software knows of one connection (the method's fields, less the identifier itself).

    nic: NIC id. offloaded: the offload flag. epoch: number of moves so far. packets, bytes: from the peer.
    bytes_out: from the host's TCP to the peer. Times are CLOCK_MONOTONIC in nanoseconds.
    """

    nic: int
    offloaded: bool = False
    stage: Stage = Stage.SETTLED
    due: bool = False
    epoch: int = 0
    peer_mac: bytes = bytes(6)
    created: int = 0
    last_seen: int = 0
    reported: int = 0
    packets: int = 0
    bytes: int = 0
    bytes_out: int = 0
    strays: int = 0
    host_segments: int = 0
    silenced: int = 0


@dataclass(frozen=True)
class Frame:
    """One frame of a TCP connection: the NIC it came in by, its length on the wire, its TCP flags, its source MAC."""

    nic: int
    length: int
    flags: int = ACK
    peer_mac: bytes = bytes(6)


@dataclass(frozen=True)
class Verdict:
    """block: the end of Figure 4. action, and for FORWARD the NIC id in `to`. record: what is on record afterwards
    (None: nothing). stray, due: the reports made to the agent."""

    block: Block
    action: Action
    record: Record | None
    to: int | None = None
    stray: bool = False
    due: bool = False


def figure_4(record: Record | None, frame: Frame, now: int, *, offload_after: int, report_every: int) -> Verdict:
    """One frame through Figure 4. now, report_every: nanoseconds. offload_after: bytes, both directions."""
    if record is None:
        fresh = Record(frame.nic, created=now, last_seen=now, packets=1, bytes=frame.length, peer_mac=frame.peer_mac)
        return Verdict(Block.NEW, Action.UP, None if frame.flags & RST else fresh)

    record = replace(
        record,
        packets=record.packets + 1,
        bytes=record.bytes + frame.length,
        last_seen=now,
        peer_mac=frame.peer_mac,
    )
    settled = record.stage is Stage.SETTLED
    stray = False
    if record.nic == frame.nic:
        block = Block.SAME_NIC
    elif not record.offloaded:
        block = Block.LEARN
        if settled:
            record = replace(record, nic=frame.nic)
    else:
        block = Block.STRAY
        stray = settled and now - record.reported >= report_every
        record = replace(record, strays=record.strays + 1, reported=now if stray else record.reported)

    if not settled:
        return Verdict(block, Action.HOLD, record)
    if record.offloaded:
        return Verdict(block, Action.FORWARD, record, to=record.nic, stray=stray)
    due = not record.due and record.bytes + record.bytes_out >= offload_after
    record = replace(record, due=record.due or due)
    return Verdict(block, Action.UP, None if frame.flags & RST else record, due=due)
