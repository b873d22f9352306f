"""The records: what the teaming software knows of each connection, kept in BPF maps of the server.

Decides: nothing; it reads and writes the layouts of bpf/records.h. Never touches: sockets, contexts, policy.

The host engine loads the programs and pins the maps; the agent opens them by their pins, so that either may restart.
A record changes by the `assign` program, in place in the kernel, so that no frame counted meanwhile is lost.
RecordKeeper is what the agent needs of whoever keeps records; plain_records.py has another keeper.
"""

from __future__ import annotations

import errno
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from host_agent import kernel
from host_agent.bpf import build
from host_agent.connection import KEY, Connection, from_key, key_of
from host_agent.decision import NO_FINS, Action, Block, By, Fins, Record, Stage

MAX_NICS = 16
NEVER = 2**64 - 1

_RECORD = struct.Struct("=IBBBBI6sBxIII10Q")
_FLAG = 4  # the offload flag's byte of a record, behind the NIC
_FEW, _SLICE, _TALLIED = 64, 512, 1024
_LOOKED_AT = 8192  # records for a piece of what the kernel gives at once
_PIECES = 4  # to a slice: at most 900 records
_ASKED = struct.Struct("=QQII")
_TEAM = struct.Struct("=III16I16B16II4QI4x")
_COUNTS = struct.Struct("=10Q")
_SERVICE = struct.Struct("=QQI4x")
_REPORT = struct.Struct("=Q36s6I4B")
_ASSIGN = struct.Struct("=36sIIBBBBBB2x")
_ASSIGNMENTS = struct.Struct("=QQI4x")
_AT_ONCE = 64  # ASSIGNMENTS
_INDEX = struct.Struct("=I")
_ZERO = bytes(4)
_KEEP = 2  # enum { CLEAR, SET, KEEP }
_ACTIONS = tuple(Action)
COUNTED = (*(block.label for block in Block), "other", "held", "forwarded", "up", "unrecorded")

PINNED_LAST = "assign"
Slice = list[tuple[Connection, Record]]
Slices = Iterator[Slice]

#            name          key size  value size
_MAPS = {
    "records": (KEY.size, _RECORD.size),
    "team": (4, _TEAM.size),
    "nic_of_bus": (4, 4),
    "counters": (4, _COUNTS.size),
    "services": (_INDEX.size, _SERVICE.size),
    "reports": (0, 0),
}


class ReportKind(IntEnum):
    STRAY = 1  # block 414: the connection's frames reach another NIC than its owner
    DUE = 2  # the policy's threshold of bytes or of time was passed
    TRACE = 3  # any frame that a NIC handed over, while Team.trace is set; some may be missing
    CLOSED = 4  # an RST, or a SYN that uses the identifier again: see `by`
    NEW_HOP = 6  # the frames of a connection of the host's come with another MAC
    FULL = 5  # a new connection got no record, for there was no room


@dataclass(frozen=True)
class Report:
    """What the frame path tells the agent.

    at: CLOCK_MONOTONIC, ns. nic: where the frame came in; for DUE, and for what the host sent, the record's. epoch: the
    record's. seq, ack, payload (bytes), flags: the frame's. block and action: TRACE and STRAY. by: CLOSED. A CLOSED
    connection has no record any more, but for one on the move, which is marked as closing, and one whose identifier was
    used again, which has a new one. Of an offloaded one nothing is told at an RST: its owner is the judge of that.
    """

    at: int
    connection: Connection
    kind: ReportKind
    nic: int
    epoch: int
    seq: int = 0
    ack: int = 0
    payload: int = 0
    flags: int = 0
    block: Block | None = None
    action: Action | None = None
    by: By | None = None


@dataclass(frozen=True)
class Threshold:
    """When a connection is due for a NIC: at so many bytes in both directions, or at an age in ns (0: at none)."""

    after_bytes: int = NEVER
    after_ns: int = 0


