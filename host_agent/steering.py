"""What an engine's network namespace keeps for itself: a NIC's offload table, and the server's frame path.

Decides: the order in which a namespace stops and starts serving a connection. Never touches: TCP sockets, policy.

    leaving  no frame reaches this stack any more; what it has to say still goes out
    left     it says nothing more
    joining  it speaks, and takes what comes over the bus: the frames held during the move come first, in order
    joined   it takes frames from its wire too
    ending   both ends of stream have passed: an RST is no longer its to send, for its socket may be gone before anybody
             has noticed, and the kernel answers whatever comes then
    ended    the socket is gone: late segments still come here, for the kernel keeps TIME-WAIT, or they are swallowed;
             a SYN that re-uses the identifier ends this
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Protocol

from host_agent import kernel
from host_agent.bpf import build
from host_agent.connection import KEY, Connection, from_key, key_of
from host_agent.decision import Stage
from host_agent.records import PINNED_LAST, Assignment, Records, Team
from host_agent.tap import open_tap, set_up


def hold_of(team: str) -> str:
    """The name of the tap device in which a team's held frames wait (an interface name has at most 15 bytes)."""
    return f"hold-{team}"[:15]


CAPACITY = 65536  # records

_STEER = struct.Struct("=I6s6x6Q")
_DOORS = struct.Struct("=3I")
_FOUND = bytes(12)  # behind an identifier in `many`: next hop, whether it is here
_MANY, _NAMED = 256, KEY.size + len(_FOUND)
_NEW_HOP = struct.Struct("=36s6s2x")
_PORTS = struct.Struct("=II5Q")
_ZERO = bytes(4)
_ALL = 0xFF


class Steer(IntFlag):
    """The doors of a NIC that are open to a connection (bpf/nic.bpf.c)."""

    WIRE_IN = 1
    BUS_IN = 2
    OUT = 4
    ENDED = 8
    NO_RST = 16


class Steering(Protocol):
    def leaving(self, connections: Sequence[Connection]) -> Sequence[bytes | None]: ...
    def left(self, connections: Sequence[Connection]) -> None: ...
    def joining(self, next_hops: Mapping[Connection, bytes]) -> None: ...
    def joined(self, connections: Sequence[Connection]) -> None: ...
    def ending(self, connection: Connection) -> None: ...
    def ended(self, connection: Connection, *, answers: bool) -> None: ...
    def update(self, connections: Iterable[Connection], next_hop: bytes) -> None: ...
    def next_hop(self, connection: Connection) -> bytes | None: ...
    def seen(self, connection: Connection) -> Seen | None: ...


@dataclass(frozen=True)
class Seen:
    """What a NIC's steering counted of one connection since it joined. last_seen: of its last frame, or when it joined;
    CLOCK_MONOTONIC, nanoseconds, up to two ticks of the kernel's old."""

    frames_in: int
    wire_bytes_in: int
    frames_out: int
    wire_bytes_out: int
    last_seen: int


@dataclass(frozen=True)
class NicCounts:
    """Frames: passed to the host, passed to the wire, the NIC's own in and out, and what it had no right to say."""

    to_host: int
    to_wire: int
    own_in: int
    own_out: int
    silenced: int


