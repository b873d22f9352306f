"""What rtnetlink(7) tells of links, neighbours and routes of this network namespace.

Decides: nothing. Never touches: BPF (kernel.py), records, connections.

It reads the few messages it needs itself: a netlink library takes 0.2 s to import, once per NIC.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

_NEWLINK, _DELLINK, _NEWROUTE, _GETROUTE, _NEWNEIGH, _DELNEIGH, _GETNEIGH = 16, 17, 24, 26, 28, 29, 30
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _REPLACE, _CREATE = 0x1, 0x4, 0x300, 0x100, 0x400
_DST, _LLADDR = 1, 2  # NDA_DST, NDA_LLADDR; RTA_DST has the number of NDA_DST
_GATEWAY = 5  # RTA_GATEWAY
_USE = 0x01  # NTF_USE
_HEAD = struct.Struct("=IHHII")
_NEIGHBOUR = struct.Struct("=B3xiHBB")  # struct ndmsg: family, interface, state, flags, type
_ROUTE = struct.Struct("=8BI")  # struct rtmsg


class CarrierWatch:
    """Tells when an interface gains or loses its carrier.

    `fd` becomes readable; `read()` gives the carrier now. A lost message (ENOBUFS) does no harm:
    the state is read anew. `wire`: the inode number of this network namespace, and the interface's index in it.
    """

    _IFF_LOWER_UP = 1 << 16

    def __init__(self, interface: str):
        self._interface = interface
        self._index = socket.if_nametoindex(interface)
        self.wire = (os.stat("/proc/self/ns/net").st_ino, self._index)
        self._socket = _open(1)  # RTMGRP_LINK
        self.fd = self._socket.fileno()
        self.up = self._now()

    def _now(self) -> bool:
        try:
            return Path(f"/sys/class/net/{self._interface}/carrier").read_text().strip() == "1"
        except OSError:  # it is not up itself, or is gone
            return False

    def read(self) -> bool:
        """The newest state told, or the last one known."""
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return self.up
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.up = self._now()
                continue
            for kind, body in _messages(data):
                index, flags = struct.unpack_from("iI", body, 4)
                if kind in (_NEWLINK, _DELLINK) and index == self._index:
                    self.up = kind == _NEWLINK and bool(flags & self._IFF_LOWER_UP)


class NeighbourWatch:
    """Tells what this namespace's stack learns of an interface's neighbours, by ARP and neighbour discovery.

    `fd` becomes readable; `read()` gives addresses and their MACs. A lost message (ENOBUFS) does no harm: the table is
    read anew.
    """

    def __init__(self, interface: str):
        self._index = socket.if_nametoindex(interface)
        self._socket = _open(4)  # RTMGRP_NEIGH
        self.fd = self._socket.fileno()

    def table(self) -> list[tuple[str, bytes]]:
        """All that are known now."""
        return list(_macs(_ask(_GETNEIGH, _DUMP, _NEIGHBOUR.pack(0, 0, 0, 0, 0)), self._index))

    def read(self) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        while True:
            try:
                found += _macs(_messages(self._socket.recv(65536)), self._index)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found += self.table()

    def resolve(self, address: str) -> None:
        """Has the stack ask the network for this neighbour anew, now, whatever it believes to know."""
        family = _family(address)
        about = _attribute(_DST, socket.inet_pton(family, address))
        _ask(_DELNEIGH, _ACK, _NEIGHBOUR.pack(family, self._index, 0, 0, 0) + about)
        _ask(_NEWNEIGH, _ACK | _CREATE | _REPLACE, _NEIGHBOUR.pack(family, self._index, 0, _USE, 0) + about)


def mac_towards(interface: str, address: str) -> bytes | None:
    """The MAC that frames to an address go to; None when the stack does not know it."""
    return dict(NeighbourWatch(interface).table()).get(next_hop(address))


def next_hop(address: str) -> str:
    """The neighbour that leads to an address: a router's, or the address itself where there is none."""
    family = _family(address)
    packed = socket.inet_pton(family, address)
    route = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + _attribute(_DST, packed)
    for kind, body in _ask(_GETROUTE, 0, route):
        gateway = _attributes(body[_ROUTE.size :]).get(_GATEWAY) if kind == _NEWROUTE else None
        if gateway is not None:
            return socket.inet_ntop(family, gateway)
    return address


def _macs(messages: Iterable[tuple[int, bytes]], interface: int) -> Iterator[tuple[str, bytes]]:
    for kind, body in messages:
        if kind != _NEWNEIGH:
            continue
        family, index, *_ = _NEIGHBOUR.unpack_from(body)
        about = _attributes(body[_NEIGHBOUR.size :])
        mac = about.get(_LLADDR, b"")
        if index == interface and _DST in about and len(mac) == 6 and not mac[0] & 1:  # 1: of a group
            yield socket.inet_ntop(family, about[_DST]), mac


def _open(groups: int) -> socket.socket:
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    s.bind((0, groups))
    return s


def _ask(kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """One request and all that is answered; an error is an answer without messages."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        s.settimeout(1.0)  # the kernel answers in the call
        s.send(_HEAD.pack(_HEAD.size + len(body), kind, _REQUEST | flags, 1, 0) + body)
        found: list[tuple[int, bytes]] = []
        while True:
            some = list(_messages(s.recv(1 << 16)))
            found += some
            if flags & _DUMP != _DUMP or any(one in (_DONE, _ERROR) for one, _ in some):
                return iter(found)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each message of a packet."""
    offset = 0
    while offset + _HEAD.size <= len(data):
        length, kind, *_ = _HEAD.unpack_from(data, offset)
        if length < _HEAD.size:
            return
        yield kind, data[offset + _HEAD.size : offset + length]
        offset += (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found, offset = {}, 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
