"""The records: what the teaming software knows of each connection, kept in BPF maps of the server.

Decides: nothing; it reads and writes the layouts of bpf/team.bpf.c. Never touches: sockets, contexts, policy.

The host engine loads the programs and pins the maps; the agent opens them by their pins, so that either may restart.
A record changes by the `assign` program, in place in the kernel, so that no frame counted meanwhile is lost.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from host_agent import kernel
from host_agent.connection import KEY, Connection, from_key, key_of
from host_agent.decision import Block, Record, Stage

MAX_NICS = 16
NEVER = 2**64 - 1

_RECORD = struct.Struct("=IBBBxI6s6x9Q")
_TEAM = struct.Struct("=III16I16B16I4xQQ")
_COUNTS = struct.Struct("=8Q")
_REPORT = struct.Struct("=Q36sIII")
_ASSIGN = struct.Struct("=36sIIBBBxi")
_ZERO = bytes(4)

#            name          key size  value size
_MAPS = {
    "records": (KEY.size, _RECORD.size),
    "team": (4, _TEAM.size),
    "nic_of_bus": (4, 4),
    "counters": (4, _COUNTS.size),
    "reports": (0, 0),
}


class ReportKind(IntEnum):
    STRAY = 1  # block 414: the connection's frames reach another NIC than its owner
    DUE = 2  # the policy's threshold of bytes was passed


@dataclass(frozen=True)
class Report:
    """What the frame path tells the agent. at: CLOCK_MONOTONIC, ns. nic: where the frame came in."""

    at: int
    connection: Connection
    kind: ReportKind
    nic: int
    epoch: int


@dataclass(frozen=True)
class Team:
    """The settings of the frame path. Interface indexes; live: NIC ids with carrier; offload_after: bytes;
    report_every: nanoseconds."""

    virtual_nic: int = 0
    hold: int = 0
    live: tuple[int, ...] = ()
    bus: tuple[int, ...] = ()
    offload_after: int = NEVER
    report_every: int = 1_000_000

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
            self.offload_after,
            self.report_every,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Team:
        virtual_nic, hold, count, *rest = _TEAM.unpack(data)
        live, bus = rest[:16], rest[32:48]
        return cls(virtual_nic, hold, tuple(live[:count]), tuple(b for b in bus if b), rest[48], rest[49])


def pack_record(r: Record) -> bytes:
    return _RECORD.pack(
        r.nic,
        r.offloaded,
        r.stage,
        r.due,
        r.epoch,
        r.peer_mac,
        r.created,
        r.last_seen,
        r.reported,
        r.packets,
        r.bytes,
        r.bytes_out,
        r.strays,
        r.host_segments,
        r.silenced,
    )


def unpack_record(data: bytes) -> Record:
    nic, offloaded, stage, due, epoch, mac, *numbers = _RECORD.unpack(data)
    return Record(nic, bool(offloaded), Stage(stage), bool(due), epoch, mac, *numbers)


class StaleRecord(Exception):
    """The record is gone, or has moved on since it was read."""


class Records:
    """The maps of one team. `get`, `all`, `assign`, `delete` on connections; `team` and `counts` beside them."""

    def __init__(self, maps: dict[str, kernel.Map], assign: kernel.Program):
        self._maps = maps
        self._assign = assign

    @classmethod
    def of_object(cls, loaded: kernel.BpfObject) -> Records:
        maps = {name: loaded.map(name, *sizes) for name, sizes in _MAPS.items()}
        return cls(maps, loaded.program("assign"))

    @classmethod
    def pinned(cls, directory: Path) -> Records:
        """Opens what the host engine has pinned. Raises KernelError if it has not."""
        maps = {name: kernel.Map(kernel.pinned(directory / name), *sizes) for name, sizes in _MAPS.items()}
        return cls(maps, kernel.Program(kernel.pinned(directory / "assign"), "assign"))

    def pin(self, directory: Path) -> None:
        for name, a_map in self._maps.items():
            kernel.pin(a_map.fd, directory / name)
        kernel.pin(self._assign.fd, directory / "assign")

    def get(self, connection: Connection) -> Record | None:
        data = self._maps["records"].get(key_of(connection))
        return unpack_record(data) if data is not None else None

    def all(self) -> Iterator[tuple[Connection, Record]]:
        for key, value in self._maps["records"].items():
            yield from_key(key), unpack_record(value)

    def put(self, connection: Connection, record: Record) -> None:
        self._maps["records"].put(key_of(connection), pack_record(record))

    def delete(self, connection: Connection) -> bool:
        return self._maps["records"].delete(key_of(connection))

    def assign(
        self,
        connection: Connection,
        *,
        epoch: int,
        nic: int,
        offloaded: bool,
        stage: Stage,
        moved: bool = False,
    ) -> None:
        """Sets NIC, flag and stage if the record is still of `epoch`; moved: counts the epoch up.

        Raises StaleRecord if it is not.
        """
        request = _ASSIGN.pack(key_of(connection), nic, epoch, offloaded, stage, moved, 0)
        _, answer = self._assign.run(context=request)
        result = _ASSIGN.unpack(answer)[-1]
        if result in (-errno.ENOENT, -errno.ESTALE):
            raise StaleRecord(f"{connection}: {os.strerror(-result)}")

    @property
    def team(self) -> Team:
        data = self._maps["team"].get(_ZERO)
        assert data is not None  # an array map has all its elements
        return Team.unpack(data)

    @team.setter
    def team(self, value: Team) -> None:
        self._maps["team"].put(_ZERO, value.pack())

    def set_bus(self, ifindex: int, nic: int) -> None:
        self._maps["nic_of_bus"].put(struct.pack("=I", ifindex), struct.pack("=I", nic))

    def counts(self, nic: int) -> dict[str, int]:
        """Frames that came in by a NIC: by block of Figure 4, and by what became of them."""
        data = self._maps["counters"].get(struct.pack("=I", nic))
        assert data is not None
        names = [block.label for block in Block] + ["other", "held", "forwarded", "up"]
        return dict(zip(names, _COUNTS.unpack(data), strict=True))

    def reports(self, take: Callable[[Report], None]) -> kernel.RingBuffer:
        """The frame path's reports; `take` is called from consume()."""

        def unpack(data: bytes) -> None:
            at, key, kind, nic, epoch = _REPORT.unpack(data)
            take(Report(at, from_key(key), ReportKind(kind), nic, epoch))

        return kernel.RingBuffer(self._maps["reports"].fd, unpack)
