"""Figure 4 of the method: what becomes of one frame that a NIC hands to the teaming software, and of the host's own.

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
from enum import Enum, IntEnum, IntFlag

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10  # RFC 9293, 3.1
FIRST_DUE = 3
"""The peer's frame that can make its connection due: the first behind the handshake."""


class Block(IntEnum):
    """The ends of Figure 4; the value is the place in `struct counts` of bpf/records.h."""

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
    """What becomes of a frame, in the order of `enum action` of bpf/records.h."""

    UP = "up"  # to the virtual NIC and the host's TCP
    FORWARD = "forward"  # to the NIC that owns the connection
    HOLD = "hold"  # into the hold queue


class By(IntEnum):
    """Who ended a connection: an RST of the peer's or the host's, or a SYN that uses its identifier again."""

    PEER = 1
    HOST = 2
    REUSE = 3


class Fins(IntFlag):
    """The ends of both streams, of a connection of the host's: sent, and acknowledged by the other side."""

    PEER = 1
    HOST = 2
    PEER_ACKED = 4
    HOST_ACKED = 8


NO_FINS = Fins(0)
_BOTH_ACKED = Fins.PEER_ACKED | Fins.HOST_ACKED


@dataclass(frozen=True)
class Record:
    """What the teaming software knows of one connection (the method's fields, less the identifier itself).

    nic: NIC id. offloaded: the offload flag. closing: its TCP is done with it, TIME-WAIT aside, so a SYN begins
    another connection. epoch: number of moves so far. forwarded, first_stray: how many frames reached block 414 since
    the last move, and when the first did. peer_fin, host_fin: sequence numbers just behind the FINs that `fins` names.
    packets, bytes: from the peer. bytes_out: from the host's TCP. Times are CLOCK_MONOTONIC in nanoseconds.
    """

    nic: int
    offloaded: bool = False
    stage: Stage = Stage.SETTLED
    due: bool = False
    closing: bool = False
    epoch: int = 0
    peer_mac: bytes = bytes(6)
    fins: Fins = NO_FINS
    forwarded: int = 0
    peer_fin: int = 0
    host_fin: int = 0
    created: int = 0
    last_seen: int = 0
    reported: int = 0
    first_stray: int = 0
    packets: int = 0
    bytes: int = 0
    bytes_out: int = 0
    strays: int = 0
    host_segments: int = 0
    silenced: int = 0


@dataclass(frozen=True)
class Frame:
    """One frame of a TCP connection: the NIC it came in by (no matter, if it came from the host), its length on the
    wire, its TCP flags, the peer's MAC, sequence and acknowledgement number, and its bytes of payload."""

    nic: int
    length: int
    flags: int = ACK
    peer_mac: bytes = bytes(6)
    seq: int = 0
    ack: int = 0
    payload: int = 0

    @property
    def opens(self) -> bool:
        """A SYN and nothing that answers."""
        return self.flags & (SYN | ACK | RST) == SYN


@dataclass(frozen=True)
class Verdict:
    """block: the end of Figure 4. action, and for FORWARD the NIC id in `to`. record: what is on record afterwards
    (None: nothing). stray, due, closed, new_hop: the reports made to the agent."""

    block: Block
    action: Action
    record: Record | None
    to: int | None = None
    stray: bool = False
    due: bool = False
    closed: By | None = None
    new_hop: bool = False


def figure_4(
    record: Record | None,
    frame: Frame,
    now: int,
    *,
    offload_after: int,
    report_every: int,
    offload_after_ns: int = 0,
    stray_frames: int = 1,
    stray_after: int = 0,
) -> Verdict:
    """One frame through Figure 4.

    now, report_every: nanoseconds. offload_after: bytes, both directions. offload_after_ns: age; 0: none.
    A stray is told when it is the epoch's `stray_frames`th or a later one, or when the epoch's first came `stray_after`
    ns ago (0: never for that reason); all are forwarded.
    """
    reused = record is not None and record.closing and record.stage is Stage.SETTLED and frame.opens
    if record is None or reused:
        fresh = Record(frame.nic, created=now, last_seen=now, packets=1, bytes=frame.length, peer_mac=frame.peer_mac)
        if record is not None:
            # The epoch counts on: nothing that was decided about the old connection fits the new one.
            fresh = replace(fresh, epoch=_u32(record.epoch + 1))
            return Verdict(Block.NEW, Action.UP, fresh, closed=By.REUSE)
        return Verdict(Block.NEW, Action.UP, None if frame.flags & RST else fresh)

    record, new_hop = _learn_hop(record, frame, now, report_every)
    record = replace(record, packets=record.packets + 1, bytes=record.bytes + frame.length, last_seen=now)
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
        record = replace(record, strays=record.strays + 1)
        if settled:
            record = _one_more_forwarded(record, now)
            patient = record.forwarded < stray_frames and not 0 < stray_after <= now - record.first_stray
            stray = not patient and not record.closing and now - record.reported >= report_every
            record = replace(record, reported=now if stray else record.reported)

    if not settled:
        return Verdict(block, Action.HOLD, record, new_hop=new_hop)
    if record.offloaded:
        # An RST is its owner's to judge (RFC 9293, 3.10.7.4), whose engine tells when it was good. Who has none of the
        # connection's numbers must not end it, nor open the way for a SYN.
        return Verdict(block, Action.FORWARD, record, to=record.nic, stray=stray)
    if frame.flags & RST:
        return Verdict(block, Action.UP, None, closed=By.PEER, new_hop=new_hop)
    due = _is_due(record, frame, now, offload_after, offload_after_ns)
    return Verdict(block, Action.UP, replace(record, due=record.due or due), due=due, new_hop=new_hop)


