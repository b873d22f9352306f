"""Hears of changed neighbours and paths, and has the engines told.

Decides: nothing; paths.py does. Never touches: records, moves.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from host_agent import rtnetlink
from host_agent.connection import Connection
from host_agent.emit import emit
from host_agent.loop import Loop
from host_agent.paths import Hops, NewHop, too_big
from host_agent.peer import EnginePeer
from host_agent.policy import HOST
from host_agent.verbs import Message, PeerGone

_SOL_RAW, _ICMP_FILTER, _ICMPV6_FILTER = 255, 1, 1  # linux/socket.h, linux/icmp.h, linux/icmpv6.h
_UNREACHABLE, _TOO_BIG = 3, 2


class PathWatch:
    """who: as its events call the agent. place_of: where a connection lives, NIC id or HOST."""

    def __init__(
        self,
        who: str,
        team: str,
        loop: Loop,
        peers: Mapping[int, EnginePeer],
        place_of: Callable[[Connection], int],
    ):
        self._who, self._peers, self._place_of = who, peers, place_of
        self._neighbours = rtnetlink.NeighbourWatch(team)
        self.hops = Hops(self._neighbours.table())
        loop.watch(self._neighbours.fd, lambda _mask: self._read_table())
        for ipv6 in (False, True):
            errors = _open(ipv6)
            loop.watch(errors.fileno(), partial(self._read_icmp, errors, ipv6))

    def heard(self, src: str, mac: bytes) -> None:
        """Frames of this peer come with this MAC, which is another one than before."""
        self._tell(self.hops.by_frame(src, mac))
        neighbour = rtnetlink.next_hop(src)
        if self.hops.doubtful(neighbour, mac):
            self._neighbours.resolve(neighbour)  # its answer is heard by _read_table

    def path_is(self, src: str, mtu: int) -> None:
        """The TCP of one connection to this peer has believed that its path takes so many bytes."""
        emit(self._who, "path", src=src, mtu=mtu)
        for place in tuple(self._peers):
            self._send(place, {"src": src, "mtu": mtu})

    def arrived(self, connection: Connection, nic: int, known: bytes) -> None:
        """Its context came to a NIC, and may be older than what was heard meanwhile."""
        mac = self.hops.changed(connection.src, known)
        if mac is not None:
            self._send(nic, {"connection": connection, "next_hop": mac.hex()})

    def _read_table(self) -> None:
        for neighbour, mac in self._neighbours.read():
            self._tell(self.hops.by_table(neighbour, mac))

    def _tell(self, news: NewHop | None) -> None:
        if news is None:
            return
        emit(self._who, "neighbour", **news.fields())
        for place in tuple(self._peers):
            if place != HOST:  # the host's own neighbour table sees to it
                self._send(place, news.fields())

    def _read_icmp(self, errors: socket.socket, ipv6: bool, _mask: int) -> None:
        with suppress(BlockingIOError):
            while True:
                found = too_big(errors.recv(2048), ipv6=ipv6)
                if found is not None:
                    about = {"connection": found.connection, "mtu": found.mtu, "seq": found.seq}
                    self._send(self._place_of(found.connection), about)

    def _send(self, place: int, fields: dict[str, Any]) -> None:
        peer = self._peers.get(place)
        if peer is not None:
            with suppress(PeerGone):  # its connections go with it
                peer.send(Message("update", fields))


def _open(ipv6: bool) -> socket.socket:
    """What routers say of packets that they cannot pass on."""
    if ipv6:
        s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        wanted = [0xFFFFFFFF & ~(1 << _TOO_BIG), *[0xFFFFFFFF] * 7]  # a set bit: not this type
        s.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("=8I", *wanted))
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        s.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << _UNREACHABLE)))
    s.setblocking(False)
    return s