class NicSteering:
    """The offload table of one NIC: connection identifier -> open doors and next hop."""

    def __init__(self, wire: str, bus: str):
        loaded = kernel.BpfObject(build.path("nic"))
        self._offloads = loaded.map("offloads", KEY.size, _STEER.size)
        self._nic = loaded.map("nic", 4, _PORTS.size)
        self._new_hops = loaded.map("new_hops", 0, 0)
        self._many, self._set_doors = loaded.map("many", 4, _NAMED).shared(_MANY), loaded.program("set_doors")
        self._nic.put(_ZERO, _PORTS.pack(socket.if_nametoindex(wire), socket.if_nametoindex(bus), 0, 0, 0, 0, 0))
        loaded.program("wire_out").attach(wire, kernel.EGRESS)
        loaded.program("wire_in").attach(wire, kernel.INGRESS)
        loaded.program("bus_in").attach(bus, kernel.INGRESS)

    def _set(self, connections: Sequence[Connection], doors: int, keep: int = 0) -> list[bytes | None]:
        """Opens these doors, of those that are open now only `keep` stay so; in place, so that no frame counted
        meanwhile is lost. Their next hops, None of those that are not here."""
        hops: list[bytes | None] = []
        for start in range(0, len(connections), _MANY):
            some = connections[start : start + _MANY]
            size = len(some) * _NAMED
            self._many[:size] = b"".join([key_of(one) + _FOUND for one in some])
            self._set_doors.run(context=_DOORS.pack(len(some), keep, doors))
            found = self._many[:size]
            for at in range(KEY.size, size, _NAMED):
                hops.append(found[at : at + 6] if found[at + 6] else None)
        return hops

    def leaving(self, connections: Sequence[Connection]) -> Sequence[bytes | None]:
        """Gives the next hops that they were learned to have."""
        return self._set(connections, Steer.OUT)

    def left(self, connections: Sequence[Connection]) -> None:
        self._offloads.delete_many([key_of(connection) for connection in connections])

    def joining(self, next_hops: Mapping[Connection, bytes]) -> None:
        """next_hops: the 6-byte MAC that each one's frames go to. Raises KernelError when the table is full; some are
        in it then."""
        # As if a frame had come just now: who has just arrived is not the one that was silent the longest.
        doors, now = int(Steer.BUS_IN | Steer.OUT), time.monotonic_ns()
        entries = [(key_of(one), _STEER.pack(doors, mac, 0, 0, 0, 0, now, 0)) for one, mac in next_hops.items()]
        self._offloads.put_many(entries)

    def joined(self, connections: Sequence[Connection]) -> None:
        self._set(connections, Steer.WIRE_IN, keep=_ALL)

    def ending(self, connection: Connection) -> None:
        self._set([connection], Steer.NO_RST, keep=_ALL)

    def ended(self, connection: Connection, *, answers: bool) -> None:
        """answers: a late segment may be answered, for there is a TIME-WAIT that does it well."""
        out = Steer.OUT if answers else Steer(0)
        # Where both streams have ended there may be no TIME-WAIT after all, and then the kernel answers with an RST.
        self._set([connection], Steer.WIRE_IN | Steer.BUS_IN | Steer.ENDED | out, keep=Steer.NO_RST)

    def update(self, connections: Iterable[Connection], next_hop: bytes) -> None:
        """A new neighbour, a 6-byte MAC, for those of them that are here."""
        for connection in connections:
            old = self._offloads.get(key_of(connection))
            if old is not None:
                doors, _, *rest = _STEER.unpack(old)
                self._offloads.put(key_of(connection), _STEER.pack(doors, next_hop, *rest))

    def seen(self, connection: Connection) -> Seen | None:
        entry = self._offloads.get(key_of(connection))
        return None if entry is None else Seen(*_STEER.unpack(entry)[2:7])

    def next_hop(self, connection: Connection) -> bytes | None:
        entry = self._offloads.get(key_of(connection))
        return None if entry is None else bytes(_STEER.unpack(entry)[1])

    def new_hops(self, take: Callable[[Connection, bytes], None]) -> kernel.RingBuffer:
        """take(connection, MAC) is called from consume(), when a frame has taught another next hop."""

        def sample(data: bytes) -> None:
            key, mac = _NEW_HOP.unpack(data)
            take(from_key(key), mac)

        return kernel.RingBuffer(self._new_hops.fd, sample)

    def counts(self) -> NicCounts:
        data = self._nic.get(_ZERO)
        assert data is not None
        return NicCounts(*_PORTS.unpack(data)[2:])


class HostSteering:
    """The server's frame path; its doors are the records' stages, which the agent sets, but for one: silence."""

    def __init__(self, team: str, buses: list[str], pins: Path, capacity: int = CAPACITY):
        """capacity: how many records there is room for. An engine that was killed has left its programs and records in
        their places, and offloaded connections live by them: the next one takes them over as they are."""
        if (pins / PINNED_LAST).exists():
            self._records = Records.pinned(pins)
            return
        loaded = kernel.BpfObject(build.path("team"), {"records": capacity})
        self._records = Records.of_object(loaded)
        hold = hold_of(team)
        os.close(open_tap(hold, keep=True))  # the agent reads it, and may come and go
        set_up(hold)
        indexes = tuple(socket.if_nametoindex(bus) for bus in buses)
        self._records.team = Team(
            virtual_nic=socket.if_nametoindex(team),
            hold=socket.if_nametoindex(hold),
            bus=indexes,  # which NICs are live, the agent says
        )
        for nic, index in enumerate(indexes):
            self._records.set_bus(index, nic)
        loaded.program("team_out").attach(team, kernel.EGRESS)
        loaded.program("host_in").attach(team, kernel.INGRESS)
        loaded.program("hold_in").attach(hold, kernel.INGRESS)
        for bus in buses:
            loaded.program("bus_in").attach(bus, kernel.INGRESS)
        self._records.pin(pins)  # last: what is pinned is in its place

    def leaving(self, connections: Sequence[Connection]) -> Sequence[bytes | None]:
        return [None] * len(connections)  # the agent has set the stage to HELD: frames queue, the host still speaks

    def left(self, connections: Sequence[Connection]) -> None:
        records = ((one, self._records.get(one)) for one in connections)
        # Where a connection has ended, meanwhile or a TIME-WAIT ago, nobody is left to be silenced.
        self._records.assign(
            [Assignment(one, r.epoch, r.nic, r.offloaded, Stage.SILENT) for one, r in records if r and r.stage]
        )

    def joining(self, next_hops: Mapping[Connection, bytes]) -> None:
        pass

    def joined(self, connections: Sequence[Connection]) -> None:
        pass

    def ending(self, connection: Connection) -> None:
        pass

    def ended(self, connection: Connection, *, answers: bool) -> None:
        pass

    def update(self, connections: Iterable[Connection], next_hop: bytes) -> None:
        pass  # the host's own neighbour table sees to it

    def next_hop(self, connection: Connection) -> bytes | None:
        return None  # the records know

    def seen(self, connection: Connection) -> Seen | None:
        return None  # the records count for the host