@dataclass(frozen=True)
class Team:
    """The settings of the frame path. Interface indexes; live: NIC ids with carrier; offload_after: bytes;
    offload_after_ns: age of a connection, 0: none; report_every: nanoseconds. A stray is told when it is the
    `stray_frames`th since the last move, or `stray_after` ns behind the first (0: never for that reason).
    trace: tell the block of every frame."""

    virtual_nic: int = 0
    hold: int = 0
    live: tuple[int, ...] = ()
    bus: tuple[int, ...] = ()
    offload_after: int = NEVER
    report_every: int = 1_000_000
    offload_after_ns: int = 0
    stray_frames: int = 1
    stray_after: int = 0
    trace: bool = False

    def pack(self) -> bytes:
        def pad(values: tuple[int, ...]) -> tuple[int, ...]:
            return values + (0,) * (MAX_NICS - len(values))

        up = tuple(int(i in self.live) for i in range(MAX_NICS))
        return _TEAM.pack(
            self.virtual_nic,
            self.hold,
            len(self.live),
            *pad(self.live),
            *up,
            *pad(self.bus),
            self.trace,
            self.offload_after,
            self.offload_after_ns,
            self.report_every,
            self.stray_after,
            self.stray_frames,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Team:
        virtual_nic, hold, count, *rest = _TEAM.unpack(data)
        trace, offload_after, offload_after_ns, report_every, stray_after, stray_frames = rest[48:]
        return cls(
            virtual_nic=virtual_nic,
            hold=hold,
            live=tuple(rest[:count]),
            bus=tuple(b for b in rest[32:48] if b),
            offload_after=offload_after,
            offload_after_ns=offload_after_ns,
            report_every=report_every,
            stray_frames=stray_frames,
            stray_after=stray_after,
            trace=bool(trace),
        )


def pack_record(r: Record) -> bytes:
    return _RECORD.pack(
        r.nic,
        r.offloaded,
        r.stage,
        r.due,
        r.closing,
        r.epoch,
        r.peer_mac,
        r.fins,
        r.forwarded,
        r.peer_fin,
        r.host_fin,
        r.created,
        r.last_seen,
        r.reported,
        r.first_stray,
        r.packets,
        r.bytes,
        r.bytes_out,
        r.strays,
        r.host_segments,
        r.silenced,
    )


_FIELDS = tuple(field.name for field in fields(Record))
_STAGES, _FINS = tuple(Stage), tuple(Fins(number) for number in range(16))


def unpack_record(data: bytes | memoryview, at: int = 0) -> Record:
    told = list(_RECORD.unpack_from(data, at))
    told[1], told[3], told[4] = told[1] == 1, told[3] == 1, told[4] == 1
    told[2], told[7] = _STAGES[told[2]], _FINS[told[7]]
    # A frozen dataclass sets one field after the other, and thousands of records are read at a fault.
    record = object.__new__(Record)
    record.__dict__.update(zip(_FIELDS, told, strict=True))
    return record


def unpack_report(data: bytes) -> Report:
    at, key, kind, nic, epoch, seq, ack, payload, flags, block, action, by = _REPORT.unpack(data)
    on_the_way = kind in (ReportKind.TRACE, ReportKind.STRAY)
    where, what = Block(block) if on_the_way else None, _ACTIONS[action] if on_the_way else None
    who = By(by) if by else None
    return Report(at, from_key(key), ReportKind(kind), nic, epoch, seq, ack, payload, flags, where, what, who)


class Assignment(NamedTuple):
    """What a record becomes if it is still of `epoch`. moved: counts the epoch up, and strays anew. due, closing: what
    they become, None: as they are. fins: ends of stream beside those that it knows."""

    connection: Connection
    epoch: int
    nic: int
    offloaded: bool
    stage: Stage
    moved: bool = False
    due: bool | None = None
    closing: bool | None = None
    fins: Fins = NO_FINS


class RecordsFull(Exception):
    """There is no room for another record."""


def _packed(a: Assignment) -> bytes:
    connection, epoch, nic, offloaded, stage, moved, due, closing, fins = a
    is_due, is_closing = _KEEP if due is None else due, _KEEP if closing is None else closing
    return _ASSIGN.pack(key_of(connection), nic, epoch, offloaded, stage, moved, is_due, is_closing, fins)


class RecordKeeper(Protocol):
    """Who keeps the records of one team and provides them on demand. As Records, below, without its BPF."""

    @property
    def capacity(self) -> int: ...
    @property
    def team(self) -> Team: ...
    @team.setter
    def team(self, value: Team) -> None: ...
    def get(self, connection: Connection) -> Record | None: ...
    def all(self) -> Iterator[tuple[Connection, Record]]: ...
    def few(self) -> Slice | None: ...
    def slices(self) -> Slices: ...
    def quiet(self, since: int, closed_since: int, *, half_open: bool = False) -> Slices: ...
    def tally(self) -> Iterator[Counter[tuple[int, bool]]]: ...
    def put(self, connection: Connection, record: Record) -> None: ...
    def delete(self, connection: Connection) -> bool: ...
    def assign(self, assignments: Sequence[Assignment]) -> list[bool]: ...
    def set_service(self, port: int, threshold: Threshold | None) -> None: ...
    def counts(self, nic: int) -> dict[str, int]: ...


def _slice(count: int, keys: bytes, values: memoryview) -> Slice:
    places = zip(range(0, count * KEY.size, KEY.size), range(0, len(values), _RECORD.size), strict=False)
    return [(from_key(keys[key : key + KEY.size]), unpack_record(values, at)) for key, at in places]


def _load_quiet() -> tuple[kernel.Program, kernel.Map]:
    loaded = kernel.BpfObject(build.path("quiet"))
    return loaded.program("quiet"), loaded.map("asked", 4, _ASKED.size)


class Records:
    """The maps of one team. `get`, `all`, `assign`, `delete` on connections; `team` and `counts` beside them."""

    def __init__(self, maps: dict[str, kernel.Map], assign: kernel.Program):
        self._maps = maps
        self._assign = assign
        self._quiet: Future[tuple[kernel.Program, kernel.Map]] | None = None

    @classmethod
    def of_object(cls, loaded: kernel.BpfObject) -> Records:
        maps = {name: loaded.map(name, *sizes) for name, sizes in _MAPS.items()}
        return cls(maps, loaded.program("assign"))

    @classmethod
    def pinned(cls, directory: Path) -> Records:
        """Opens what the host engine has pinned. Raises KernelError if it has not."""
        maps = {name: kernel.Map(kernel.pinned(directory / name), *sizes) for name, sizes in _MAPS.items()}
        return cls(maps, kernel.Program(kernel.pinned(directory / PINNED_LAST), "assign"))

    def pin(self, directory: Path) -> None:
        """In place of what a host engine has left that died at this very step."""
        for name in self._maps:
            (directory / name).unlink(missing_ok=True)
        for name, a_map in self._maps.items():
            kernel.pin(a_map.fd, directory / name)
        kernel.pin(self._assign.fd, directory / PINNED_LAST)

    def get(self, connection: Connection) -> Record | None:
        data = self._maps["records"].get(key_of(connection))
        return unpack_record(data) if data is not None else None

    @property
    def capacity(self) -> int:
        """How many records there is room for, chosen when the object was loaded."""
        return self._maps["records"].max_entries()

    def all(self) -> Iterator[tuple[Connection, Record]]:
        """All records; those made or deleted meanwhile may be among them or not."""
        for some in self.slices():
            yield from some

    def slices(self) -> Slices:
        """The same, some hundred by one system call."""
        for count, keys, values, _ in self._maps["records"].batches(_SLICE):
            yield _slice(count, keys, values)

    def few(self) -> Slice | None:
        """The same where they are few; None: they are not."""
        count, keys, values, last = next(self._maps["records"].batches(_FEW))
        return _slice(count, keys, values) if last else None

    def quiet(self, since: int, closed_since: int, *, half_open: bool = False) -> Slices:
        """Those of ageing.py's may_be_old(), or of these the half-open ones, a slice at a time. The kernel goes through
        all and gives out only these; a slice takes some milliseconds however many there are."""
        if self._quiet is None:  # beside us, for libbpf reads all types of the kernel to load it, which takes 50 ms
            with_one_thread = ThreadPoolExecutor(1)
            self._quiet = with_one_thread.submit(_load_quiet)
            with_one_thread.shutdown(wait=False)
        while not self._quiet.done():
            yield []
        program, asked = self._quiet.result()
        question, found = _ASKED.pack(since, closed_since, _LOOKED_AT, half_open), list[tuple[Connection, Record]]()
        asked.put(_ZERO, question)
        for number, piece in enumerate(program.walk(self._maps["records"]), 1):
            for at in range(0, len(piece), KEY.size + _RECORD.size):
                found.append((from_key(piece[at : at + KEY.size]), unpack_record(piece, at + KEY.size)))
            if number % _PIECES == 0:
                yield found
                found = []
                asked.put(_ZERO, question)  # somebody else may have asked another one meanwhile
        yield found

    def tally(self) -> Iterator[Counter[tuple[int, bool]]]:
        """How many records there are by NIC and offload flag, a slice at a time; none of them is taken apart."""
        for count, _, values, _ in self._maps["records"].batches(_TALLIED):
            # The first byte of a NIC's number is all of it, below MAX_NICS.
            found, end = Counter[tuple[int, bool]](), count * _RECORD.size
            told = zip(values[: end : _RECORD.size], values[_FLAG : end : _RECORD.size], strict=True)
            for (nic, flag), number in Counter(told).items():
                found[nic, flag != 0] += number
            yield found

    def put(self, connection: Connection, record: Record) -> None:
        """Raises RecordsFull."""
        try:
            self._maps["records"].put(key_of(connection), pack_record(record))
        except kernel.KernelError as error:
            if error.number != errno.E2BIG:
                raise
            raise RecordsFull(f"{connection}: {self.capacity} records are all there is room for") from None

    def delete(self, connection: Connection) -> bool:
        return self._maps["records"].delete(key_of(connection))

    def assign(self, assignments: Sequence[Assignment]) -> list[bool]:
        """Which of them were made; the record of the others is gone, or of another epoch. 64 by one system call."""
        made: list[bool] = []
        for start in range(0, len(assignments), _AT_ONCE):
            packed = b"".join(map(_packed, assignments[start : start + _AT_ONCE]))
            count = len(packed) // _ASSIGN.size
            memory = kernel.Memory(packed)
            _, answer = self._assign.run(context=_ASSIGNMENTS.pack(memory.address, 0, count))
            stale = _ASSIGNMENTS.unpack(answer)[1]
            made += [not stale >> n & 1 for n in range(count)] if stale else [True] * count
        return made

    @property
    def team(self) -> Team:
        data = self._maps["team"].get(_ZERO)
        assert data is not None  # an array map has all its elements
        return Team.unpack(data)

    @team.setter
    def team(self, value: Team) -> None:
        self._maps["team"].put(_ZERO, value.pack())

    def set_bus(self, ifindex: int, nic: int) -> None:
        """Raises KernelError for an index above what the frame path knows."""
        self._maps["nic_of_bus"].put(_INDEX.pack(ifindex), _INDEX.pack(nic + 1))

    def set_service(self, port: int, threshold: Threshold | None) -> None:
        """The threshold of connections to one port of the team; None: the team's own."""
        own = (0, 0, 0) if threshold is None else (threshold.after_bytes, threshold.after_ns, 1)
        self._maps["services"].put(_INDEX.pack(port), _SERVICE.pack(*own))

    def counts(self, nic: int) -> dict[str, int]:
        """Frames that came in by a NIC: by block of Figure 4, by what became of them, unrecorded for lack of room."""
        data = self._maps["counters"].get(struct.pack("=I", nic))
        assert data is not None
        return dict(zip(COUNTED, _COUNTS.unpack(data), strict=False))  # the last is no count

    def reports(self, take: Callable[[Report], None]) -> kernel.RingBuffer:
        """The frame path's reports; `take` is called from consume()."""
        return kernel.RingBuffer(self._maps["reports"].fd, lambda data: take(unpack_report(data)))