def of_the_wire(frame: bytes) -> bool:
    """A frame of the slow protocols (802.1AX: LACP, Marker) speaks of the wire that it came by. It is no traffic of the
    team's and never reaches the virtual NIC; the agent's socket on the bus gets it."""
    return frame[:6] == b"\x01\x80\xc2\0\0\2" and frame[12:14] == b"\x88\x09"


def into_host(record: Record | None, frame: Frame, *, released: bool = False) -> tuple[Action, Record | None]:
    """The door of the host's TCP, for a frame that was let up, or (released) that comes out of the hold queue.

    Its connection may have been held or offloaded meanwhile; then the frame does not get in. Gives what becomes of the
    frame (UP: it gets in) and of the record.
    """
    if record is None:
        return Action.UP, None
    if record.stage is not Stage.SETTLED and not released:
        return Action.HOLD, record
    if record.offloaded:
        return Action.FORWARD, record
    record = replace(record, host_segments=record.host_segments + 1)
    return Action.UP, note_fins(record, frame, from_peer=True)


@dataclass(frozen=True)
class Outward:
    """sent: the frame leaves; by the NIC `to`, or None: by any live one. record, due, closed: as in Verdict."""

    sent: bool
    record: Record | None
    to: int | None = None
    due: bool = False
    closed: By | None = None


def from_host(
    record: Record | None,
    frame: Frame,
    now: int,
    *,
    live: frozenset[int],
    offload_after: int,
    offload_after_ns: int = 0,
) -> Outward:
    """One segment of the host's TCP: out by the record's NIC, or by a live one; not at all if a NIC speaks for it."""
    if record is None:
        return Outward(bool(live), None)
    if record.closing and record.stage is Stage.SETTLED and frame.opens:
        return Outward(bool(live), None, closed=By.REUSE)
    # Both streams ended, an RST is only the kernel's answer to what came late: the socket is gone.
    if record.offloaded or record.stage is Stage.SILENT or (frame.flags & RST and _ended(record)):
        return Outward(False, replace(record, silenced=record.silenced + 1))
    record = replace(record, bytes_out=record.bytes_out + frame.length)
    record = note_fins(record, frame, from_peer=False)
    to = record.nic if record.nic in live else None
    if frame.flags & RST:
        if record.stage is Stage.SETTLED:
            return Outward(bool(live), None, to, closed=By.HOST)
        # The move under way still needs it; it finds out that the connection is no more.
        return Outward(bool(live), replace(record, closing=True), to, closed=None if record.closing else By.HOST)
    due = _is_due(record, frame, now, offload_after, offload_after_ns)
    return Outward(bool(live), replace(record, due=record.due or due), to, due=due)


def note_fins(record: Record, frame: Frame, *, from_peer: bool) -> Record:
    """Follows the ends of both streams of a connection of the host's; both acknowledged, its TCP is done with it."""
    if frame.flags & SYN:  # an end that was seen before was another connection's
        return replace(record, fins=NO_FINS, closing=record.closing and not (from_peer and frame.opens))
    end = _u32(frame.seq + frame.payload + 1)
    if frame.flags & FIN and from_peer:
        record = replace(record, fins=record.fins | Fins.PEER, peer_fin=end)
    elif frame.flags & FIN:
        record = replace(record, fins=record.fins | Fins.HOST, host_fin=end)
    answered, acked = (Fins.HOST, Fins.HOST_ACKED) if from_peer else (Fins.PEER, Fins.PEER_ACKED)
    behind = record.host_fin if from_peer else record.peer_fin
    if frame.flags & ACK and record.fins & answered and _u32(frame.ack - behind) < 2**31:
        record = replace(record, fins=record.fins | acked)
    return replace(record, closing=record.closing or _ended(record))


def _ended(record: Record) -> bool:
    return record.fins & _BOTH_ACKED == _BOTH_ACKED


def _learn_hop(record: Record, frame: Frame, now: int, report_every: int) -> tuple[Record, bool]:
    """The neighbour is whoever brings the frames. Of the host's connections that is told, and learned only when it can
    be told; a NIC tells of its own."""
    if record.peer_mac == frame.peer_mac or (not record.offloaded and now - record.reported < report_every):
        return record, False
    record = replace(record, peer_mac=frame.peer_mac)
    return (record, False) if record.offloaded else (replace(record, reported=now), True)


def _one_more_forwarded(record: Record, now: int) -> Record:
    forwarded = _u32(record.forwarded + 1)
    return replace(record, forwarded=forwarded, first_stray=now if forwarded == 1 else record.first_stray)


def _is_due(record: Record, frame: Frame, now: int, offload_after: int, offload_after_ns: int) -> bool:
    """A handshake's frames make nothing due: what is held of them lets the application meet its clients in another
    order, and before the application has it there is nothing to move."""
    if record.due or record.offloaded or record.closing or record.stage is not Stage.SETTLED:
        return False
    if record.packets < FIRST_DUE or frame.flags & SYN:
        return False
    old = 0 < offload_after_ns <= now - record.created
    return old or record.bytes + record.bytes_out >= offload_after


def _u32(number: int) -> int:
    return number % 2**32
